"""Reverse-mode differentiation of an ONNX graph into standard ONNX operators; `passes.differentiate` is its door."""
