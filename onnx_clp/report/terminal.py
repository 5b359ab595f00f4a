"""The report as plain text: reads at 80 columns and in a pipe; no boxes, no markup, ASCII but for names."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from onnx_clp.document.run import (
    Caps,
    Change,
    EvaluationReport,
    FileFacts,
    Judgement,
    LayerReport,
    PrunedChannel,
    Report,
    Verdict,
)
from onnx_clp.report import auditing, compacting, engines, gauging, inverting, ruling, sizing, sweeping
from onnx_clp.report.wording import (
    cleaned_up,
    cleaning_proof,
    headline,
    next_step,
    number,
    percent,
    plural,
    size,
)
from onnx_clp.text import one_line, shown
from onnx_clp.verdicts import LayerStatus

Span = tuple[str, str]
Line = list[Span]

MOST_CHANNELS = 8
MOST_NORMALISATIONS = 4
MOST_ROWS = 8
_ANSI = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "cyan": "36"}
_NUMBERS = 6 + 3 * 9 + 7
_LABEL = 12


@dataclass(frozen=True, slots=True)
class _Style:
    width: int
    verbose: bool

    @property
    def name(self) -> int:
        """Columns left for a layer's name."""
        return self.width - _NUMBERS - 9


def render(report: Report, *, width: int = 80, verbose: bool = False, color: bool = False) -> str:
    """The whole text, ending in a newline; `verbose` lists every channel, layer and affine.

    No line is longer than `width` (at least 80) columns, except a last line that quotes a command.
    """
    style = _Style(max(width, 80), verbose)
    lines = [*_heading(report, style), *_layers(report, style), *_summary(report, style)]
    return "".join(_text(line, color) + "\n" for line in lines)


def _text(line: Line, color: bool) -> str:
    if not color:
        return "".join(text for _, text in line).rstrip()
    return "".join(f"\x1b[{_ANSI[style]}m{text}\x1b[0m" if style else text for style, text in line)


def _heading(report: Report, style: _Style) -> Iterator[Line]:
    model = report.model
    if report.input is not None:
        facts = f"  {size(report.input.bytes)}, sha256 {report.input.sha256[:12]}"
        yield [("bold", shown(report.input.path, style.width - len(facts))), ("dim", facts)]
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in model.opsets.items())
    made = f"made by {shown(model.producer, 30)}, " if model.producer else ""
    text = f"{made}IR {model.ir_version}, opset {shown(opsets, 40)}, {model.parameters:,} parameters"
    yield [("dim", shown(text, style.width))]
    yield []


def _layers(report: Report, style: _Style) -> Iterator[Line]:
    if not report.layers:
        yield [("", "This model has no Conv, ConvTranspose, Gemm or MatMul with constant weights.")]
    else:
        numbers = " ".join(f"{title:>8}" for title in (*ruling.titles(report), "limit"))
        yield [("bold", f"{'layer':<{style.name}}{'chans':>6}  {'folded':<7}{numbers} {'pruned':>7}")]
    for layer in report.layers:
        yield from _layer(layer, style)
    yield []


def _layer(layer: LayerReport, style: _Style) -> Iterator[Line]:
    name = shown(layer.name, style.name - 1)
    folded = "yes" if layer.folded else "no" if layer.not_folded else "none"
    start = f"{name:<{style.name}}{layer.channels:>6}  {folded:<7}"
    if layer.status is not LayerStatus.JUDGED or not layer.judgements:
        yield [("", start), ("yellow", f" {layer.status.value}")]
    else:
        yield from _judged(start, layer, style)
    if layer.not_folded:
        yield from _wrapped(f"not folded: {layer.not_folded}", style)
    if layer.reason and style.verbose:
        yield from _wrapped(layer.reason, style)


def _judged(start: str, layer: LayerReport, style: _Style) -> Iterator[Line]:
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


def _channels(judgement: Judgement, style: _Style) -> Iterator[Line]:
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


def _summary(report: Report, style: _Style) -> Iterator[Line]:
    hue = "" if report.summary.verdict is Verdict.NOTHING_STOOD_OUT else "yellow"
    hue = "red" if report.summary.verdict is Verdict.STOOD_OUT else hue
    for part in _parts(headline(report), style.width):
        yield [(hue or "bold", part)]
    yield from _row("rule", f"a channel stands out above {ruling.limit(report)}", style)
    yield from _row("channels", _counts(report), style)
    yield from _row("folded", _folded(report), style)
    if report.caps is not None:
        yield from _row("capped", _capped(report.caps), style)
    for place, text in enumerate(compacting.rows(report, None if style.verbose else MOST_ROWS)):
        yield from _row("" if place else "compacted", text, style)
    if report.cleanup is not None and (report.cleanup.found or report.cleanup.level == "all"):
        yield from _row("cleaned up", cleaned_up(report.cleanup), style)
    if report.change is not None:
        yield from _change(report.change, style)
    for place, text in enumerate(auditing.rows(report)):
        yield from _row("" if place else "audit", text, style)
    for place, text in enumerate(inverting.rows(report)):
        yield from _row("" if place else "triggers", text, style)
    yield from _validation(report, style)
    if report.evaluation is not None:
        yield from _evaluation(report.evaluation, style)
    yield from _table("providers", engines.table(report), style)
    yield from _table("sweep", sweeping.table(report), style)
    yield from _files(report.input, report.output, style)
    yield from _row("time", _cost(report), style)
    yield from _left_and_found(report, style)
    yield []
    yield [("bold", "next: "), ("", next_step(report))]


def _capped(caps: Caps) -> str:
    measured = [value.source for value in caps.values if value.source.startswith("calibration")]
    text = f"{plural(caps.capped - len(measured), 'normalised value')} at beta + {caps.times:g}·|gamma|"
    if measured:
        text += f", {plural(len(measured), 'other')} at mean + {caps.times:g}·std by {measured[0]}"
    if caps.left:
        first = caps.left[0]
        text += f"; {len(caps.left):,} without a cap, such as {shown(first.name, 40)}: {one_line(first.sentence)}"
    return text


def _counts(report: Report) -> str:
    summary = report.summary
    off = summary.channels_pruned - summary.channels_kept
    done = f"{summary.channels_pruned:,} stand out"
    if report.options.get("prune") is not False:
        kept = f" / {summary.channels_kept:,} kept" if summary.channels_kept else ""
        done = f"{off:,} pruned{kept}"
    return (
        f"{done} / {summary.channels_judged:,} judged / "
        f"{summary.channels_too_small:,} too small to judge / {summary.channels_not_judged:,} not judged"
    )


def _folded(report: Report) -> str:
    nodes = f"nodes {report.model.nodes_before:,} > {report.model.nodes_after:,}"
    return (
        f"{plural(report.summary.affines_folded, 'normalisation')} folded, "
        f"{report.summary.affines_left:,} left in place; {nodes}"
    )


def _change(change: Change, style: _Style) -> Iterator[Line]:
    """The input and the result side by side."""
    for place, (what, before, after, ratio) in enumerate(sizing.rows(change)):
        row = f"{what:<12}{before:>16} >{after:>16}  {ratio}"
        yield [("dim", f"  {'' if place else 'size':<{_LABEL}}"), ("", row)]
    note = sizing.footnote(change)
    if note:
        yield from _row("", note, style)


def _validation(report: Report, style: _Style) -> Iterator[Line]:
    proof = report.validation
    where = f" on {proof.provider_used} (asked for: {proof.provider_asked})" if proof.provider_used else ""
    yield from _row("validation", proof.outcome + where, style)
    if proof.note:
        yield from _row("", proof.note, style)
    if style.verbose and proof.engine is not None:
        yield from _row("", engines.described(report), style)
    if proof.fold_error is not None:
        allowed = "" if proof.tolerance is None else f" (allowed: {number(proof.tolerance)})"
        yield from _row("fold error", number(proof.fold_error) + allowed, style)
    if proof.compaction_error is not None:
        yield from _row("", f"{number(proof.compaction_error)} of taking channels out", style)
    if proof.cleanup_error is not None:
        yield from _row("", cleaning_proof(proof), style)
    if proof.discrete_agreement is not None:
        yield from _row("", f"{percent(proof.discrete_agreement)} of discrete outputs equal", style)
    for place, text in enumerate(gauging.rows(report)):
        yield from _row("" if place else "loss", text, style)


def _evaluation(evaluation: EvaluationReport, style: _Style) -> Iterator[Line]:
    images = f"{evaluation.clean_images:,} clean and {evaluation.triggered_images:,} triggered images"
    yield from _row("evaluation", f"{shown(evaluation.data, 30)}, {images}", style)
    for name in ("acc", "asr", "ra"):
        before, after = getattr(evaluation.before, name), getattr(evaluation.after, name)
        yield from _row("", f"{name.upper():<4}{percent(before):>8} > {percent(after):>8}", style)


def _table(label: str, rows: Iterator[str], style: _Style) -> Iterator[Line]:
    for place, row in enumerate(rows):
        if len(row) <= style.width - _LABEL - 2:
            yield [("dim", f"  {'' if place else label:<{_LABEL}}"), ("", row)]
        else:
            yield from _row("", row, style)


def _files(before: FileFacts | None, after: FileFacts | None, style: _Style) -> Iterator[Line]:
    if after is None:
        yield from _row("output", "no model was written", style)
        return
    facts = f", {size(after.bytes)}, sha256 {after.sha256[:12]}"
    if before is not None:
        facts = f", {size(before.bytes)} > {size(after.bytes)}, sha256 {after.sha256[:12]}"
        if before.sha256 == after.sha256:
            facts = f", {size(after.bytes)}, a copy of the input"
    room = max(style.width - _LABEL - 6 - len(facts), 20)
    yield from _row("output", shown(after.path, room) + facts, style)


def _cost(report: Report) -> str:
    stages = ", ".join(f"{shown(stage, 16)} {seconds:.1f}" for stage, seconds in report.seconds.items())
    memory = "" if report.peak_memory is None else f"; peak memory {size(report.peak_memory)}"
    return f"{sum(report.seconds.values()):.1f} s" + (f" ({stages})" if stages else "") + memory


def _left_and_found(report: Report, style: _Style) -> Iterator[Line]:
    most = None if style.verbose else MOST_ROWS
    for place, left in enumerate(report.affines_left[:most]):
        text = f"{shown(left.name, 30)} ({shown(left.op, 20)}): {left.sentence}"
        yield from _row("" if place else "left alone", text, style)
    yield from _more(len(report.affines_left), most)
    for place, finding in enumerate(report.findings[:most]):
        where = f" at {shown(finding.where, 30)}" if finding.where else ""
        text = f"{shown(finding.kind, 40)}{where}: {finding.sentence}"
        yield from _row("" if place else "findings", text, style, "yellow")
    yield from _more(len(report.findings), most)


def _more(count: int, most: int | None) -> Iterator[Line]:
    if most is not None and count > most:
        yield [("dim", f"{'':>{_LABEL + 2}}... and {count - most:,} more (-v lists them)")]


def _row(label: str, text: str, style: _Style, hue: str = "") -> Iterator[Line]:
    room = style.width - _LABEL - 2
    for place, part in enumerate(_parts(text, room) or [""]):
        yield [("dim", f"  {'' if place else label:<{_LABEL}}"), (hue, part)]


def _wrapped(text: str, style: _Style) -> Iterator[Line]:
    for part in _parts(text, style.width - 4):
        yield [("dim", f"    {part}")]


def _parts(text: str, room: int) -> list[str]:
    parts = textwrap.wrap(one_line(text), room - 3)
    # Wrapping may bring a continuous-integration command to the front of a line.
    return [rf"\x3a{part[1:]}" if part.startswith("::") else part for part in parts]
