"""The first thing a model's own process does: tie itself to the batch, then be the command line."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from onnx_clp.process.interpreter import die_with

_EXPENDABLE = "600"


def main(parent: int, words: Sequence[str]) -> NoReturn:
    """Run the command line `words`; the death of the thread of `parent` that started this one ends it."""
    die_with(parent, signal.SIGTERM)
    # Where memory runs out, the kernel should take this process and not the batch.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_EXPENDABLE, encoding="ascii")
    sys.argv = ["onnx-clp", *words]
    from onnx_clp.cli.main import console

    console()
