"""What taking channels out of the file came to, in words."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.run import Report
from onnx_clp.report.wording import plural
from onnx_clp.text import shown


def rows(report: Report, most: int | None) -> Iterator[str]:
    """One line on the whole, then one for each layer and reason that channels stayed for, at most `most` of these."""
    found = report.compaction
    if found is None:
        return
    do = "does" if found.kept == 1 else "do"
    yield f"{plural(found.removed, 'channel')} taken out, {found.kept:,} that {do} nothing stayed"
    stayed = [(layer, kept) for layer in found.layers for kept in layer.kept]
    for layer, kept in stayed[:most]:
        yield f"{shown(layer.name, 30)}: {plural(len(kept.channels), 'channel')} stayed: {kept.sentence}"
    if most is not None and len(stayed) > most:
        yield f"... and {len(stayed) - most:,} more (-v lists them)"
