"""The report document: its JSON, and the schema that describes it."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest

from onnx_clp.report import document
from onnx_clp.report.document import FileFacts, Report, Verdict
from onnx_clp.skipped import LayerStatus
from tests import reports

SCHEMA: dict[str, Any] = json.loads(files("onnx_clp.report").joinpath("schema.json").read_text("utf-8"))
CLASSES = [value for value in vars(document).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]


def schema_of(name: str) -> dict[str, Any]:
    found = SCHEMA if name == "Report" else SCHEMA["$defs"][name]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_schema_has_every_field_of_the_document_and_no_other(kind: type) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    described = schema_of(kind.__name__)
    assert set(described["properties"]) == fields
    assert set(described["required"]) == fields
    assert described["additionalProperties"] is False
    assert all("description" in value or "$ref" in value for value in described["properties"].values())


def test_the_schema_describes_no_other_objects() -> None:
    assert {*SCHEMA["$defs"], "Report"} == {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize(
    ("owner", "field", "words"),
    [("LayerReport", "status", LayerStatus), ("Summary", "verdict", Verdict)],
)
def test_the_schema_lists_every_word(owner: str, field: str, words: type[enum.StrEnum]) -> None:
    assert schema_of(owner)["properties"][field]["enum"] == [word.value for word in words]


DOCUMENTS = [
    reports.report(),
    reports.report(evaluation=reports.evaluation(), output=None, peak_memory=None),
    reports.report((), input=None, output=None),
    reports.hostile(),
]


@pytest.mark.parametrize("report", DOCUMENTS, ids=["full", "dry run", "empty", "hostile"])
def test_documents_fit_the_schema_and_are_strict_ascii_json(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text = report.to_json()
    assert text.isascii()
    assert text.endswith("}\n")
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert next(iter(parsed)) == "schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(parsed)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"extra": 1},
        {"summary": None},
        {"peak_memory": -1},
        {"input": {"path": "a", "sha256": "zz", "bytes": 1}},
    ],
)
def test_the_schema_refuses_other_documents(change: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not validator.is_valid({**reports.report().to_dict(), **change})


def test_non_finite_numbers_are_null() -> None:
    layer = reports.layer()
    (judgement,) = layer.judgements
    odd = replace(judgement, scores=(math.nan, math.inf, 1.0), mean=-math.inf)
    found = reports.report((replace(layer, judgements=(odd,)),)).to_dict()["layers"][0]["judgements"][0]
    assert (found["scores"], found["mean"]) == ([None, None, 1.0], None)


def test_every_score_of_every_judged_layer_is_in_the_document() -> None:
    report = reports.report()
    found = json.loads(report.to_json())
    for layer, plain in zip(report.layers, found["layers"], strict=True):
        assert [tuple(j["scores"]) for j in plain["judgements"]] == [j.scores for j in layer.judgements]
        assert plain["status"] == layer.status.value


def test_a_layers_own_summary_agrees_with_its_judgements() -> None:
    first = reports.judgement((1.0, 1.1) * 20 + (9.0,))
    second = reports.judgement((9.0,) + (1.0, 1.1) * 20)
    layer = reports.layer(channels=41, judgements=(first, second))
    assert layer.pruned == (0, 40)
    assert layer.max_z == pytest.approx(first.pruned[0].z)
    assert reports.layer(judgements=()).max_z == 0.0
    flat = replace(first, std=0.0, pruned=())
    assert reports.layer(judgements=(flat,)).max_z == 0.0


def test_names_come_back_from_json_as_they_were() -> None:
    report = reports.hostile()
    assert [layer["name"] for layer in json.loads(report.to_json())["layers"]] == [x.name for x in report.layers]
    assert FileFacts(**report.to_dict()["input"]) == report.input
