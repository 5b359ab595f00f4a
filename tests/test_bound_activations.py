"""Caps at beta + C·|gamma|: where they go, what they do, and where none can go."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

import onnx_clp
from onnx_clp.config import CleanConfig
from onnx_clp.errors import UsageError
from onnx_clp.validation.runtime import load_runtime

Array = NDArray[Any]
CHANNELS = 12
RNG = np.random.default_rng(7)
VALUES: dict[str, Array] = {
    "W": RNG.normal(size=(CHANNELS, 3, 3, 3)),
    "g": RNG.normal(size=CHANNELS),
    "b": RNG.normal(size=CHANNELS),
    "m": RNG.normal(size=CHANNELS),
    "v": RNG.uniform(0.5, 2.0, CHANNELS),
}
CONV_BN = "c = Conv(x, W) n = BatchNormalization(c, g, b, m, v)"


def network(body: str, dtype: str = "float", opset: int = 17, batch: str = "1") -> ModelProto:
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> '
        f"net ({dtype}[{batch},3,9,9] x) => ({dtype}[{batch},{CHANNELS},7,7] y) {{ {body} }}"
    )
    model = onnx.parser.parse_model(text)
    kind = np.float16 if dtype == "float16" else np.float32
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(kind), n) for n, a in VALUES.items())
    return model


def capped(model: ModelProto, times: float = 1.0, **options: Any) -> onnx_clp.CleanResult:
    return onnx_clp.clean(model, CleanConfig(bound_activations=times, validate=False, **{"prune": False, **options}))


def outputs(model: ModelProto, kind: Any = np.float32) -> Array:
    x = (5 * np.random.default_rng(0).normal(size=(1, 3, 9, 9))).astype(kind)
    y: Any = ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(y[0])


def session_outputs(model: ModelProto) -> Array:
    x = (5 * np.random.default_rng(0).normal(size=(1, 3, 9, 9))).astype(np.float32)
    onnxruntime = load_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def ceiling(times: float) -> Array:
    return (VALUES["b"] + times * np.abs(VALUES["g"])).reshape(1, -1, 1, 1)


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_a_cap_goes_behind_a_relu_that_is_the_only_consumer(times: float) -> None:
    model = network(f"{CONV_BN} y = Relu(n)")
    result = capped(model, times)
    assert operators(result.model) == ["Conv", "Relu", "Min"]
    wanted = np.minimum(outputs(model), np.maximum(ceiling(times), 0))
    np.testing.assert_allclose(outputs(result.model), wanted, rtol=1e-4, atol=1e-5)
    assert (outputs(result.model) < outputs(model) - 0.1).any()
    assert result.report.caps is not None
    assert (result.report.caps.times, result.report.caps.capped, result.report.caps.left) == (times, 1, ())


SIX = "k = Constant<value_float = 6.0>() z = Constant<value_float = 0.0>()"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("y = LeakyRelu<alpha = 0.5>(n)", ["Conv", "LeakyRelu", "Min"]),
        ("y = LeakyRelu<alpha = -0.5>(n)", ["Conv", "Min", "LeakyRelu"]),
        ("s = Sigmoid(n) y = Mul(n, s)", ["Conv", "Min", "Sigmoid", "Mul"]),
        ("y = HardSwish(n)", ["Conv", "Min", "HardSwish"]),
        (f"{SIX} y = Clip(n, z, k)", ["Constant", "Constant", "Conv", "Clip", "Min"]),
        (f"{SIX} y = Clip(n, k)", ["Constant", "Constant", "Conv", "Min", "Clip"]),
        ("d = Conv(x, W) a = Add(n, d) y = Relu(a)", ["Conv", "Min", "Conv", "Add", "Relu"]),
        ("y = Tanh(n)", ["Conv", "Min", "Tanh"]),
    ],
    ids=["leaky", "leaky turned over", "silu", "hardswish", "relu6", "clip above 0", "residual", "tanh"],
)
def test_a_cap_comes_to_the_same_behind_any_activation(body: str, wanted: list[str]) -> None:
    model = network(f"{CONV_BN} {body}")
    result = capped(model)
    assert sorted(operators(result.model)) == sorted(wanted)
    at_once = network(f"c = Conv(x, W) r = BatchNormalization(c, g, b, m, v) n = Min(r, ceiling) {body}")
    limits = np.maximum(ceiling(1.0)[0], 0).astype(np.float32)
    at_once.graph.initializer.append(onnx.numpy_helper.from_array(limits, "ceiling"))
    np.testing.assert_allclose(outputs(result.model), outputs(at_once), rtol=1e-4, atol=1e-5)
    assert np.abs(outputs(result.model) - outputs(model)).max() > 0.01
    order = operators(result.model)
    assert [op for op in order if op in wanted[-2:]] == wanted[-2:]


@pytest.mark.parametrize(("times", "capped_values"), [(1.0, 1), (50.0, 0)])
def test_a_cap_above_the_clip_behind_it_is_left_out(times: float, capped_values: int) -> None:
    model = network(f"{SIX} {CONV_BN} y = Clip(n, z, k)")
    low = next(t for t in model.graph.initializer if t.name == "g")
    low.CopyFrom(onnx.numpy_helper.from_array(np.ones(CHANNELS, np.float32), "g"))
    result = capped(model, times)
    assert operators(result.model).count("Min") == capped_values
    assert result.report.caps is not None
    assert result.report.caps.capped == capped_values
    assert ("cuts at 6 already" in str(result.report.caps.left)) != bool(capped_values)


def shared(model: ModelProto) -> ModelProto:
    """The model with one limit for all channels: beta 0.25 and |gamma| 0.5."""
    for tensor in model.graph.initializer:
        if tensor.name in "gb":
            values = np.full(CHANNELS, 0.5 if tensor.name == "g" else 0.25, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize("opset", [7, 9, 11, 17])
@pytest.mark.parametrize(
    ("body", "wanted", "low"),
    [
        ("y = Relu(n)", ["Conv", "Clip"], 0.0),
        ("y = Tanh(n)", ["Conv", "Clip", "Tanh"], None),
        ("y = LeakyRelu<alpha = 0.5>(n)", ["Conv", "LeakyRelu", "Clip"], None),
    ],
    ids=["relu", "before", "behind"],
)
def test_one_limit_for_all_channels_becomes_a_clip(body: str, wanted: list[str], low: float | None, opset: int) -> None:
    model = shared(network(f"{CONV_BN} {body}", opset=opset, batch="N"))
    result = capped(model, 3.0).model
    assert operators(result) == wanted
    onnx.checker.check_model(result, full_check=True)
    (clip,) = (node for node in result.graph.node if node.op_type == "Clip")
    assert [len(clip.input), len(clip.attribute)] == ([1, 1 + (low is not None)] if opset < 11 else [3, 0])
    bare = shared(network(CONV_BN.replace("n =", "y ="), opset=17))
    normalised = np.minimum(outputs(bare), 1.75)
    after = {"R": np.maximum(normalised, 0), "T": np.tanh(normalised)}
    expected = after.get(body[4], np.where(normalised < 0, normalised / 2, normalised))
    np.testing.assert_allclose(session_outputs(result), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [10, 11])
def test_one_limit_lowers_the_clip_that_is_there_and_no_other(opset: int) -> None:
    body = "a = Clip<min = 0.0, max = 6.0>(n) d = Conv(x, W) e = Clip<min = 0.0, max = 6.0>(d) y = Add(a, e)"
    later = "a = Clip(n, z, k) d = Conv(x, W) e = Clip(d, z, k) y = Add(a, e)"
    model = shared(network(f"{CONV_BN} {body if opset < 11 else later}", opset=opset))
    for name, value in (("z", 0.0), ("k", 6.0)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    result = capped(model, 3.0).model
    assert operators(result).count("Clip") == 2
    assert "Min" not in operators(result)
    bare = outputs(shared(network(f"{CONV_BN} y = Relu(n)")))
    other = outputs(network("d = Conv(x, W) y = Relu(d)"))
    np.testing.assert_allclose(
        session_outputs(result), np.minimum(bare, 1.75) + np.minimum(other, 6), rtol=1e-4, atol=1e-5
    )


def test_below_opset_8_the_limits_are_spread_over_a_known_shape() -> None:
    result = capped(network(f"{CONV_BN} y = Relu(n)", opset=7))
    assert operators(result.model) == ["Conv", "Relu", "Min"]
    onnx.checker.check_model(result.model, full_check=True)
    wanted = np.minimum(outputs(network(f"{CONV_BN} y = Relu(n)")), np.maximum(ceiling(1.0), 0))
    np.testing.assert_allclose(session_outputs(result.model), wanted, rtol=1e-4, atol=1e-5)


def test_normalisations_before_their_convolution_are_capped_where_they_stay() -> None:
    """A pre-activation block: BatchNormalization > Relu > Conv."""
    body = f"{CONV_BN} r = Relu(n) d = Conv<pads = [1,1,1,1]>(r, V) y = BatchNormalization(d, g, b, m, v)"
    model = network(f"p = BatchNormalization(x, h, h, h, v3) q = Relu(p) {body}".replace("Conv(x, W)", "Conv(q, W)"))
    extra = {"h": np.full(3, 0.5), "v3": np.ones(3), "V": RNG.normal(size=(CHANNELS, CHANNELS, 3, 3))}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in extra.items())
    result = capped(model)
    assert result.report.caps is not None
    assert (result.report.caps.capped, result.report.caps.left) == (3, ())
    assert {value.source for value in result.report.caps.values} == {"normalisation"}
    assert operators(result.model)[:3] == ["BatchNormalization", "Clip", "Conv"]  # 0.5 + 0.5 for every channel


def test_a_value_that_many_normalisations_see_is_capped_behind_each() -> None:
    """A dense block: Conv > Concat with what came before > BatchNormalization."""
    body = "d = Conv(x, W) e = Concat<axis = 1>(c, d) n2 = BatchNormalization(e, g2, g2, g2, v2) r = Relu(n2)"
    model = network(f"{CONV_BN} {body} f = Conv(r, V) y = Add(n, f)")
    extra = {"g2": RNG.normal(size=24), "v2": np.ones(24), "V": RNG.normal(size=(CHANNELS, 24, 1, 1))}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in extra.items())
    result = capped(model)
    assert operators(result.model).count("Min") == 2
    assert operators(result.model).count("BatchNormalization") == 2
    assert result.report.caps is not None
    assert [left.name for left in result.report.caps.left] == ["f"]


def test_a_second_consumer_keeps_the_cap_before_the_relu() -> None:
    result = capped(network(f"{CONV_BN} r = Relu(n) y = Add(n, r)"))
    assert operators(result.model) == ["Conv", "Min", "Relu", "Add"]


def test_a_normalisation_that_stays_is_capped_too() -> None:
    model = network(f"{CONV_BN} r = Relu(c) s = Relu(n) y = Add(r, s)")
    result = capped(model)
    assert "BatchNormalization" in operators(result.model)
    assert operators(result.model).count("Min") == 1
    onnx.checker.check_model(result.model, full_check=True)


def test_float16_keeps_its_type() -> None:
    result = capped(network(f"{CONV_BN} y = Relu(n)", "float16"))
    onnx.checker.check_model(result.model, full_check=True)
    assert outputs(result.model, np.float16).dtype == np.float16
    assert operators(result.model)[-1] == "Min"


def test_a_pruned_channel_stays_exactly_0_under_its_cap() -> None:
    model = network(f"{CONV_BN} y = Relu(n)")
    result = capped(model, u=1.0, prune=True, fill="zero")
    (layer,) = result.report.layers
    assert layer.pruned
    assert not outputs(result.model)[:, list(layer.pruned)].any()
    assert outputs(result.model).any()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (network(f"{CONV_BN} y = Relu(n)", opset=7, batch="N"), "opset 8"),
        (network("c = Conv(x, W) y = Relu(c)"), "no BatchNormalization says"),
        (network(f"{CONV_BN} k = Constant<value_float = 2.0>() y = Mul(n, k)"), "folded together"),
    ],
    ids=["opset 7", "folded by the exporter", "an affine behind it"],
)
def test_what_gets_no_cap_is_named(model: ModelProto, words: str) -> None:
    result = capped(model)
    assert "Min" not in operators(result.model)
    assert result.report.caps is not None
    assert result.report.caps.capped == 0
    assert any(words in left.sentence for left in result.report.caps.left)


def test_training_mode_and_runs_that_do_not_ask_get_none() -> None:
    training = network("c = Conv(x, W) y, p, q = BatchNormalization<training_mode = 1>(c, g, b, m, v)")
    assert "Min" not in operators(capped(training).model)
    plain = onnx_clp.clean(network(f"{CONV_BN} y = Relu(n)"), CleanConfig(validate=False))
    assert "Min" not in operators(plain.model)
    assert plain.report.caps is None


@pytest.mark.parametrize("times", [-1.0, float("nan"), float("inf")])
def test_an_impossible_c_is_refused(times: float) -> None:
    with pytest.raises(UsageError, match="bound_activations"):
        CleanConfig(bound_activations=times)


@pytest.mark.parametrize(("options", "words"), [({"validate": False}, "ONNX Runtime"), ({"budget": 1.0}, "below 1")])
def test_caps_that_the_budget_is_to_choose_need_one_that_is_measured(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CleanConfig(bound_activations=0.0, **options)
    assert CleanConfig(bound_activations=0.0).bound_activations == 0.0


@pytest.mark.parametrize("operator", ["Relu", "Mish", "GlobalMaxPool"])
def test_every_value_of_a_chain_without_recorded_types_is_capped(operator: str) -> None:
    second = "W2 = Transpose<perm = [0, 1, 2, 3]>(W1) d = Conv(a, W2) y = BatchNormalization(d, g, b, m, v)"
    model = network(f"{CONV_BN} a = {operator}(n) {second}", opset=22)
    kernel = RNG.normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "W1"))
    caps = capped(model, cleanup="none").report.caps
    assert caps is not None
    assert (caps.capped, caps.left) == (2, ())


def test_a_second_output_of_another_type_is_not_taken_for_the_first() -> None:
    from onnx_clp.file.store import TensorStore
    from onnx_clp.graph.model import ModelIndex

    model = network("p, at = MaxPool<kernel_shape = [3, 3]>(x) y = Conv(x, W)")
    main = ModelIndex(model, TensorStore()).main
    assert main.element_type("p") == onnx.TensorProto.FLOAT
    assert main.element_type("at") is None
