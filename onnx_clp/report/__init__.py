"""The report: one typed document, and the views made of it."""
