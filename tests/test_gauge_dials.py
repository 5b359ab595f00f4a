"""A model with dials computes what the edited model computes, for every dose; with all dials off, what folding left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp import CleanConfig
from onnx_clp.document.gauge import Gauge, Loss, Ordinary, Prediction
from onnx_clp.gauge import dosing
from onnx_clp.gauge.dosing import Channel, DialDose
from onnx_clp.gauge.request import CAPS_OFF, Controls, DialSetting, Dosed, Wish
from onnx_clp.modelfile import reader
from onnx_clp.modelfile.staging import complete
from onnx_clp.run.analysis import analyse
from tests.forms.build import bn, model, rand
from tests.judging import OUTLIER, network, weight
from tests.test_quantized import dequantised

Array = NDArray[Any]
Feeds = Mapping[str, Array]

NOTHING = Prediction(Loss(0.0, 0.0, 0.0), ())
GUESSED = 0.7
"""What a channel gives of which nothing is known, in these tests."""


@dataclass(frozen=True)
class Pair:
    """A model with dials and its controls, the folded model, and the edited one; all whole."""

    dials: ModelProto
    controls: Controls
    folded: ModelProto
    edited: ModelProto
    fills: list[Array]

    def answers(self, off: bool, caps: float = CAPS_OFF) -> Feeds:
        """What the model with dials gives with all of its channels off, or none."""
        channels = tuple(
            Channel(number, place, z)
            for number, dial in enumerate(self.controls.dials)
            for place, z in enumerate(dial.switch.z)
            if off
        )
        kinds = {
            d.fill: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(d.switch.data_type)) for d in self.controls.dials
        }
        fed = dosing.feeds(self.controls.dials, self.fills, DialDose(channels), kinds)
        if self.controls.caps_input:
            fed[self.controls.caps_input] = np.array(caps, np.float32)
        return run(self.dials, fed)


def run(proto: ModelProto, more: Feeds | None = None) -> Feeds:
    """The outputs of a model on seeded inputs, by name, without graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = dict(more or {})
    for value in session.get_inputs():
        if value.name not in fed:
            kind = np.float16 if "float16" in value.type else np.float32
            fed[value.name] = np.random.default_rng(0).normal(0, 2, value.shape).astype(kind)
    names = [value.name for value in session.get_outputs()]
    found = session.run(names, fed)
    return {name: np.asarray(array) for name, array in zip(names, found, strict=True)}


def prepared(proto: ModelProto, path: Path, caps: float | None = None, **options: Any) -> Pair:
    """What the tool builds for a model, with every channel that stands out switched off."""
    path.write_bytes(proto.SerializeToString())
    config = CleanConfig(bound_activations=caps, **options)
    asked: list[tuple[ModelProto, Controls]] = []
    fills: list[Array] = []

    with reader.read(path, config.max_size) as file:

        def measure(with_dials: ModelProto, controls: Controls, wish: Wish) -> Dosed:
            asked.append((complete(file, with_dials), controls))
            assert (wish.u, wish.caps, wish.budget) == (config.u, caps, 0.01)
            settings = []
            for dial in controls.dials:
                known = dial.switch.fills or (GUESSED,) * len(dial.switch.outlying)
                fills.append(np.array(known))
                settings.append(DialSetting(dial.switch.value, known, dial.switch.outlying))
            return Dosed(Gauge(Ordinary("noise", 1), 0.01, "", NOTHING), tuple(settings), caps)

        analysis = analyse(file, config, lambda *_: None, gauge=measure)
        (given,) = asked
        return Pair(*given, complete(file, analysis.folded), complete(file, analysis.final), fills)


def close(found: Feeds, wanted: Feeds, tolerance: float) -> None:
    for name, array in wanted.items():
        np.testing.assert_allclose(
            found[name].astype(np.float64),
            array.astype(np.float64),
            atol=tolerance * max(1.0, float(np.abs(array).max())),
            err_msg=name,
        )


def apart(one: Feeds, other: Feeds) -> float:
    return max(float(np.abs(one[n].astype(np.float64) - other[n].astype(np.float64)).max()) for n in other)


NORM = "n = BatchNormalization(c, g, b1, m, v) "


def norm(channels: int = 12, **changes: Any) -> dict[str, Any]:
    given = bn(channels)
    given["b1"] = given.pop("b")
    return given | changes


def norm2(seed: int) -> dict[str, Any]:
    return dict(bn(12, "2", seed=seed))


def half() -> ModelProto:
    weights = {"w": weight(12, 3, 3, 3), "w2": rand(4, 12, 1, 1), **norm()}
    stored = {name: np.asarray(value).astype(np.float16) for name, value in weights.items()}
    body = f"c = Conv(x, w) {NORM} r = Relu(n) y = Conv(r, w2)"
    return model(body, x="float16[1,3,8,8] x", dtype="float16", ir=10, opset=20, **stored)()


def integer(kind: type[np.integer], scale: float = 0.5) -> ModelProto:
    from tests.test_prune_channels import quantised

    q, qs, qz = quantised(weight(12, 3, 3, 3))
    if kind is np.int8:
        q, qz = (q.astype(int) - 128).astype(np.int8), (qz.astype(int) - 128).astype(np.int8)
    zero = 128 if kind is np.uint8 else 3
    body = (
        "xq = QuantizeLinear(x, xs, xz) cq = QLinearConv<pads=[1,1,1,1]>(xq, xs, xz, q, qs, qz, ys, yz, bq) "
        "c = DequantizeLinear(cq, ys, yz) a = Relu(c) y = Conv(a, w2)"
    )
    given: dict[str, Any] = {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(kind(3) if kind is np.int8 else np.uint8(120)),
        "ys": np.array(scale, np.float32),
        "yz": np.array(kind(zero)),
        "bq": np.arange(1, 13, dtype=np.int32) * 100,
    }
    return network(body, q=q, qs=qs, qz=qz, **given)


def split() -> ModelProto:
    body = (
        "c = Conv(x, w) k = Constant<value_ints = [12,12]>() p, q = Split<axis = 1>(c, k) "
        "n = BatchNormalization(p, g, b1, m, v) o = BatchNormalization(q, g2, b2, m2, v2) "
        "r = Relu(n) s = Relu(o) t = Add(r, s) y = Conv(t, w2)"
    )
    values = weight(24, 3, 3, 3)
    values[17] *= 40
    return network(body, w=values, **norm(), **norm2(seed=5))


def joined() -> ModelProto:
    body = (
        "d = Conv(x, w) e = Conv(x, k) c = Concat<axis = 1>(d, e) "
        "n = BatchNormalization(c, g, b1, m, v) r = Relu(n) y = Conv(r, w2)"
    )
    return network(body, k=weight(12, 3, 3, 3, seed=8, outlier=2), **norm(24), w2=rand(4, 24, 1, 1))


MODELS: dict[str, tuple[Callable[[], ModelProto], float]] = {
    "relu": (lambda: network(f"c = Conv(x, w) {NORM} r = Relu(n) y = Conv(r, w2)", **norm()), 1e-5),
    "no activation": (lambda: network(f"c = Conv(x, w) {NORM} y = Conv(n, w2)", **norm()), 1e-5),
    "no normalisation": (lambda: network("c = Conv(x, w) r = Relu(c) y = Conv(r, w2)"), 1e-5),
    "with a bias": (lambda: network("c = Conv(x, w, b) r = Relu(c) y = Conv(r, w2)"), 1e-5),
    "an output itself": (lambda: network(f"c = Conv(x, w) {NORM} y = Identity(n)", **norm()), 1e-5),
    "left in place": (
        lambda: network(f"c = Conv(x, w) {NORM} s = Relu(c) r = Relu(n) t = Add(r, s) y = Conv(t, w2)", **norm()),
        1e-5,
    ),
    "two normalisations": (
        lambda: network(
            f"c = Conv(x, w) {NORM} o = BatchNormalization(c, g2, b2, m2, v2) t = Add(n, o) y = Conv(t, w2)",
            **norm(),
            **norm2(seed=9),
        ),
        1e-5,
    ),
    "left in place, only a factor": (
        lambda: network(
            "c = Conv(x, w) n = Mul(c, k) s = Relu(c) r = Relu(n) t = Add(r, s) y = Conv(t, w2)",
            k=np.abs(rand(12, 1, 1)) + 0.5,
        ),
        1e-5,
    ),
    "transposed": (
        lambda: network(f"c = ConvTranspose(x, w) {NORM} r = Relu(n) y = Conv(r, w2)", w=weight(3, 12, 3, 3, axis=1),
                        **norm()),
        1e-5,
    ),
    "grouped": (
        lambda: network(f"c = Conv<group = 3>(x, w) {NORM} r = Relu(n) y = Conv(r, w2)", w=weight(12, 1, 3, 3),
                        **norm()),
        1e-5,
    ),
    "split": (split, 1e-5),
    "joined": (joined, 1e-5),
    "half precision": (half, 2e-2),
    "dequantised weights": (lambda: loud(dequantised(None, g=np.ones(12, np.float32))), 1e-4),
    "quantised": (lambda: integer(np.uint8), 1e-4),
    "quantised, signed": (lambda: integer(np.int8), 1e-4),
}  # fmt: skip


def loud(proto: ModelProto) -> ModelProto:
    """The model with one channel of its integers larger than the others."""
    stored = next(one for one in proto.graph.initializer if one.name == "q")
    values = onnx.numpy_helper.to_array(stored).copy() // 16
    values[OUTLIER] = onnx.numpy_helper.to_array(stored)[OUTLIER]
    stored.CopyFrom(onnx.numpy_helper.from_array(values, "q"))
    return proto


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, float]:
    make, tolerance = MODELS[request.param]
    return prepared(make(), tmp_path_factory.mktemp("dials") / "m.onnx"), tolerance


def test_with_its_dials_on_it_computes_what_the_edited_model_computes(pair: tuple[Pair, float]) -> None:
    both, tolerance = pair
    assert both.controls.dials
    edited = run(both.edited)
    close(both.answers(off=True), edited, tolerance)
    assert apart(edited, run(both.folded)) > 10 * tolerance


def test_with_its_dials_off_it_computes_what_folding_left(pair: tuple[Pair, float]) -> None:
    both, tolerance = pair
    close(both.answers(off=False), run(both.folded), tolerance / 10)


def test_its_outputs_are_the_models_and_then_what_is_to_be_measured(pair: tuple[Pair, float]) -> None:
    both, _ = pair
    outputs = [value.name for value in both.dials.graph.output]
    wanted = [value.name for value in both.folded.graph.output]
    assert outputs[: len(wanted)] == wanted == list(both.controls.outputs)
    assert {d.before for d in both.controls.dials if d.switch.fills is None} <= set(outputs)


@pytest.mark.parametrize("caps", [0.5, 2.0])
@pytest.mark.parametrize("name", ["relu", "no activation", "left in place", "half precision", "split", "transposed"])
def test_caps_are_those_of_the_edited_model(name: str, caps: float, tmp_path: Path) -> None:
    make, tolerance = MODELS[name]
    both = prepared(make(), tmp_path / "m.onnx", caps)
    assert both.controls.caps_input
    edited = run(both.edited)
    close(both.answers(off=True, caps=caps), edited, tolerance)
    assert apart(both.answers(off=True), edited) > 10 * tolerance
    close(both.answers(off=False), run(both.folded), tolerance / 10)


@pytest.mark.parametrize("name", ["relu", "left in place", "half precision", "quantised"])
def test_zero_fills_are_zero(name: str, tmp_path: Path) -> None:
    make, tolerance = MODELS[name]
    both = prepared(make(), tmp_path / "m.onnx", fill="zero")
    assert all(set(dial.switch.fills or (1.0,)) == {0.0} for dial in both.controls.dials)
    close(both.answers(off=True), run(both.edited), tolerance)


def test_what_is_known_of_a_channel_is_not_measured(tmp_path: Path) -> None:
    known = prepared(MODELS["relu"][0](), tmp_path / "a.onnx")
    (dial,) = known.controls.dials
    assert dial.switch.fills is not None
    assert dial.switch.spreads is not None
    assert dial.before not in [value.name for value in known.dials.graph.output]
    assert known.controls.landmark is not None
    assert len(known.controls.landmark.mean) == 12
    unknown = prepared(MODELS["no normalisation"][0](), tmp_path / "b.onnx")
    (dial,) = unknown.controls.dials
    assert (dial.switch.fills, dial.switch.spreads) == (None, None)
    assert dial.before in [value.name for value in unknown.dials.graph.output]
    assert unknown.controls.landmark is not None
    assert unknown.controls.landmark.mean == ()


def test_names_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    body = f"c = Conv(x, w) {NORM} n_off = Relu(n) n_before = Identity(n_off) y = Conv(n_before, w2)"
    both = prepared(network(body, **norm()), tmp_path / "m.onnx", 2.0)
    close(both.answers(off=True, caps=2.0), run(both.edited), 1e-5)


def test_one_output_alone_counts_where_it_is_named(tmp_path: Path) -> None:
    body = f"c = Conv(x, w) {NORM} r = Relu(n) z = Conv(r, w2) y = Relu(z)"
    proto = network(body, y="float[1,4,6,6] y, float[1,12,6,6] r", **norm())
    assert prepared(proto, tmp_path / "m.onnx").controls.outputs == ("y", "r")
    assert prepared(proto, tmp_path / "n.onnx", output_name="r").controls.outputs == ("r",)


def test_the_model_itself_is_not_touched(tmp_path: Path) -> None:
    proto = MODELS["relu"][0]()
    before = proto.SerializeToString()
    both = prepared(proto, tmp_path / "m.onnx", 2.0)
    assert proto.SerializeToString() == before
    assert [value.name for value in both.edited.graph.input] == ["x"]
    assert "Where" not in [node.op_type for node in both.edited.graph.node]


def test_a_threshold_of_a_sweep_puts_more_channels_on_dials_than_go(tmp_path: Path) -> None:
    values = weight(40, 3, 3, 3)
    values *= np.geomspace(1, 60, 40, dtype=np.float32)[:, None, None, None]
    path = tmp_path / "m.onnx"
    path.write_bytes(
        network("c = Conv(x, w) y = Conv(c, w2)", channels=40, w=values, w2=rand(4, 40, 1, 1)).SerializeToString()
    )
    seen: list[Controls] = []

    def measure(_: ModelProto, controls: Controls, wish: Wish) -> Dosed:
        seen.append(controls)
        none = tuple(DialSetting(d.switch.value, (0.0,) * len(d.switch.outlying), ()) for d in controls.dials)
        return Dosed(Gauge(Ordinary("noise", 1), 0.01, "", NOTHING), none, None, sweep=(NOTHING,) * len(wish.sweep))

    config = CleanConfig(u=2.0)
    with reader.read(path, config.max_size) as file:
        for sweep in ((), (1.0, 3.0)):
            analyse(file, replace(config, sweep=sweep), lambda *_: None, gauge=measure)
    alone, swept = ([one for d in controls.dials for one in d.switch.z] for controls in seen)
    assert min(alone) > 2.0
    assert 1.0 < min(swept) < 2.0
    assert set(alone) < set(swept)
