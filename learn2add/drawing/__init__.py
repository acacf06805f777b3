"""What people draw themselves: photographs of digits."""
