"""One run of `onnx_clp` as in the paper on one file."""

from __future__ import annotations

from pathlib import Path

import onnx_clp


def after_pruning(path: Path, u: float = 3.0) -> tuple[int, bytes]:
    """How many channels were pruned, and the cleaned model, serialised."""
    done = onnx_clp.clean(path, onnx_clp.CleanConfig(u=u, fill="zero", validate=False))
    return done.report.summary.channels_pruned, done.model.SerializeToString()
