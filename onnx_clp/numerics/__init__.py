"""Arithmetic on arrays: NumPy and SciPy only, nothing of ONNX."""
