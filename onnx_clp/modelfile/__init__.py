"""A model file as a whole: read, staged, written."""
