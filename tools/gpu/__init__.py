"""The proof on a GPU behind `docs/gpu.md`."""
