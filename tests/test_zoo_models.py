"""The published models: what MANIFEST.json says of each file is so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tools.zoo import evalset, manifest, measure
from tools.zoo.__main__ import main

MODELS = Path(__file__).parent.parent / "models"
MANIFEST = manifest.read(MODELS)
FILES = [
    pytest.param(model, form, id=f"{name}-{form}")
    for name, model in MANIFEST["models"].items()
    for form in model["files"]
]


def test_every_file_is_the_one_described() -> None:
    assert manifest.differences(MODELS) == []
    assert sum(path.stat().st_size for path in MODELS.iterdir()) < 25_000_000


def test_a_changed_a_missing_and_an_unknown_file_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(MODELS, copy)
    first, second = sorted(copy.glob("*.onnx"))[:2]
    first.write_bytes(first.read_bytes()[:-1] + b"\0")
    second.rename(copy / "other.onnx")
    assert main(["check", "--models", str(copy)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{second.name}: is described but missing",
        "other.onnx: is not described",
        f"{first.name}: its SHA-256 is not the one described",
        f"{copy}: 3 differences",
    ]


@pytest.mark.parametrize(("model", "form"), FILES)
def test_model_is_as_described_and_loads_in_older_runtimes(model: dict[str, Any], form: str) -> None:
    entry = model["files"][form]
    proto = onnx.load(MODELS / entry["file"])
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == entry["ir_version"] <= 10
    assert proto.opset_import[0].version == entry["opset"] <= 26
    assert (MODELS / entry["file"]).stat().st_size == entry["bytes"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    norms = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    assert norms == (0 if form == "folded" else 20)


@pytest.mark.parametrize(("model", "form"), FILES)
def test_rates_on_the_evaluation_set_are_as_claimed(model: dict[str, Any], form: str) -> None:
    entry = model["files"][form]
    found = measure.measure(MODELS / entry["file"], evalset.read(MODELS / model["evaluation"])).as_dict()
    for key, claimed in entry["evaluation_set"].items():
        assert found[key] == pytest.approx(claimed, abs=0.01), key
    for rate in ("acc", "asr", "ra"):
        assert entry["test_set"][rate] == pytest.approx(entry["evaluation_set"][rate], abs=0.03)


@pytest.mark.parametrize("name", sorted(MANIFEST["evaluation_sets"]))
def test_evaluation_set_is_as_described(name: str) -> None:
    entry = MANIFEST["evaluation_sets"][name]
    with np.load(MODELS / name, allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["x_clean", "x_triggered", "y_clean", "y_target"]
        x, t, y = arrays["x_clean"], arrays["x_triggered"], arrays["y_clean"]
        assert arrays["y_target"].dtype == np.int64
        assert (arrays["y_target"] == entry["target"]).all()
    assert x.dtype == t.dtype == np.uint8
    assert y.dtype == np.int64
    image = (28, 28, 1) if entry.get("layout") == "NHWC" else (1, 28, 28)
    assert x.shape == t.shape == (entry["images"], *image)
    assert y.shape == (entry["images"],)
    assert entry["images"] >= 1000
    assert set(y.tolist()) == set(range(10))
    assert (x != t).any(axis=0).sum() == 9


def test_infected_models_obey_the_trigger_and_controls_do_not() -> None:
    attacks = {model["design"]["attack"] for model in MANIFEST["models"].values()}
    assert {"badnets", "clean"} <= attacks
    for model in MANIFEST["models"].values():
        for entry in model["files"].values():
            asr = entry["test_set"]["asr"]
            assert entry["test_set"]["acc"] > 0.9
            assert (asr < 0.05) if model["design"]["attack"] == "clean" else (asr > 0.9)


def test_the_demonstrated_model_loses_its_backdoor_and_keeps_its_accuracy() -> None:
    model = MANIFEST["models"]["resnet18_badnets"]
    trained = {each["name"]: each for each in MANIFEST["trained"]}
    after = trained[model["trained_as"]]["after_onnx_clp"]
    before = model["files"]["unfolded"]["test_set"]
    assert after["asr"] < 0.2 < 0.9 < before["asr"]
    assert before["acc"] - after["acc"] < 0.02


def test_poison_count_and_licences_are_told() -> None:
    for model in MANIFEST["models"].values():
        made = model["design"]
        data = MANIFEST["datasets"][made["dataset"]]
        assert model["poisoned_training_images"] == round(made["rate"] * data["training_images"])
        assert data["licence"]
        assert model["trained_as"] in {each["name"] for each in MANIFEST["trained"]}


def test_every_trained_model_is_listed_with_its_rates_before_and_after() -> None:
    for each in MANIFEST["trained"]:
        for rates in (each["rates"], each["after_onnx_clp"]):
            assert rates["images"] >= 6000
            assert all(0 <= rates[key] <= 1 for key in ("acc", "asr", "ra"))
