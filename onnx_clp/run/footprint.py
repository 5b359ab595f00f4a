"""What the input and the result take, side by side: nodes, numbers, bytes, multiply-accumulates, time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_clp.document.run import Change, Footprint
from onnx_clp.modelfile.census import take
from onnx_clp.modelfile.reader import ModelFile

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.modelfile.staged import Staged
    from onnx_clp.validation import Outcome


def compare(file: ModelFile, written: ModelProto | None, staged: Staged | None, outcome: Outcome | None) -> Change:
    """The document's part; `written` is None when the result is the input as it came."""
    work = None if outcome is None else outcome.workload
    first, last = take(file.model), take(file.model if written is None else written)
    size_after = None if staged is None else staged.size
    if work is None:
        before = Footprint(first.nodes, first.parameters, file.size, None, None)
        return Change(before, Footprint(last.nodes, last.parameters, size_after, None, None), {}, 0, None)
    return Change(
        before=Footprint(first.nodes, first.parameters, file.size, work.macs_before, work.seconds_before),
        after=Footprint(last.nodes, last.parameters, size_after, work.macs_after, work.seconds_after),
        shapes=work.shapes,
        turns=work.turns,
        latency_ratio=work.ratio,
    )
