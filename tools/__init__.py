"""For maintainers, run from a checkout: none of this is in the wheel."""
