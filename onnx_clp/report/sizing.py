"""The table of the input and the result side by side: from what was counted to what every view shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from onnx_clp.document.run import Change, Footprint
from onnx_clp.report.wording import size
from onnx_clp.text import shown

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.modelfile.staging import Staged
    from onnx_clp.validation import Outcome

Row = tuple[str, str, str, str]
"""What, before, after, and how much that changed."""

UNKNOWN = "not known"


def compare(file: ModelFile, written: ModelProto | None, staged: Staged | None, outcome: Outcome | None) -> Change:
    """The document's part; `written` is None when the result is the input as it came."""
    from onnx_clp.modelfile.census import take

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


def rows(change: Change) -> Iterator[Row]:
    """One row per figure; the time only where it was measured."""
    before, after = change.before, change.after
    yield _row("nodes", before.nodes, after.nodes, "{:,}".format)
    yield _row("parameters", before.parameters, after.parameters, "{:,}".format)
    yield _row("file", before.bytes, after.bytes, size)
    yield _row("MACs", before.macs, after.macs, large)
    if before.latency is not None:
        yield *_row("CPU latency", before.latency, after.latency, milliseconds)[:3], _ratio(change.latency_ratio)


def _row(what: str, before: Any, after: Any, spell: Callable[[Any], str]) -> Row:
    words = [UNKNOWN if value is None else spell(value) for value in (before, after)]
    ratio = None if before is None or after is None else after / (before or 1)
    return what, words[0], words[1], "same" if before == after and ratio is not None else _ratio(ratio)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"x {value:.3f}"


def large(count: int) -> str:
    """A count with a decimal prefix: "912", "1.82 G"."""
    value = float(count)
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000 or prefix == "T":
            break
        value /= 1000
    return f"{count:,}" if prefix == "" else f"{value:.2f} {prefix}"


def milliseconds(seconds: float) -> str:
    """Seconds as "1.82 ms"."""
    return f"{1000 * seconds:.3g} ms"


def footnote(change: Change) -> str:
    """What the costs are of; empty where none is known."""
    if not change.shapes or (change.before.macs is None and change.before.latency is None):
        return ""
    shapes = ", ".join(f"{shown(name, 30)} {'x'.join(map(str, shape))}" for name, shape in change.shapes.items())
    times = f"; times and their ratio are medians of {change.turns:,} turns" if change.turns else ""
    return f"one run on {shapes}{times}"
