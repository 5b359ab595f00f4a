"""The parts of `tools/bench/runs.py`."""
