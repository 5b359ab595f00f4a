"""The infected models that the exporters of TensorFlow and JAX wrote, against the torch export they are carried from.

Their Convs are matched to the twin's by part ("layer3.1.second"): torch and TensorFlow name it, jax2onnx
numbers its nodes and writes them in torch's order.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_clp
from onnx_clp.document.run import Judgement, Report
from tools.exports import carried, environments
from tools.exports import zoo as export_zoo
from tools.exports.carry import EXPORTS
from tools.zoo import evalset, exported, manifest, measure

MODELS = Path(__file__).parent.parent / "models"
MANIFEST = manifest.read(MODELS)
TWIN = MODELS / "resnet18_badnets.onnx"
NAMES = sorted(MANIFEST["exported"])
OPTIONS = sorted(exported.RUNS)
TORCH_PLACE = {("body", "0"): ".first", ("body", "3"): ".second", ("shortcut", "0"): ".shortcut"}


def path_of(name: str) -> Path:
    return MODELS / str(MANIFEST["exported"][name]["file"])


@cache
def images(name: str) -> evalset.EvaluationSet:
    """A model's evaluation set; for the twin the same images in its own layout."""
    if name != "twin":
        return evalset.read(MODELS / MANIFEST["exported"][name]["evaluation"])
    whole = evalset.read(MODELS / "fashion-mnist_badnets_target0.npz")
    count = exported.IMAGES
    return evalset.EvaluationSet(
        whole.x_clean[:count], whole.y_clean[:count], whole.x_triggered[:count], whole.y_target
    )


@cache
def cleaned(name: str, option: str) -> tuple[Report, measure.Rates]:
    path = TWIN if name == "twin" else path_of(name)
    done = onnx_clp.clean(path, exported.RUNS[option])
    return done.report, measure.measure(done.model.SerializeToString(), images(name))


def part_of(layer: str) -> str:
    """The part that a torch or TensorFlow Conv's name tells."""
    if layer.startswith("model/"):
        return layer.removeprefix("model/").removesuffix(".conv/Conv2D")
    if layer == "/stem/stem.0/Conv":
        return "stem"
    found = re.fullmatch(r"/layer\d/(layer\d\.\d)/(body|shortcut)/\w+\.(\d)/Conv", layer)
    assert found is not None, layer
    return found[1] + TORCH_PLACE[found[2], found[3]]


def judgements(name: str, report: Report) -> dict[str, Judgement]:
    """Part -> what was found of it."""
    convs = [layer for layer in report.layers if layer.op == "Conv"]
    order = [part for part, _ in carried.named_parts(carried.read(TWIN))]
    parts = order if name.endswith(".jax") else [part_of(layer.name) for layer in convs]
    return {part: layer.judgements[0] for part, layer in zip(parts, convs, strict=True)}


def test_there_is_one_of_each_framework() -> None:
    assert {name: export.stem for name, export in EXPORTS.items()} == {
        "tensorflow": "resnet18_badnets.tensorflow",
        "jax": "resnet18_badnets.jax",
    }
    assert sorted(export.stem for export in EXPORTS.values()) == NAMES
    for export in EXPORTS.values():
        entry = MANIFEST["exported"][export.stem]
        assert (entry["exporter"], entry["form"]) == (list(export.exporter), export.form)
        assert "nothing was trained" in entry["weights"]


@pytest.mark.parametrize(
    ("name", "producer"), [("resnet18_badnets.jax", "jax2onnx"), ("resnet18_badnets.tensorflow", "tf2onnx")]
)
def test_file_is_the_exporters_and_loads_in_older_runtimes(name: str, producer: str) -> None:
    entry, proto = MANIFEST["exported"][name], onnx.load(path_of(name))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == producer
    assert proto.ir_version == entry["ir_version"] <= 10
    assert proto.opset_import[0].version == entry["opset"] <= 20
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 28, 28, 1]


@pytest.mark.parametrize(
    ("name", "between"), [("resnet18_badnets.jax", []), ("resnet18_badnets.tensorflow", ["Transpose", "Transpose"])]
)
def test_every_normalisation_is_in_the_file_in_the_exporters_form(name: str, between: list[str]) -> None:
    graph = onnx.load(path_of(name)).graph
    producer = {output: node for node in graph.node for output in node.output}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 20
    for norm in norms:
        node, seen = producer[norm.input[0]], []
        while node.op_type != "Conv":
            seen.append(node.op_type)
            node = producer[node.input[0]]
        assert seen == between


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_its_twin_computes(name: str) -> None:
    ours, theirs = images(name), images("twin")
    for mine, its in ((ours.x_clean, theirs.x_clean), (ours.x_triggered, theirs.x_triggered)):
        np.testing.assert_array_equal(mine, its.transpose(0, 2, 3, 1))
        scores, expected = exported.scores(path_of(name), mine[:300]), exported.scores(TWIN, its[:300])
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
        assert np.abs(expected).max() > 5


@pytest.mark.parametrize("name", NAMES)
def test_rates_are_as_claimed(name: str) -> None:
    claimed = MANIFEST["exported"][name]["evaluation_set"]
    found = measure.measure(path_of(name), images(name)).as_dict()
    assert found == {key: pytest.approx(value, abs=0.01) for key, value in claimed.items()}
    assert claimed["asr"] > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_judged_as_in_the_twin(name: str) -> None:
    ours = judgements(name, cleaned(name, "-u 3")[0])
    theirs = judgements("twin", cleaned("twin", "-u 3")[0])
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == 20
    for part, judgement in theirs.items():
        np.testing.assert_allclose(ours[part].scores, judgement.scores, rtol=1e-5, err_msg=part)
    pruned = {part: [channel.channel for channel in each.pruned] for part, each in ours.items() if each.pruned}
    assert pruned == {part: [c.channel for c in each.pruned] for part, each in theirs.items() if each.pruned}
    assert sum(len(channels) for channels in pruned.values()) == 7


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_attack_falls_as_far_as_the_twins(name: str, option: str) -> None:
    (report, after), (twin_report, twin_after) = cleaned(name, option), cleaned("twin", option)
    for rate in ("acc", "asr", "ra"):
        assert getattr(after, rate) == pytest.approx(getattr(twin_after, rate), abs=0.03), rate
    assert report.summary.affines_folded == twin_report.summary.affines_folded == 20
    claimed: dict[str, Any] = MANIFEST["exported"][name]["options"][option]
    for told, found, rates in ((claimed["after"], report, after), (claimed["twin_after"], twin_report, twin_after)):
        assert told["channels_pruned"] == found.summary.channels_pruned
        assert told["values_capped"] == (found.caps.capped if found.caps else 0)
        assert rates.asr == pytest.approx(told["asr"], abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_pruning_stops_the_attack_and_leaves_the_accuracy(name: str) -> None:
    before = MANIFEST["exported"][name]["evaluation_set"]
    for option in ("-u 3", "--bound-activations 3"):
        rates = cleaned(name, option)[1]
        assert rates.asr < 0.05 < 0.95 < before["asr"]
        assert rates.acc > before["acc"] - 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_run_is_proven_and_evaluated_in_this_layout(name: str) -> None:
    entry = MANIFEST["exported"][name]
    config = onnx_clp.CleanConfig(
        bound_activations=3.0, budget=1.0, provider="cpu", eval_data=MODELS / entry["evaluation"]
    )
    report = onnx_clp.clean(path_of(name), config).report
    assert report.evaluation is not None
    assert report.evaluation.before.asr == pytest.approx(entry["evaluation_set"]["asr"], abs=0.01)
    claimed = entry["options"]["--bound-activations 3"]["after"]
    assert report.evaluation.after.asr == pytest.approx(claimed["asr"], abs=0.01)
    assert report.evaluation.after.acc == pytest.approx(claimed["acc"], abs=0.01)
    assert report.validation is not None
    assert report.validation.outcome == "validated"


def test_a_folded_export_leaves_the_caps_nothing_to_go_by() -> None:
    config = exported.RUNS["--bound-activations 3"]
    report = onnx_clp.clean(MODELS / "resnet18_badnets.folded.onnx", config).report
    assert report.caps is not None
    assert (report.caps.capped, len(report.caps.left)) == (0, 20)


def test_every_form_has_an_environment_and_a_module_that_writes_it() -> None:
    assert set(export_zoo.FORMS) == set(environments.ENVIRONMENTS)
    for name, forms in export_zoo.FORMS.items():
        source = (environments.ROOT / "tools" / "exports" / f"forms_{name}.py").read_text(encoding="utf-8")
        table = re.search(r"^FORMS\b.*?= \{(.*?)\}$", source, re.DOTALL | re.MULTILINE)
        assert table is not None
        assert tuple(re.findall(r'"([\w-]+)":', table[1])) == forms


@pytest.mark.parametrize(
    ("row", "failure"),
    [
        (export_zoo.Row("dynamo", folded=4, pruned=1), ""),
        (export_zoo.Row("dynamo", folded=4, pruned=0), "the channel that stands out was not pruned"),
        (export_zoo.Row("torchscript-training", folded=0, left=5), ""),
        (export_zoo.Row("torchscript-training", folded=1, left=4), "a model in training mode was folded"),
    ],
)
def test_a_form_passes_or_fails_by_what_was_done(row: export_zoo.Row, failure: str) -> None:
    judged = export_zoo.judged(row)
    assert judged.failure == failure
    assert ("FAILED" in str(judged)) == bool(failure)


def test_an_environment_is_used_again_only_with_the_same_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr("venv.create", lambda home, **_: Path(home).mkdir(exist_ok=True))
    monkeypatch.setattr(environments, "_install", lambda _interpreter, _name, group: made.append(group))
    first = environments.python(tmp_path, "paddle")
    assert first.is_relative_to(tmp_path / "paddle")
    assert made == list(environments.ENVIRONMENTS["paddle"].groups)
    assert environments.python(tmp_path, "paddle") == first
    assert len(made) == 2
    (tmp_path / "paddle" / "requirements.txt").write_text("onnx==1.0\n", encoding="utf-8")
    environments.python(tmp_path, "paddle")
    assert len(made) == 4
