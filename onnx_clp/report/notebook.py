"""The report in a notebook: a short fragment of HTML, and channels as a table of pandas."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from typing import Any, Final

from onnx_clp.document.run import Judgement, LayerReport, Report, Verdict
from onnx_clp.errors import UsageError
from onnx_clp.report import advice, inverting, wording
from onnx_clp.text import one_line

_HUES: Final = {Verdict.SUSPICIOUS: "#c62a2f", Verdict.NOTHING_FOUND: "inherit"}
_UNSURE: Final = "#a86400"


def fragment(report: Report) -> str:
    """A few lines of HTML with styles of their own, for light and dark pages; nothing in it runs or is fetched."""
    hue = _HUES.get(report.summary.verdict, _UNSURE)
    lines = [
        f'<p><b style="color:{hue}">{escape(report.summary.verdict.value)}</b>'
        f"{_text(wording.headline(report).removeprefix(report.summary.verdict.value))}</p>",
        *_pictures(report),
        *(f"<p>{_text(step.sentence)}{_code(step.command)}</p>" for step in advice.steps(report)),
    ]
    return f"<div>{''.join(lines)}</div>"


def frame(report: Report) -> Any:
    """A pandas.DataFrame: layer, place, normalisation, channel, score, z, threshold, stands_out, kept.

    Raises:
        UsageError: pandas is not installed.
    """
    if find_spec("pandas") is None:
        raise UsageError("to_frame needs pandas: pip install pandas, or read to_dict()")
    import pandas

    return pandas.DataFrame(list(rows(report)), columns=list(COLUMNS))


COLUMNS: Final = (
    "layer",
    "place",
    "normalisation",
    "channel",
    "score",
    "upper_bound",
    "z",
    "threshold",
    "stands_out",
    "kept",
)


def rows(report: Report) -> Iterator[tuple[Any, ...]]:
    """One row, as in `COLUMNS`, for every channel that was scored, in graph order."""
    for layer in report.layers:
        for judgement in layer.judgements:
            yield from _channels(layer, judgement)


def _channels(layer: LayerReport, judgement: Judgement) -> Iterator[tuple[Any, ...]]:
    out = {channel.channel: channel for channel in judgement.pruned}
    for at, (score, bound) in enumerate(zip(judgement.scores, judgement.upper_bounds, strict=True), judgement.first):
        z = (score - judgement.centre) / judgement.spread if judgement.spread > 0 else 0.0
        found = out.get(at)
        known = z if found is None else found.z
        yield (
            *(layer.name, layer.place, judgement.normalisation, at, score, bound, known, judgement.threshold),
            *(found is not None, found is not None and found.kept),
        )


def _pictures(report: Report) -> Iterator[str]:
    views = inverting.views(report)
    if views:
        style = "width:8rem;image-rendering:pixelated;display:block"
        figures = (
            f'<figure style="margin:0"><img style="{style}" alt="{escape(label)}" src="{picture}">'
            f"<figcaption>{escape(label)}</figcaption></figure>"
            for label, picture in views
        )
        yield f'<div style="display:flex;flex-wrap:wrap;gap:1rem">{"".join(figures)}</div>'


def _text(text: str) -> str:
    return escape(one_line(text))


def _code(command: str) -> str:
    return f":<br><code>{escape(command)}</code>" if command else ""
