"""The report as plain text: reads at 80 columns and in a pipe; no boxes, no markup, ASCII but for names."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.assessment import TRIGGER, weight
from onnx_clp.document.run import (
    Caps,
    Change,
    EvaluationReport,
    FileFacts,
    Report,
    Verdict,
)
from onnx_clp.report import (
    auditing,
    compacting,
    deciding,
    engines,
    gauging,
    inverting,
    layering,
    patching,
    ruling,
    sizing,
    sweeping,
)
from onnx_clp.report.advice import steps
from onnx_clp.report.lines import LABEL, Line, Style, parts, printed, row, rows
from onnx_clp.report.wording import (
    cleaned_up,
    cleaning_proof,
    headline,
    number,
    percent,
    plural,
    size,
)
from onnx_clp.text import one_line, shown

MOST_ROWS = 8


def render(report: Report, *, width: int = 80, verbose: bool = False, color: bool = False) -> str:
    """The whole text, ending in a newline; `verbose` lists every channel, layer and affine.

    No line is longer than `width` (at least 80) columns, except a shell line of what to do next.
    """
    style = Style(max(width, 80), verbose)
    lines = [*_heading(report, style), *layering.table(report, style), *_summary(report, style)]
    return "".join(printed(line, color) + "\n" for line in lines)


def _heading(report: Report, style: Style) -> Iterator[Line]:
    model = report.model
    if report.input is not None:
        facts = f"  {size(report.input.bytes)}, sha256 {report.input.sha256[:12]}"
        yield [("bold", shown(report.input.path, style.width - len(facts))), ("dim", facts)]
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in model.opsets.items())
    made = f"made by {shown(model.producer, 30)}, " if model.producer else ""
    text = f"{made}IR {model.ir_version}, opset {shown(opsets, 40)}, {model.parameters:,} parameters"
    yield [("dim", shown(text, style.width))]
    yield []


def _summary(report: Report, style: Style) -> Iterator[Line]:
    hue = {Verdict.SUSPICIOUS: "red", Verdict.NOTHING_FOUND: ""}.get(report.summary.verdict, "yellow")
    for part in parts(headline(report), style.width):
        yield [(hue or "bold", part)]
    yield from _evidence(report, style)
    yield from rows("decided", deciding.rows(report), style)
    yield from rows("audit", auditing.rows(report), style)
    yield from rows("patches", patching.rows(report), style)
    yield from rows("triggers", inverting.rows(report), style)
    if report.evaluation is not None:
        yield from _evaluation(report.evaluation, style)
    yield from row("rule", f"a channel stands out above {ruling.limit(report)}", style)
    yield from row("channels", _counts(report), style)
    yield from row("folded", _folded(report), style)
    if report.caps is not None:
        yield from row("capped", _capped(report.caps), style)
    yield from rows("compacted", compacting.rows(report, None if style.verbose else MOST_ROWS), style)
    if report.cleanup is not None and (report.cleanup.found or report.cleanup.level == "all"):
        yield from row("cleaned up", cleaned_up(report.cleanup), style)
    if report.change is not None:
        yield from _change(report.change, style)
    yield from _validation(report, style)
    yield from _table("providers", engines.table(report), style)
    yield from _table("sweep", sweeping.table(report), style)
    yield from _files(report.input, report.output, style)
    yield from row("time", _cost(report), style)
    yield from _left_and_found(report, style)
    yield []
    yield from _next(report, style)


def _evidence(report: Report, style: Style) -> Iterator[Line]:
    """What makes the file suspicious, but for a trigger that was found: its own rows follow."""
    named = [one for one in report.evidence if one.verdict is Verdict.SUSPICIOUS and one.kind != TRIGGER]
    most = None if style.verbose else MOST_ROWS
    for place, one in enumerate(named[:most]):
        where = f" at {shown(one.where, 30)}" if one.where else ""
        text = f"{shown(one.kind, 40)}{where}: {one.sentence}"
        yield from row("" if place else "evidence", text, style, "red")
    yield from _more(len(named), most)


def _next(report: Report, style: Style) -> Iterator[Line]:
    """Steps as sentences, a shell line below each that has one; only that may be wider than the terminal."""
    for place, step in enumerate(steps(report)):
        label = "  or: " if place else "next: "
        colon = ":" if step.command else ""
        for at, part in enumerate(parts(step.sentence + colon, style.width - len(label))):
            yield [("bold", f"{'':6}" if at else label), ("", part)]
        if step.command:
            yield [("dim", "      "), ("cyan", step.command)]


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


def _change(change: Change, style: Style) -> Iterator[Line]:
    """The input and the result side by side."""
    for place, (what, before, after, ratio) in enumerate(sizing.rows(change)):
        text = f"{what:<12}{before:>16} >{after:>16}  {ratio}"
        yield [("dim", f"  {'' if place else 'size':<{LABEL}}"), ("", text)]
    note = sizing.footnote(change)
    if note:
        yield from row("", note, style)


def _validation(report: Report, style: Style) -> Iterator[Line]:
    proof = report.validation
    where = f" on {proof.provider_used} (asked for: {proof.provider_asked})" if proof.provider_used else ""
    yield from row("validation", proof.outcome + where, style)
    if proof.note:
        yield from row("", proof.note, style)
    if style.verbose and proof.engine is not None:
        yield from row("", engines.described(report), style)
    if proof.fold_error is not None:
        allowed = "" if proof.tolerance is None else f" (allowed: {number(proof.tolerance)})"
        yield from row("fold error", number(proof.fold_error) + allowed, style)
    if proof.compaction_error is not None:
        yield from row("", f"{number(proof.compaction_error)} of taking channels out", style)
    if proof.cleanup_error is not None:
        yield from row("", cleaning_proof(proof), style)
    if proof.discrete_agreement is not None:
        yield from row("", f"{percent(proof.discrete_agreement)} of discrete outputs equal", style)
    yield from rows("loss", gauging.rows(report), style)


def _evaluation(evaluation: EvaluationReport, style: Style) -> Iterator[Line]:
    marked = evaluation.triggered_images
    images = f"{evaluation.clean_images:,} clean" + (f" and {marked:,} triggered images" if marked else " images")
    yield from row("evaluation", f"{shown(evaluation.data, 30)}, {images}", style)
    for name in ("acc", "asr", "ra") if marked else ("acc",):
        before, after = getattr(evaluation.before, name), getattr(evaluation.after, name)
        yield from row("", f"{name.upper():<4}{percent(before):>8} > {percent(after):>8}", style)


def _table(label: str, texts: Iterator[str], style: Style) -> Iterator[Line]:
    for place, text in enumerate(texts):
        if len(text) <= style.width - LABEL - 2:
            yield [("dim", f"  {'' if place else label:<{LABEL}}"), ("", text)]
        else:
            yield from row("", text, style)


def _files(before: FileFacts | None, after: FileFacts | None, style: Style) -> Iterator[Line]:
    if after is None:
        yield from row("output", "no model was written", style)
        return
    facts = f", {size(after.bytes)}, sha256 {after.sha256[:12]}"
    if before is not None:
        facts = f", {size(before.bytes)} > {size(after.bytes)}, sha256 {after.sha256[:12]}"
        if before.sha256 == after.sha256:
            facts = f", {size(after.bytes)}, a copy of the input"
    room = max(style.width - LABEL - 6 - len(facts), 20)
    yield from row("output", shown(after.path, room) + facts, style)


def _cost(report: Report) -> str:
    stages = ", ".join(f"{shown(stage, 16)} {seconds:.1f}" for stage, seconds in report.seconds.items())
    memory = "" if report.peak_memory is None else f"; peak memory {size(report.peak_memory)}"
    return f"{sum(report.seconds.values()):.1f} s" + (f" ({stages})" if stages else "") + memory


def _left_and_found(report: Report, style: Style) -> Iterator[Line]:
    most = None if style.verbose else MOST_ROWS
    for place, left in enumerate(report.affines_left[:most]):
        text = f"{shown(left.name, 30)} ({shown(left.op, 20)}): {left.sentence}"
        yield from row("" if place else "left alone", text, style)
    yield from _more(len(report.affines_left), most)
    rest = [finding for finding in report.findings if weight(finding.kind) is not Verdict.SUSPICIOUS]
    for place, finding in enumerate(rest[:most]):
        where = f" at {shown(finding.where, 30)}" if finding.where else ""
        text = f"{shown(finding.kind, 40)}{where}: {finding.sentence}"
        yield from row("" if place else "findings", text, style, "yellow")
    yield from _more(len(rest), most)


def _more(count: int, most: int | None) -> Iterator[Line]:
    if most is not None and count > most:
        yield [("dim", f"{'':>{LABEL + 2}}... and {count - most:,} more (-v lists them)")]
