"""`python -m onnx_clp`: the command line, safe to start in a folder of untrusted files."""

import sys

# `python -m` puts the current folder first: an onnx.py lying there would be run instead of the library.
if not sys.flags.safe_path:
    del sys.path[0]

from onnx_clp.cli.main import console

if __name__ == "__main__":
    console()
