"""The table of the input and the result side by side: from what was counted to what every view shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from onnx_clp.document.run import Change
from onnx_clp.report.wording import size
from onnx_clp.text import shown

Row = tuple[str, str, str, str]
"""What, before, after, and how much that changed."""

UNKNOWN = "not known"


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
