"""The site: the notebooks to read, the other texts, the page to draw on, and the package's API."""
