"""Caps from a user's own inputs: what is measured, where it goes, what is left out, and data that cannot be used."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator

import onnx_clp
from onnx_clp.cli import main
from onnx_clp.config import CleanConfig, RunLimits
from onnx_clp.document.readings import Moments, Readings
from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.process.codec import decode, encode
from onnx_clp.validation import calibrating, child
from onnx_clp.validation.anatomy import InputSpec
from onnx_clp.validation.provider import choose
from onnx_clp.validation.request import Calibration
from onnx_clp.validation.session import FailureKind, Feeds, Outputs, RunError, Signature
from tests.test_imports import loaded

Array = NDArray[Any]
CHANNELS = 12
RNG = np.random.default_rng(11)
WEIGHTS: dict[str, Array] = {
    "W": RNG.normal(size=(CHANNELS, 3, 3, 3)),
    "B": RNG.normal(size=CHANNELS),
    "V": RNG.normal(size=(CHANNELS, CHANNELS, 3, 3)),
    "U": RNG.normal(size=(CHANNELS, CHANNELS, 1, 1)),
    "F": RNG.normal(size=(CHANNELS, 4)),
    "g": RNG.normal(size=CHANNELS),
    "v": RNG.uniform(0.5, 2.0, CHANNELS),
}
X = RNG.normal(size=(37, 3, 9, 9)).astype(np.float32)
HEAD = "p = GlobalAveragePool(r) q = Flatten(p) y = MatMul(q, F)"
PLAIN = f"c = Conv(x, W, B) r = Relu(c) {HEAD}"
SPEC = InputSpec("x", TensorProto.FLOAT, ("n", 3, 9, 9))


def network(body: str = PLAIN, batch: str = "n", outputs: str = "float[n,4] y") -> ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[{batch},3,9,9] x) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, values in WEIGHTS.items():
        if re.search(rf"\b{name}\b", body):
            model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return model


def archive(folder: Path, **arrays: object) -> Path:
    path = folder / "data.npz"
    np.savez(path, allow_pickle=True, **{k: np.asarray(a) for k, a in (arrays or {"x": X}).items()})
    return path


def calibrated(model: ModelProto, data: Path, times: float = 1.0, **options: Any) -> onnx_clp.CleanResult:
    settings = {"prune": False, "provider": "cpu", "budget": 1.0, **options}
    return onnx_clp.clean(model, CleanConfig(bound_activations=times, calibrate=data, **settings))


def values_of(model: ModelProto, name: str, x: Array = X) -> Array:
    wide = ModelProto()
    wide.CopyFrom(model)
    wide.graph.output.append(onnx.ValueInfoProto(name=name))
    found: Any = ReferenceEvaluator(wide).run([name], {"x": x})
    return np.asarray(found[0], np.float64)


def ceilings(model: ModelProto, name: str, times: float) -> Array:
    values = values_of(model, name)
    return np.asarray(np.maximum(values.mean(axis=(0, 2, 3)) + times * values.std(axis=(0, 2, 3)), 0))


# --- what it does -------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [0.5, 2.0])
def test_a_folded_convolution_is_capped_at_what_its_inputs_reach(times: float, tmp_path: Path) -> None:
    model = network()
    result = calibrated(model, archive(tmp_path), times)
    (cap,) = (node for node in result.model.graph.node if node.op_type == "Min")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in result.model.graph.initializer}
    np.testing.assert_allclose(stored[cap.input[1]].reshape(-1), ceilings(model, "c", times), rtol=1e-4)
    assert [n.op_type for n in result.model.graph.node][:3] == ["Conv", "Relu", "Min"]
    caps = result.report.caps
    assert caps is not None
    assert (caps.capped, caps.left) == (1, ())
    assert [(v.name, v.source) for v in caps.values] == [("c", "calibration (37 inputs)")]
    assert [(o.name, len(o.type.tensor_type.shape.dim)) for o in result.model.graph.output] == [("y", 2)]


def test_without_data_the_layer_is_named() -> None:
    result = onnx_clp.clean(network(), CleanConfig(bound_activations=1.0, validate=False))
    assert result.report.caps is not None
    assert result.report.caps.values == ()
    assert [left.name for left in result.report.caps.left] == ["c"]
    assert "--calibrate" in result.report.caps.left[0].sentence


def test_where_a_normalisation_tells_it_is_heard_and_the_rest_is_measured(tmp_path: Path) -> None:
    body = f"a = Conv(x, W) n = BatchNormalization(a, g, g, g, v) b = Relu(n) c = Conv(b, V) r = Relu(c) {HEAD}"
    model = network(body)
    result = calibrated(model, archive(tmp_path))
    assert result.report.caps is not None
    found = {v.name: v.source for v in result.report.caps.values}
    assert found == {"n": "normalisation", "c": "calibration (37 inputs)"}
    limits = {n.input[1]: n.output[0] for n in result.model.graph.node if n.op_type == "Min"}
    stored = {t.name: onnx.numpy_helper.to_array(t).reshape(-1) for t in result.model.graph.initializer}
    told, measured = (stored[next(k for k, v in limits.items() if v == out)] for out in ("b", "r"))
    np.testing.assert_allclose(told, np.maximum(WEIGHTS["g"] + np.abs(WEIGHTS["g"]), 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(measured, ceilings(model, "c", 1.0), rtol=1e-4)


def test_what_is_measured_is_the_model_before_pruning(tmp_path: Path) -> None:
    loud = {**WEIGHTS, "W": WEIGHTS["W"] * np.where(np.arange(CHANNELS) == 4, 30, 1).reshape(-1, 1, 1, 1)}
    model = network(f"c = Conv(x, W, B) b = Relu(c) d = Conv(b, V) r = Relu(d) {HEAD}")
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(loud[tensor.name].astype(np.float32), tensor.name))
    result = calibrated(model, archive(tmp_path), prune=True, u=2.0)
    assert result.report.layers[0].pruned == (4,)
    (limits,) = (
        onnx.numpy_helper.to_array(t).reshape(-1)
        for t in result.model.graph.initializer
        if t.name.startswith("r_ceiling")
    )
    np.testing.assert_allclose(limits, ceilings(model, "d", 1.0), rtol=1e-3)


@pytest.mark.parametrize("batch", ["n", "5", "1"])
def test_fixed_and_open_batches_measure_the_same(batch: str, tmp_path: Path) -> None:
    model = network(batch=batch, outputs=f"float[{batch},4] y")
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    request = Calibration(
        original=path, model=path, data=archive(tmp_path, x=X[:35]), values={"y": 1}, limits=RunLimits(provider="cpu")
    )
    readings = calibrating.calibrate(request, choose("cpu"), 1 << 30)
    wanted = values_of(network(), "r", X[:35]).mean(axis=(2, 3)) @ WEIGHTS["F"]
    assert readings.inputs == 35
    np.testing.assert_allclose(readings.moments["y"].mean, wanted.mean(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(readings.moments["y"].std, wanted.std(axis=0), rtol=1e-3)


def test_a_rest_that_fills_no_fixed_batch_is_left_out_and_not_counted(tmp_path: Path) -> None:
    result = calibrated(network(batch="5", outputs="float[5,4] y"), archive(tmp_path))
    assert result.report.caps is not None
    assert result.report.caps.values[0].source == "calibration (35 inputs)"


def test_eight_bit_images_and_an_evaluation_files_own_are_taken_as_there(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, X.shape).astype(np.uint8)
    plain = calibrated(network(), archive(tmp_path, x=images.astype(np.float32) / np.float32(255))).model
    for arrays in ({"x_clean": images, "y_clean": np.zeros(37, int)}, {"x": images}):
        found = calibrated(network(), archive(tmp_path, **arrays)).model
        assert found.SerializeToString() == plain.SerializeToString()
    scaled = calibrated(network(), archive(tmp_path, x=images, scale=2.0, offset=np.ones(3))).model
    wanted = calibrated(network(), archive(tmp_path, x=images.astype(np.float32) * 2 + 1)).model
    assert scaled.SerializeToString() == wanted.SerializeToString() != plain.SerializeToString()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    data = archive(tmp_path)
    one, two = (calibrated(network(), data).model.SerializeToString() for _ in range(2))
    assert one == two


def test_a_sweep_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Calibration] = []
    real = child.calibrate

    def counted(request: Calibration) -> Readings:
        asked.append(request)
        return real(request)

    monkeypatch.setattr("onnx_clp.validation.child.calibrate", counted)
    result = calibrated(network(), archive(tmp_path), prune=True, sweep=(1.0, 2.0))
    assert len(asked) == 1
    assert asked[0].values == {"c": 3}
    assert result.report.sweep is not None
    assert all(not point.failure for point in result.report.sweep.points)


def test_the_parent_imports_no_runtime(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
    code = (
        "import onnx_clp, pathlib\n"
        f"folder = pathlib.Path(r'{tmp_path}')\n"
        "config = onnx_clp.CleanConfig(bound_activations=1.0, calibrate=folder / 'data.npz', budget=1)\n"
        "assert onnx_clp.clean(folder / 'm.onnx', config).report.caps.capped == 1"
    )
    archive(tmp_path)
    assert "onnxruntime" not in loaded(code)


# --- what is left out ---------------------------------------------------------------------------------

QUANTISED = (
    "s = Constant<value_float = 0.1>() z = Constant<value = int8 {0}>() "
    "c = Conv(x, W) a = Relu(c) b = QuantizeLinear(a, s, z) d = DequantizeLinear(b, s, z) e = Conv(d, V) r = Relu(e) "
)
GATE = "p0 = GlobalAveragePool(a) c = Conv(p0, U) h = Sigmoid(c) m = Mul(a, h) e = Conv(m, V) r = Relu(e) "
NESTED = (
    "t = Constant<value = bool {1}>() "
    "e = If(t)<then_branch = a () => (o) { c = Conv(x, W) o = Relu(c) }, else_branch = b () => (o2) "
    "{ c2 = Conv(x, W) o2 = Relu(c2) }> i = Conv(e, V) r = Relu(i) "
)


@pytest.mark.parametrize(
    ("body", "outputs", "left", "words"),
    [
        (QUANTISED + HEAD, "float[n,4] y", {"c"}, "quantised"),
        (f"a = Conv(x, W) {GATE}{HEAD}", "float[n,4] y", {"c"}, "scales other channels"),
        (NESTED + HEAD, "float[n,4] y", {"c", "c2"}, "nested graph"),
        ("a = Conv(x, W) r = Relu(a) y = Conv(r, V)", f"float[n,{CHANNELS},5,5] y", {"y"}, "they are the answer"),
    ],
    ids=["into a quantiser", "gate", "nested", "head"],
)
def test_what_is_not_measured_is_named_and_the_rest_is_capped(
    body: str, outputs: str, left: set[str], words: str, tmp_path: Path
) -> None:
    caps = calibrated(network(body, outputs=outputs), archive(tmp_path)).report.caps
    assert caps is not None
    assert caps.capped >= 1
    assert {item.name for item in caps.left} == left
    assert all(words in item.sentence for item in caps.left)
    assert not {value.name for value in caps.values} & left


def test_a_value_that_is_not_finite_gets_no_cap(tmp_path: Path) -> None:
    caps = calibrated(network(), archive(tmp_path, x=np.full(X.shape, 3e38, np.float32))).report.caps
    assert caps is not None
    assert caps.capped == 0
    assert "not finite" in caps.left[0].sentence


# --- inputs that look wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "narrow"),
    [
        ((), False),
        ((4, 3, 2, 4, 3, 5, 1, 4, 2, 4), False),
        ((60, 4, 0, 0, 0, 0, 0, 0, 0, 0), True),
        ((20, 20, 24, 0, 0, 0, 0, 0, 0, 0), True),
        ((64, 0), False),
        ((1,) * 60 + (0,) * 940, False),
        ((30, 30) + (0,) * 998, True),
    ],
    ids=["no classes", "all", "one of ten", "three of ten", "two classes in all", "60 of 1000", "2 of 1000"],
)
def test_inputs_are_narrow_where_they_fall_into_few_of_many_classes(classes: tuple[int, ...], narrow: bool) -> None:
    assert Readings(sum(classes), {}, classes).narrow == narrow


def test_narrow_inputs_are_a_finding_and_wide_ones_none(tmp_path: Path) -> None:
    head = HEAD.replace("y =", "z =")
    body = f"u = GlobalAveragePool(x) y = Flatten(u) c = Conv(x, W, B) r = Relu(c) {head}"
    model = network(body, outputs="float[n,3] y, float[n,4] z")
    classes = X.mean(axis=(2, 3)).argmax(axis=1)
    assert np.bincount(classes).min() > 5
    one = calibrated(model, archive(tmp_path, x=X[classes == 1])).report
    (finding,) = (f for f in one.findings if f.kind == "calibration")
    assert f"{np.count_nonzero(classes == 1)} inputs the same one of 3 classes" in finding.sentence
    many = calibrated(model, archive(tmp_path)).report
    assert [f for f in many.findings if f.kind == "calibration"] == []


# --- sums, batches and the wire -----------------------------------------------------------------------


def test_sums_of_batches_are_the_moments_of_all_even_far_from_0() -> None:
    values = np.random.default_rng(0).normal(1e6, 0.01, (50, 4, 3, 2))
    sums = calibrating.Sums()
    for part in np.split(values, [1, 20, 20, 33]):
        sums.add(part, 3)
    found = sums.moments()
    np.testing.assert_allclose(found.mean, values.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(found.std, values.std(axis=(0, 2, 3)), rtol=1e-5)


def test_sums_of_nothing_and_of_nan_are_nan() -> None:
    sums = calibrating.Sums()
    assert np.isnan(sums.moments().std).all()
    sums.add(np.full((2, 3, 4), np.nan), 2)
    sums.add(np.ones((2, 3, 4)), 2)
    assert np.isnan(sums.moments().std).all()


class Scarce:
    """A runner that holds no more than so many images at once; its output is its input."""

    provider = "test"

    def __init__(self, most: int, kind: FailureKind) -> None:
        self.placed: Mapping[str, int] = {}
        self.inputs: Signature = ()
        self.outputs: Signature = ()
        self.most, self.kind = most, kind

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        assert wanted is None
        if len(feeds["x"]) > self.most:
            raise RunError(self.kind, "too much")
        return dict(feeds)


@pytest.mark.parametrize("kind", [FailureKind.MEMORY, FailureKind.REFUSED])
def test_a_batch_that_is_too_much_is_cut_to_single_inputs(kind: FailureKind, tmp_path: Path) -> None:
    material = calibrating.load(archive(tmp_path), [SPEC], 1 << 20)
    for most in (16, 1):
        readings = calibrating._measure(Scarce(most, kind), material, {"x": 3})
        assert readings.inputs == 37
        np.testing.assert_allclose(readings.moments["x"].mean, X.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    with pytest.raises(RunError):
        calibrating._measure(Scarce(0, kind), material, {"x": 3})


def test_requests_and_answers_survive_the_wire(tmp_path: Path) -> None:
    request = Calibration(
        original=tmp_path / "a",
        model=tmp_path / "b",
        data=tmp_path / "c",
        values={"v": 3},
        limits=RunLimits(memory=5, timeout=2.0),
    )
    assert decode(Calibration, encode(request)) == request
    readings = Readings(3, {"v": Moments((1.0, float("inf")), (0.5, 2.0))}, (1, 0, 2))
    assert decode(Readings, encode(readings)) == readings


def test_too_little_memory_and_a_broken_model_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    request = Calibration(
        original=path, model=path, data=archive(tmp_path), values={"c": 3}, limits=RunLimits(provider="cpu")
    )
    with pytest.raises(NotValidated, match=r"m\.onnx: not validated because") as broken:
        child.calibrate(request)
    assert "\n" not in str(broken.value)
    onnx.save(network(), path)
    with pytest.raises(NotValidated, match=r"m\.onnx: not validated because .*memory"):
        child.calibrate(replace(request, limits=RunLimits(provider="cpu", memory=1 << 20)))
    with pytest.raises(NotValidated, match=r"longer than 0\.01 s"):
        child.calibrate(replace(request, limits=RunLimits(provider="cpu", timeout=0.01)))


# --- data that cannot be used -------------------------------------------------------------------------


def changed(at: tuple[int, ...], value: float) -> Array:
    array = X.copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": X}, "x is missing; this model needs x or x_clean"),
        ({"x": X[:0]}, r"x has shape \(0, 3, 9, 9\), not \(inputs, ...\) with at least one"),
        ({"x": np.float32(1)}, r"x has shape \(\)"),
        ({"x": X[:, :, :8]}, r"inputs of shape 3,8,9, the model's input x takes n,3,9,9"),
        ({"x": X[0]}, "the model's input x takes n,3,9,9"),
        ({"x": changed((1, 2, 3, 4), np.nan)}, "x holds NaN or infinite"),
        ({"x": changed((1, 2, 3, 4), -np.inf)}, "x holds NaN or infinite"),
        ({"x": np.array([{"a": 1}], object)}, "cannot be read as an .npz archive of plain arrays"),
        ({"x": np.full((2, 3, 9, 9), "a")}, "x has type <U1, not numbers"),
        ({"x": X.astype(complex)}, "x has type complex"),
        ({"x": np.zeros(X.shape, np.uint8), "scale": np.ones(7)}, "scale holds 7 numbers"),
        ({"x": X, "offset": np.array(np.nan)}, "offset must be a finite number"),
    ],
    ids=lambda v: "" if isinstance(v, dict) else v[:24],
)
def test_data_that_does_not_fit_is_refused_in_one_line(arrays: dict[str, Array], words: str, tmp_path: Path) -> None:
    path = archive(tmp_path, **arrays)
    with pytest.raises(UsageError, match=words) as refused:
        calibrating.load(path, [SPEC], 1 << 20).batch(0, 2)
    assert str(refused.value).startswith(f"--calibrate {path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arrays", "specs", "words"),
    [
        ({"a": X}, [replace(SPEC, name="a"), replace(SPEC, name="b")], "b is missing; this model needs a, b"),
        ({"x": X}, [], "a model without inputs"),
        ({"a": X, "b": X[:5]}, [replace(SPEC, name="a"), replace(SPEC, name="b")], "arrays of 5 and 37 rows"),
        ({"x": X}, [replace(SPEC, elem_type=TensorProto.INT64)], "x holds fractions, the model takes int64"),
        ({"x": X}, [replace(SPEC, elem_type=0)], "takes no numbers"),
        ({"x": X}, [replace(SPEC, elem_type=TensorProto.STRING)], "takes no numbers"),
        ({"x": X}, [replace(SPEC, shape=(64, 3, 9, 9))], "holds 37 rows, the model takes 64 at a time"),
    ],
    ids=lambda v: v[:20] if isinstance(v, str) else "",
)
def test_a_model_it_cannot_be_fed_to_is_refused(
    arrays: dict[str, Array], specs: list[InputSpec], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        calibrating.load(archive(tmp_path, **arrays), specs, 1 << 20)


@pytest.mark.parametrize(
    ("arrays", "specs"),
    [
        ({"x": X}, [SPEC]),
        ({"x_clean": X, "x_triggered": X * np.nan}, [SPEC]),
        ({"image": X, "x": X * np.nan}, [replace(SPEC, name="image")]),
        ({"x": X}, [replace(SPEC, name="image", shape=None)]),
        ({"a": X, "b": np.zeros((37, 2), int)}, [replace(SPEC, name="a"), InputSpec("b", TensorProto.INT64, ("n", 2))]),
    ],
    ids=["x", "x_clean alone is read", "the input's own name first", "open rank", "two inputs"],
)
def test_data_that_fits_is_taken(arrays: dict[str, Array], specs: list[InputSpec], tmp_path: Path) -> None:
    material = calibrating.load(archive(tmp_path, **arrays), specs, 1 << 20)
    assert set(material.arrays) == {spec.name for spec in specs}
    assert all(np.isfinite(array).all() for array in material.batch(0, 37).values())
    assert material.rows == 37


def test_what_unpacks_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((100, 3, 99, 99), np.float32), other=np.zeros(1))
    assert path.stat().st_size < 100_000
    with pytest.raises(UsageError, match=r"unpacks to 11,761,[0-9]+ bytes, above the limit of 1,048,576"):
        calibrating.load(path, [SPEC], 1 << 20)
    np.savez_compressed(path, x=X, other=np.zeros((5, 1000, 1000)))
    assert calibrating.load(path, [SPEC], 1 << 20).rows == 37


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    lie = io.BytesIO()
    np.lib.format.write_array_header_1_0(lie, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 3, 9, 9)})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as file:
        file.writestr("x.npy", lie.getvalue() + bytes(20))
    with pytest.raises(UsageError, match="x promises 972,000,000,000 bytes and holds"):
        calibrating.load(tmp_path / "data.npz", [SPEC], 1 << 20)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"no intact \.npz archive|cannot be read"):
        calibrating.load(tmp_path / "data.npz", [SPEC], 1 << 20)


# --- the command line ---------------------------------------------------------------------------------


def commanded(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main.main([*words, "--no-config", "--provider", "cpu"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_run_says_who_told_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "m.onnx")
    archive(tmp_path)
    words = ["m.onnx", "out.onnx", "--bound-activations", "2", "--calibrate", "data.npz", "--report", "r.json"]
    code, out, _ = commanded(words, capsys)
    assert code == 0
    assert "1 other at mean + 2.5·std by calibration (37 inputs)" in " ".join(out.split())
    caps: Mapping[str, Any] = json.loads(Path("r.json").read_text())["caps"]
    assert caps["values"] == [{"name": "c", "source": "calibration (37 inputs)"}]
    assert "Min" in [node.op_type for node in onnx.load("out.onnx").graph.node]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--calibrate", "data.npz"], "add --bound-activations C"),
        (["--bound-activations", "3", "--calibrate", "data.npz", "--no-validate"], "drop --no-validate"),
        (["--bound-activations", "3", "--calibrate", "none.npz"], "--calibrate none.npz: does not exist"),
        (["--bound-activations", "3", "--calibrate", "."], "--calibrate .: is not a file"),
        (["--bound-activations", "3", "--calibrate", "bad.npz"], "bad.npz: x is missing"),
        (["--bound-activations", "3", "--calibrate", "r.json", "--report", "r.json"], "overwrite the calibration data"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    words: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "m.onnx")
    archive(tmp_path)
    np.savez("bad.npz", z=X)
    code, out, err = commanded(["m.onnx", "out.onnx", *words, "-q"], capsys)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1
    assert not Path("out.onnx").exists()
