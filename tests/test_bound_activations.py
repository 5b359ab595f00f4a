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


def network(body: str, dtype: str = "float", opset: int = 17) -> ModelProto:
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> '
        f"net ({dtype}[1,3,9,9] x) => ({dtype}[1,{CHANNELS},7,7] y) {{ {body} }}"
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


def test_without_a_relu_the_cap_goes_behind_the_normalisation_and_is_never_below_0() -> None:
    model = network(f"{CONV_BN} y = LeakyRelu<alpha = 0.5>(n)")
    result = capped(model)
    assert operators(result.model) == ["Conv", "Min", "LeakyRelu"]
    wanted = np.minimum(outputs(model), np.maximum(ceiling(1.0), 0))  # positive values pass LeakyRelu as they are
    np.testing.assert_allclose(outputs(result.model), wanted, rtol=1e-4, atol=1e-5)


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
    result = capped(model, u=1.0, prune=True)
    (layer,) = result.report.layers
    assert layer.pruned
    assert not outputs(result.model)[:, list(layer.pruned)].any()
    assert outputs(result.model).any()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (network(f"{CONV_BN} y = Relu(n)", opset=7), "opset 8"),
        (network("c = Conv(x, W) y = Relu(c)"), "no BatchNormalization tells"),
        (network(f"{CONV_BN} k = Constant<value_float = 2.0>() y = Mul(n, k)"), "folded in"),
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


@pytest.mark.parametrize("times", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_c_is_refused(times: float) -> None:
    with pytest.raises(UsageError, match="bound_activations"):
        CleanConfig(bound_activations=times)
