"""A web page on which to draw a digit and see sums drawn; one file that needs no server."""
