"""The table of layers in plain text: a row a layer, and the channels that stand out below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnx_clp.document.run import Judgement, LayerReport, PrunedChannel, Report
from onnx_clp.report import ruling
from onnx_clp.report.lines import Line, Style, wrapped
from onnx_clp.report.naming import fitted
from onnx_clp.report.wording import number, plural
from onnx_clp.text import shown
from onnx_clp.verdicts import LayerStatus

MOST_CHANNELS: Final = 8
MOST_NORMALISATIONS: Final = 4


def table(report: Report, style: Style) -> Iterator[Line]:
    """Every linear layer with its figures, and the channels that stand out below it."""
    if not report.layers:
        yield [("", "This model has no Conv, ConvTranspose, Gemm or MatMul with constant weights.")]
    else:
        numbers = " ".join(f"{title:>8}" for title in (*ruling.titles(report), "limit"))
        yield [("bold", f"{'layer':<{style.name}}{'chans':>6}  {'folded':<7}{numbers} {'pruned':>7}")]
    names = fitted([layer.name for layer in report.layers], style.name - 1)
    for layer, name in zip(report.layers, names, strict=True):
        yield from _layer(layer, name, style)
    yield []


def _layer(layer: LayerReport, name: str, style: Style) -> Iterator[Line]:
    folded = "yes" if layer.folded else "no" if layer.not_folded else "none"
    start = f"{name:<{style.name}}{layer.channels:>6}  {folded:<7}"
    if layer.status is not LayerStatus.JUDGED or not layer.judgements:
        yield [("", start), ("yellow", f" {layer.status.value}")]
    else:
        yield from _judged(start, layer, style)
    if layer.not_folded:
        yield from wrapped(f"not folded: {layer.not_folded}", style)
    if layer.reason and style.verbose:
        yield from wrapped(layer.reason, style)


def _judged(start: str, layer: LayerReport, style: Style) -> Iterator[Line]:
    judgements = sorted(layer.judgements, key=lambda j: not j.pruned)
    if not style.verbose:
        judgements = judgements[:MOST_NORMALISATIONS]
    for place, judgement in enumerate(judgements):
        if place:
            via = shown(f"  via {judgement.normalisation}", style.name - 1)
            start = f"{via:<{style.name}}{'':>6}  {'':<7}"
        yield [("", start + _statistics(judgement)), ("red" if judgement.pruned else "", _count(judgement))]
        yield from _channels(judgement, style)
    left = len(layer.judgements) - len(judgements)
    if left:
        yield [("dim", f"    ... and {plural(left, 'more normalisation')} (-v lists them)")]


def _statistics(judgement: Judgement) -> str:
    return " ".join(f"{number(x):>8}" for x in (judgement.centre, judgement.spread, judgement.threshold))


def _count(judgement: Judgement) -> str:
    return f" {len(judgement.pruned):>7}"


def _channels(judgement: Judgement, style: Style) -> Iterator[Line]:
    pruned = sorted(judgement.pruned, key=lambda channel: channel.rank)
    listed = pruned if style.verbose else pruned[:MOST_CHANNELS]
    for channel in listed:
        yield [
            ("red", f"    channel {channel.channel:<6}"),
            ("", f" score {number(channel.score):<9} z {channel.z:<7.2f}"),
            ("dim", f" upper bound {number(channel.upper_bound)}{_stays(channel)}"),
        ]
    if len(listed) < len(pruned):
        yield [("dim", f"    ... and {len(pruned) - len(listed):,} more (-v lists them)")]


def _stays(channel: PrunedChannel) -> str:
    return "  kept" if channel.kept else ""
