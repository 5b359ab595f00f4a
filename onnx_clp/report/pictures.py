"""Pictures of the HTML report: matplotlib drawings as inline SVG that takes its colours from the page.

A picture holds no text from the model, no identifiers and no style sheet, so that hundreds fit on one page
without touching each other.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from onnx_clp.document.run import EvaluationReport, Judgement, Sweep
from onnx_clp.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Curve = tuple[str, str, list[float]]
"""A label, a colour and a value a threshold; NaN where there is none."""

LineStyle = str | tuple[int, tuple[int, ...]]

# Colours no drawing needs otherwise; each is replaced by a custom property of the page.
INK, FAINT, BARS, MEAN, LIMIT, HIT, BEFORE, AFTER = (f"#0101{n:02x}" for n in range(8))
_PROPERTIES = {
    INK: "--ink",
    FAINT: "--faint",
    BARS: "--bars",
    MEAN: "--mean",
    LIMIT: "--limit",
    HIT: "--hit",
    BEFORE: "--before",
    AFTER: "--after",
}
_MOST_BINS = 48
_MOST_MARKS = 40
_MOST_LABELS = 3
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.formatter.useoffset": False,
}


def of_scores(judgement: Judgement) -> str:
    """An SVG histogram of channel scores, with the mean (or median), the limits and the channels that stood out.

    Empty where no score is finite.
    """
    scores = [score for score in judgement.scores if math.isfinite(score)]
    if not scores:
        return ""
    with _axes(7.8, 1.15, (0.05, 0.19, 0.94, 0.79)) as (figure, axes):
        top = _histogram(axes, scores)
        _line(axes, judgement.centre, top, MEAN, (0, (4, 3)))
        if judgement.std > 0:
            for limit in (judgement.threshold, judgement.lower):
                _line(axes, math.nan if limit is None else limit, top, LIMIT, "solid")
        _mark(axes, judgement, top)
        axes.set_xlim(*_range(judgement))
        axes.set_ylim(0, top * 1.1)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        return _svg(figure, f"Scores of {judgement.n} channels, {len(judgement.pruned)} beyond the threshold")


def of_rates(evaluation: EvaluationReport) -> str:
    """An SVG bar chart before and after: accuracy, and with triggered images attack success and robust accuracy."""
    names = (("acc", "accuracy (ACC)"), ("asr", "attack success (ASR)"), ("ra", "robust accuracy (RA)"))
    shown = names if evaluation.triggered_images else names[:1]
    with _axes(5.6, 0.4 + 0.5 * len(shown), (0.24, 0.11, 0.72, 0.87)) as (figure, axes):
        for row, (name, _) in enumerate(shown):
            for offset, color, rates in ((-0.19, BEFORE, evaluation.before), (0.19, AFTER, evaluation.after)):
                share = getattr(rates, name)
                known = share is not None and math.isfinite(share)
                length = 100 * share if known else 0.0
                axes.barh(row + offset, length, height=0.34, color=color, clip_on=False)
                axes.text(length + 1.5, row + offset, percent(share), va="center", ha="left")
        axes.set_yticks(range(len(shown)), [label for _, label in shown])
        axes.set_xlim(0, 112)
        axes.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.invert_yaxis()
        return _svg(figure, "Accuracy, attack success rate and robust accuracy before and after")


def of_sweep(sweep: Sweep, u: float) -> list[str]:
    """SVG curves over the thresholds: pruned channels, and where they were measured ACC, ASR and RA.

    The knee has a solid line, the run's own `u` a dashed one.
    """
    us = [point.u for point in sweep.points]
    counts: _Curve = ("pruned", AFTER, [float(point.channels) for point in sweep.points])
    rates = [_rate_curve(sweep, name, color) for name, color in (("acc", MEAN), ("asr", HIT), ("ra", AFTER))]
    rates = [curve for curve in rates if any(math.isfinite(y) for y in curve[2])]
    pictures = [_curves(us, [counts], "channels pruned", sweep.knee, u)]
    if rates:
        pictures.append(_curves(us, rates, "%", sweep.knee, u))
    return pictures


def _rate_curve(sweep: Sweep, name: str, color: str) -> _Curve:
    shares = [getattr(point.rates, name, None) for point in sweep.points]
    return name.upper(), color, [math.nan if share is None else 100 * share for share in shares]


def _curves(us: list[float], curves: list[_Curve], unit: str, knee: float | None, u: float) -> str:
    room = 0.04 * (us[-1] - us[0]) or 0.5
    with _axes(5.6, 2.2, (0.09, 0.16, 0.82, 0.74)) as (figure, axes):
        axes.set_xlim(us[0] - room, us[-1] + room)
        top = 100.0 if unit == "%" else max([1.0, *curves[0][2]])
        for _, color, ys in curves:
            axes.plot(us, ys, color=color, linewidth=1.4, clip_on=False)
        for (label, color, _), y in zip(curves, _label_heights(curves, 0.09 * top), strict=True):
            axes.text(us[-1] + room / 2, y, label, color=color, va="center")
        for x, color, style in ((u, LIMIT, (0, (4, 3))), (knee, HIT, "solid")):
            if x is not None and us[0] <= x <= us[-1]:
                _line(axes, x, top, color, style)
        axes.set_ylim(0, top * 1.1)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("threshold u")
        axes.set_title(unit, loc="left", fontsize=8)
        return _svg(figure, f"{unit} over {len(us)} thresholds u")


def _label_heights(curves: list[_Curve], apart: float) -> list[float]:
    """Where each curve's label goes: at its last known value, moved down where it would touch the one above."""
    ends = [[y for y in ys if math.isfinite(y)][-1] for _, _, ys in curves]
    last = math.inf
    for place in sorted(range(len(ends)), key=lambda at: -ends[at]):
        last = ends[place] = min(ends[place], last - apart)
    return ends


@contextlib.contextmanager
def _axes(width: float, height: float, place: tuple[float, float, float, float]) -> Iterator[tuple[Figure, Axes]]:
    """A drawing of that size in inches; `place` is left, bottom, width and height as shares of it."""
    # The library logs about its own font cache; that is no news of this tool's.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            figure = Figure(figsize=(width, height))
            FigureCanvasSVG(figure)
            figure.patch.set_visible(False)
            axes = figure.add_axes(place)
            axes.patch.set_visible(False)
            yield figure, axes
    finally:
        logger.setLevel(level)


def _histogram(axes: Axes, scores: list[float]) -> int:
    low, high = min(scores), max(scores)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    bins = min(_MOST_BINS, max(8, round(3 * math.sqrt(len(scores)))))
    step = (high - low) / bins
    counts = [0] * bins
    for score in scores:
        counts[min(int((score - low) / step), bins - 1)] += 1
    edges = [low + step * place for place in range(bins + 1)]
    axes.stairs(counts, edges, fill=True, color=BARS, clip_on=False)
    return max(counts)


def _line(axes: Axes, x: float, top: float, color: str, style: LineStyle) -> None:
    if math.isfinite(x):
        axes.plot([x, x], [0, top * 1.08], color=color, linewidth=1.3, linestyle=style, clip_on=False)


def _mark(axes: Axes, judgement: Judgement, top: float) -> None:
    hits = sorted(judgement.pruned, key=lambda channel: channel.rank)[:_MOST_MARKS]
    hits = [channel for channel in hits if math.isfinite(channel.score)]
    for channel in hits:
        axes.plot([channel.score] * 2, [0, top * 0.3], color=HIT, linewidth=1.6, clip_on=False)
    last = math.inf
    low, high = _range(judgement)
    for channel in hits[:_MOST_LABELS]:
        if last - channel.score > 0.07 * (high - low):
            axes.text(channel.score, top * 0.36, f"#{channel.channel}", color=HIT, ha="center", va="bottom")
            last = channel.score


def _range(judgement: Judgement) -> tuple[float, float]:
    limits = (judgement.centre, judgement.threshold, math.nan if judgement.lower is None else judgement.lower)
    ends = [x for x in (*judgement.scores, *limits) if math.isfinite(x)]
    room = 0.02 * (max(ends) - min(ends)) or 0.5
    return min(ends) - room, max(ends) + room


def _svg(figure: Figure, label: str) -> str:
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>.*?</defs>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:id|clip-path|xmlns(?::xlink)?|version)="[^"]*"', "", text)
    text = re.sub(r"</?g/?>|font-family: [^;\"]*; ?|; font-family: [^;\"]*", "", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", text)
    for color, name in _PROPERTIES.items():
        text = text.replace(color, f"var({name})")
    text = re.sub(r"\s*\n\s*", "\n", text)
    return re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg role="img" aria-label="{label}"', text, count=1).strip()
