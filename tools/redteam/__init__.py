"""Backdoors written into clean ONNX models by hand, to measure defences on one's own models (docs/redteam.md)."""
