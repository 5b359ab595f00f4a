"""The report document: its JSON, and the schema that describes it."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_clp.cli.main import main
from onnx_clp.document import run
from onnx_clp.document.run import FileFacts, Report, Verdict
from onnx_clp.verdicts import LayerStatus
from tests import reports

SCHEMA: dict[str, Any] = json.loads(files("onnx_clp.report").joinpath("schema.json").read_text("utf-8"))
NAMED = (getattr(run, name) for name in {**vars(run), **run._HOMES})
CLASSES = [value for value in NAMED if isinstance(value, type) and dataclasses.is_dataclass(value)]


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
    reports.report(sweep=reports.sweep(), cleanup=reports.cleanup(), change=reports.change()),
    reports.report(sweep=reports.sweep(), compaction=reports.compaction()),
    reports.careful(),
    reports.report(gauge=replace(reports.gauge(), ordinary=None, prediction=None)),
]
IDS = ["full", "dry run", "empty", "hostile", "cleanup", "compaction", "careful", "unmeasured"]


@pytest.mark.parametrize("report", DOCUMENTS, ids=IDS)
def test_documents_fit_the_schema_and_are_strict_ascii_json(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text = report.to_json()
    assert text.isascii()
    assert text.endswith("}\n")
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert next(iter(parsed)) == "schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(parsed)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Conv and BatchNormalization over 20 channels, of which channel 7 stands out, then a Conv without one."""
    source = np.random.default_rng(0)
    weight = source.normal(size=(20, 3, 3, 3)).astype(np.float32)
    weight[7] *= 40
    arrays = {"w": weight, "v": source.normal(size=(12, 20, 1, 1)).astype(np.float32)}
    arrays |= {name: np.ones(20, np.float32) for name in ("scale", "shift", "mean", "var")}
    made = parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        net (float[1,3,8,8] x) => (float[1,12,8,8] y) {
            a = Conv<pads = [1,1,1,1]>(x, w)
            b = BatchNormalization(a, scale, shift, mean, var)
            c = Relu(b)
            y = Conv(c, v)
        }""")
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(made, tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


@pytest.mark.parametrize("options", [["--no-validate"], []], ids=str)
def test_a_real_run_gives_a_document_that_fits_the_schema(
    options: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    output, path = model.with_name("out.onnx"), model.with_name("r.json")
    assert main([str(model), str(output), "--json", "--report", str(path), *options]) == 0
    text = capsys.readouterr().out
    assert text == path.read_text()
    document = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["summary"]["verdict"] == "unusual"
    assert [p["channel"] for p in document["layers"][0]["judgements"][0]["pruned"]] == [7]
    assert document["layers"][0]["folded"]
    assert document["layers"][1]["not_folded"] == ""
    assert document["output"]["bytes"] == output.stat().st_size
    assert document["output"]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert document["input"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (document["validation"]["outcome"] == "not asked for") == bool(options)


def test_a_real_dry_run_writes_nothing_and_says_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("out.onnx")
    assert main([str(model), str(output), "--no-validate", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "unusual: 1 of 20 channels stand out, in 1 of 1 judged layer; no model was written" in " ".join(text.split())
    assert "channel 7 " in text
    assert [path.name for path in model.parent.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
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
    flat = reports.judgement((1.0,) * 41)
    assert reports.layer(judgements=(flat,)).max_z == 0.0


def test_names_come_back_from_json_as_they_were() -> None:
    report = reports.hostile()
    assert [layer["name"] for layer in json.loads(report.to_json())["layers"]] == [x.name for x in report.layers]
    assert FileFacts(**report.to_dict()["input"]) == report.input
