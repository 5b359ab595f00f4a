"""Many models: one process each, a journal to resume from, and a summary over all of them."""
