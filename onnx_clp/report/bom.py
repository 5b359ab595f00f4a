"""The model as a CycloneDX 1.6 bill of materials (ECMA-424): what it is, what it was made from, what was found."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final

from onnx_clp.document.run import FileFacts, Rates, Report
from onnx_clp.report import atlas
from onnx_clp.report.wording import brief, done, headline
from onnx_clp.text import one_line, shown

Json = dict[str, Any]

SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
NOT_CLEAN: Final = "No result of onnx-clp says that a model holds no backdoor."
_SPACE: Final = uuid.UUID("9a1a4a35-6ea5-5b23-8f0a-2b1b3f3f0c55")
_MOST: Final = 500
_SECTION: Final = "onnx-clp:"


def cyclonedx(report: Report) -> str:
    """The BOM: the file written (the input where none was), with its pedigree, findings and measurements.

    The same report gives the same bytes: no time is in it, and the serial number follows from the content.
    """
    document: Json = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [_tool(report)]}, "component": _model(report)},
    }
    serial = uuid.uuid5(_SPACE, json.dumps(document, sort_keys=True))
    return json.dumps({**document, "serialNumber": f"urn:uuid:{serial}"}, indent=2) + "\n"


def _tool(report: Report) -> Json:
    name, _, version = report.tool.partition(" ")
    return {"type": "application", "name": name, "version": version or "unknown"}


def _model(report: Report) -> Json:
    facts = report.output or report.input
    return {**_file(facts), "bom-ref": "model", "modelCard": _card(report), "pedigree": _pedigree(report)}


def _file(facts: FileFacts | None) -> Json:
    if facts is None:
        return {"type": "machine-learning-model", "name": "a model in memory"}
    return {
        "type": "machine-learning-model",
        "name": shown(PurePath(facts.path).name, 200) or "model.onnx",
        "mime-type": "application/octet-stream",
        "hashes": [{"alg": "SHA-256", "content": facts.sha256}],
    }


def _pedigree(report: Report) -> Json:
    notes = [
        "Method: channel-Lipschitzness-based pruning on the ONNX graph (Zheng et al., ECCV 2022).",
        *done(report),
        f"Findings: {headline(report)}.",
        NOT_CLEAN,
    ]
    found: Json = {"notes": one_line(" ".join(notes), 4000)}
    if report.output is not None and report.input is not None:
        found["ancestors"] = [{**_file(report.input), "bom-ref": "input"}]
    return found


def _card(report: Report) -> Json:
    card: Json = {
        "considerations": {"technicalLimitations": [NOT_CLEAN]},
        "properties": [{"name": name, "value": value} for name, value in _properties(report)],
    }
    metrics = list(_metrics(report))
    return {**card, "quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else card


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield f"{_SECTION}verdict", report.summary.verdict.value
    yield f"{_SECTION}proof", report.validation.outcome
    facts = report.output or report.input
    if facts is not None and facts.data:
        yield f"{_SECTION}digest", "weights lie in a data file, which the digest does not cover"
    yield f"{_SECTION}options", json.dumps(report.to_dict()["options"], sort_keys=True)
    for one in report.evidence[:_MOST]:
        techniques = " ".join(atlas.techniques(one.kind))
        yield f"{_SECTION}finding", one_line(f"{brief(one)}: {one.sentence} [{techniques}]")


def _metrics(report: Report) -> Iterator[Json]:
    measured = report.evaluation
    if measured is None:
        return
    rates: Rates = measured.before if report.output is None else measured.after
    for kind, value in (("ACC", rates.acc), ("ASR", rates.asr), ("RA", rates.ra)):
        if value is not None:
            yield {"type": kind, "value": f"{value:.4f}", "slice": shown(measured.data, 200)}
