"""The tables of `docs/edge.md`."""
