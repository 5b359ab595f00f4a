"""A cleaned file still goes where edge models go: every optimisation level, ORT format, quantisation, other tools.

The models are the repository's own; what a converter makes of the cleaned file is held against the cleaned file itself,
and for quantisation against what it makes of the input.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  the runtime that cleaned models are shipped to
import pytest
from numpy.typing import NDArray

from onnx_clp import CleanConfig
from onnx_clp.run.pipeline import run

Array = NDArray[Any]

MODELS = Path(__file__).parent.parent / "models"
NAMES = ("resnet18_badnets", "resnet18_badnets.tensorflow")
SETS = {"resnet18_badnets": "fashion-mnist_badnets_target0.npz"}
SETS["resnet18_badnets.tensorflow"] = "fashion-mnist_badnets_target0_nhwc.npz"
WAYS = {
    "zeroed": CleanConfig(u=1.5, fill="zero", cleanup="all", validate=False),
    "compact": CleanConfig(u=1.5, fill="zero", cleanup="all", compact=True, compact_multiple=1, validate=False),
}
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
ROUNDING = 1e-4


@pytest.fixture(scope="module", params=[(name, way) for name in NAMES for way in WAYS], ids="-".join)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a model, and where it lies cleaned."""
    name, way = request.param
    out = tmp_path_factory.mktemp("parity") / f"{way}.onnx"
    source = MODELS / f"{name}.onnx"
    if not source.is_file():
        pytest.skip("the trained models are not there")
    report = run(source, out, WAYS[way])
    assert report.summary.channels_pruned > 10
    assert (report.compaction is not None and report.compaction.removed > 10) == (way == "compact")
    return name, out


def images(name: str, count: int = 64) -> Array:
    with np.load(MODELS / SETS[name]) as data:
        found = np.asarray(data["x_clean"][:count])
    return (found / 255).astype(np.float32) if found.dtype == np.uint8 else found.astype(np.float32)


def session(model: Path, level: str = "ORT_ENABLE_ALL", **entries: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in entries.items():
        setattr(options, key, value)
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def scores(open_session: Any, x: Array) -> Array:
    """The model's scores for images, one batch after another where the batch is fixed."""
    (given,) = open_session.get_inputs()
    step = given.shape[0] if isinstance(given.shape[0], int) else len(x)
    parts = [open_session.run(None, {given.name: x[i : i + step]})[0] for i in range(0, len(x), step)]
    return np.concatenate(parts)


def error(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def agreement(one: Array, other: Array) -> float:
    return float((one.argmax(1) == other.argmax(1)).mean())


def test_every_optimisation_level_gives_the_same_scores(shipped: tuple[str, Path]) -> None:
    name, path = shipped
    x = images(name)
    wanted = scores(session(path, LEVELS[0]), x)
    assert len(set(wanted.argmax(1))) > 3, "the scores say something"
    for level in LEVELS[1:]:
        assert error(scores(session(path, level), x), wanted) < ROUNDING, level


def test_the_ort_format_gives_the_same_scores(shipped: tuple[str, Path], tmp_path: Path) -> None:
    name, path = shipped
    x, converted = images(name), tmp_path / "m.ort"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(converted)
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert converted.read_bytes()[4:8] == b"ORTM"
    assert error(scores(session(converted), x), scores(session(path, LEVELS[0]), x)) < ROUNDING


@pytest.mark.slow
def test_onnx_runtimes_converter_takes_it(shipped: tuple[str, Path], tmp_path: Path) -> None:
    name, path = shipped
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    words = ["-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(copy), "--optimization_style", "Fixed"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    made = tmp_path / f"{path.stem}.ort"
    x = images(name)
    assert error(scores(session(made), x), scores(session(path, LEVELS[0]), x)) < ROUNDING


class Reader:
    """Calibration images one at a time, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, model: Path, x: Array) -> None:
        name = onnx.load(model, load_external_data=False).graph.input[0].name
        self._feeds: Iterator[dict[str, Array]] = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def quantised(model: Path, x: Array, folder: Path) -> Path:
    quantisation = pytest.importorskip("onnxruntime.quantization", exc_type=ImportError)
    prepared, made = folder / f"{model.stem}.pre.onnx", folder / f"{model.stem}.int8.onnx"
    quantisation.shape_inference.quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantisation.quantize_static(
        str(prepared), str(made), Reader(prepared, x), quant_format=quantisation.QuantFormat.QDQ, per_channel=True
    )
    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_quantised_it_agrees_as_the_quantised_input_does(shipped: tuple[str, Path], tmp_path: Path) -> None:
    name, path = shipped
    calibration, x = images(name, 96)[:32], images(name, 400)[96:]
    found = {}
    for which, model in (("input", MODELS / f"{name}.onnx"), ("cleaned", path)):
        small = quantised(model, calibration, tmp_path)
        assert "QuantizeLinear" in {node.op_type for node in onnx.load(small).graph.node}
        found[which] = agreement(scores(session(small), x), scores(session(model), x))
    assert found["input"] > 0.9
    assert found["cleaned"] > found["input"] - 0.03


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tool", ["onnxsim", "onnxslim"])
def test_other_simplifiers_take_it(shipped: tuple[str, Path], tool: str, tmp_path: Path) -> None:
    module = pytest.importorskip(tool)
    name, path = shipped
    proto = onnx.load(path)
    made = module.simplify(proto)[0] if tool == "onnxsim" else module.slim(proto)
    onnx.save(made, tmp_path / "m.onnx")
    x = images(name)
    assert error(scores(session(tmp_path / "m.onnx"), x), scores(session(path, LEVELS[0]), x)) < ROUNDING
    assert len(made.graph.node) <= len(proto.graph.node)
