"""Questions about the graphs of a model, and the one place that edits them."""
