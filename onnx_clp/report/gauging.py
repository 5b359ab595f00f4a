"""The predicted loss in words: what the edit costs ordinary images, on what that was measured, what stayed for it."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.run import Gauge, Loss, Ordinary, OutputChange, Prediction, Report
from onnx_clp.report.wording import brief, number, percent, plural
from onnx_clp.text import shown

_MOST_OUTPUTS = 4


def rows(report: Report) -> Iterator[str]:
    """One sentence a row; nothing where nothing was edited."""
    gauge = report.gauge
    if gauge is None:
        return
    if gauge.prediction is None or gauge.ordinary is None:
        yield _unknown(report, gauge)
        return
    yield f"{spelled(gauge.prediction.loss, gauge.ordinary)}; measured on {images(gauge.ordinary)}"
    yield f"at most {percent(gauge.budget)} was allowed{_because(report, gauge)}"
    for change in gauge.prediction.outputs[:_MOST_OUTPUTS]:
        yield f"{shown(change.output, 24)}: {moved(change)}"
    yield from _left(report, gauge)


def _unknown(report: Report, gauge: Gauge) -> str:
    if report.options.get("validate") is False:
        return "not known: --no-validate runs nothing, so nothing could be measured"
    if gauge.unreached:
        return f"{plural(gauge.unreached, 'channel')} kept: what switching them off costs cannot be measured there"
    return "not known: the budget of 1 allows everything, so nothing was measured"


def _because(report: Report, gauge: Gauge) -> str:
    if not gauge.evidence:
        return ""
    return f", because {next((brief(e) for e in report.evidence if e.sentence == gauge.evidence), gauge.evidence)}"


def _left(report: Report, gauge: Gauge) -> Iterator[str]:
    kept = report.summary.channels_kept - gauge.unreached
    if kept > 0 and gauge.whole is not None and report.options.get("prune") is not False:
        loss = spelled(gauge.whole.loss, gauge.ordinary)
        yield f"{plural(kept, 'channel')} kept: with all that stood out off, {loss}{_answers(gauge, gauge.whole)}"
    if gauge.unreached:
        yield f"{plural(gauge.unreached, 'channel')} kept: what switching them off costs cannot be measured there"
    if gauge.caps_asked is not None:
        loss = spelled(gauge.caps_asked.loss, gauge.ordinary)
        yield f"caps at {report.options.get('bound_activations'):g} std: {loss}"


def _answers(gauge: Gauge, whole: Prediction) -> str:
    """What else keeps channels whose loss the budget allows."""
    if whole.loss.high > gauge.budget:
        return ""
    if gauge.ordinary is not None and gauge.ordinary.source == "noise":
        return " as made-up signals have it, and real ones may lose more; --budget takes their word"
    changed = max((one.changed or 0.0 for one in whole.outputs if one.kind == "classes"), default=0.0)
    return f", but {percent(changed)} of the classes change"


def spelled(loss: Loss, ordinary: Ordinary | None = None) -> str:
    """A loss with its interval: "about 0.3 % of ordinary images (0.1 to 0.9 %)"; inputs, where they are no images."""
    inputs = "inputs" if ordinary is not None and ordinary.source == "noise" else "images"
    if not loss.high:
        return f"none of ordinary {inputs}"
    return f"about {percent(loss.share)} of ordinary {inputs} ({100 * loss.low:.1f} to {percent(loss.high)})"


def images(ordinary: Ordinary) -> str:
    """The images of a gauge, and how their pixels were taken."""
    if ordinary.source == "data":
        return f"{plural(ordinary.count, 'image')} of --images"
    if ordinary.source == "noise":
        return f"{plural(ordinary.count, 'made-up signal')}, as the model takes no images"
    basis = {
        "option": "as --pixel-range says",
        "file": "as the file says",
        "statistics": "as its statistics say",
        "scale": "assumed by the scale of what it computes; --pixel-range says better",
        "guess": "assumed; --pixel-range says better",
        "path": "on which the path is still; --pixel-range says better",
    }[ordinary.told]
    left = "" if ordinary.beside is None else f", without the score of class {ordinary.beside}, to which the path leads"
    return f"{plural(ordinary.count, 'crop')} of photographs, pixels {ordinary.pixels} ({basis}){left}"


def moved(change: OutputChange) -> str:
    """How far one output moved, in its own terms."""
    if change.kind == "classes":
        return f"class changes {percent(change.changed)}, divergence {number(change.divergence)}"
    if change.kind == "discrete" or change.relative is None:
        return f"changes for {percent(change.changed)}"
    return f"moves by {percent(change.relative)} of its own variation"
