"""A block for a model card: metadata of the Hugging Face kind in front, then what was looked at and found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final

from onnx_clp.document.run import FileFacts, Rates, Report
from onnx_clp.report import atlas
from onnx_clp.report.wording import brief, done, headline, percent
from onnx_clp.text import one_line, shown

MARK: Final = "<!-- written by onnx-clp -->"
_MOST: Final = 50


def model_card(report: Report) -> str:
    """The block as Markdown with a YAML head; put it into the card of the model, or take it as one."""
    head = json.dumps(_metadata(report), indent=2)  # JSON is YAML
    return f"---\n{head}\n---\n{MARK}\n\n" + "\n".join(_lines(report)) + "\n"


def _metadata(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {"library_name": "onnx", "tags": ["onnx", "onnx-clp"]}
    results = list(_results(report))
    if results:
        name = _name(report.output or report.input)
        found["model-index"] = [{"name": name, "results": results}]
    return found


def _results(report: Report) -> Iterator[dict[str, Any]]:
    measured = report.evaluation
    if measured is None:
        return
    rates: Rates = measured.before if report.output is None else measured.after
    metrics = [
        {"type": kind, "value": value, "name": name}
        for kind, value, name in (
            ("accuracy", rates.acc, "ACC"),
            ("attack_success_rate", rates.asr, "ASR"),
            ("robust_accuracy", rates.ra, "RA"),
        )
        if value is not None
    ]
    data = PurePath(measured.data).name
    yield {
        "task": {"type": "image-classification"},
        "dataset": {"type": shown(data, 100), "name": shown(data, 100)},
        "metrics": metrics,
    }


def _lines(report: Report) -> Iterator[str]:
    yield "## Backdoor check"
    yield ""
    verdict = report.summary.verdict.value
    yield f"{_literal(report.tool)} says: **{verdict}**{_literal(headline(report).removeprefix(verdict))}."
    yield "No result of it says that a model holds no backdoor."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {_literal(value)} |" for name, value in _rows(report))
    if report.evidence:
        yield ""
        yield "| evidence | verdict | MITRE ATLAS |"
        yield "|---|---|---|"
    for one in report.evidence[:_MOST]:
        links = ", ".join(f"[{name}]({atlas.page(name)})" for name in atlas.techniques(one.kind))
        yield f"| {_literal(f'{brief(one)}: {one.sentence}')} | {one.verdict.value} | {links} |"


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    for role, facts in (("input", report.input), ("output", report.output)):
        if facts is not None:
            beyond = " (without its data file)" if facts.data else ""
            yield role, f"{_name(facts)}, SHA-256 {facts.sha256}{beyond}"
    yield "looked at", "; ".join(report.looked_at)
    yield "done", "; ".join(done(report)) or "nothing"
    yield "proof", report.validation.outcome
    measured = report.evaluation
    if measured is not None:
        for name, before, after in _rates(measured.before, measured.after):
            yield name, f"{percent(before)} before, {percent(after)} after"


def _rates(before: Rates, after: Rates) -> Iterator[tuple[str, float | None, float | None]]:
    yield "ACC", before.acc, after.acc
    yield "ASR", before.asr, after.asr
    yield "RA", before.ra, after.ra


def _name(facts: FileFacts | None) -> str:
    return "model" if facts is None else shown(PurePath(facts.path).name, 200) or "model"


def _literal(text: str) -> str:
    """Text that Markdown shows as it is."""
    held = one_line(text)
    for sign in "\\`*_{}[]<>|#!~":
        held = held.replace(sign, f"\\{sign}")
    return held
