"""Linear layers: found, read, rewritten."""
