"""One run from a file to a file, step by step."""
