"""The students' side: what the notebooks of the course show and ask. It imports the core."""
