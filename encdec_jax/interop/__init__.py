"""Models of other libraries: their files, and their parameters as this one's."""
