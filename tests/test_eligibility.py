"""Which layers without a visible normalisation are judged: zero-keeping, head, gate, each both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_clp.verdicts import LayerStatus
from tests.forms.build import constants, rand
from tests.judging import OUTLIER, cleaned, exposed, layers, network, weight

CONV = "c = Conv<pads=[1,1,1,1]>(x, w, b) "
END = " y = Conv(a, w2)"


def c(value: float) -> Any:
    return np.array(value, np.float32)


KEEPS: dict[str, str] = {
    "nothing": "a = Identity(c)",
    "Relu": "a = Relu(c)",
    "LeakyRelu": "a = LeakyRelu<alpha=0.2>(c)",
    "PRelu": "a = PRelu(c, slope)",
    "Clip from 0": "a = Clip(c, zero, six)",
    "Clip around 0": "a = Clip(c, minus, six)",
    "Clip to 0": "a = Clip(c, minus, zero)",
    "Clip without limits": "a = Clip(c)",
    "Max": "a = Max(c, zero)",
    "Max then Min": "m = Max(c, zero) a = Min(m, six)",
    "Min of a positive": "a = Min(six, c)",
    "Tanh": "a = Tanh(c)",
    "Elu": "a = Elu(c)",
    "Selu": "a = Selu(c)",
    "Celu": "a = Celu(c)",
    "Softsign": "a = Softsign(c)",
    "ThresholdedRelu": "a = ThresholdedRelu(c)",
    "Mish": "a = Mish(c)",
    "HardSwish": "a = HardSwish(c)",
    "Gelu": "a = Gelu(c)",
    "Gelu by tanh": 'a = Gelu<approximate="tanh">(c)',
    "SiLU": "s = Sigmoid(c) a = Mul(c, s)",
    "SiLU, sides exchanged": "s = Sigmoid(c) a = Mul(s, c)",
    "HardSwish by HardSigmoid": "s = HardSigmoid(c) a = Mul(c, s)",
    "HardSwish by Clip": "p = Add(c, three) q = Clip(p, zero, six) r = Mul(c, q) a = Div(r, six)",
    "HardSwish, divided first": "p = Add(c, three) q = Clip(p, zero, six) r = Div(q, six) a = Mul(c, r)",
    "Gelu by Erf": "d = Div(c, root) e = Erf(d) f = Add(e, one) g = Mul(c, f) a = Mul(g, half)",
    "MaxPool before Relu": "m = MaxPool<kernel_shape=[2,2]>(c) a = Relu(m)",
    "AveragePool": "a = AveragePool<kernel_shape=[2,2]>(c)",
    "Transposes": "t = Transpose<perm=[0,2,3,1]>(c) r = Relu(t) a = Transpose<perm=[0,3,1,2]>(r)",
    "Concat": "k = Conv<pads=[1,1,1,1]>(x, wk) m = Concat<axis=1>(c, k) r = Relu(m) a = Conv(r, wm)",
    "Split": "p, q = Split<axis=1, num_outputs=2>(c) r = Relu(p) s = Relu(q) a = Concat<axis=1>(r, s)",
    "a sum with data": "k = Conv<pads=[1,1,1,1]>(x, wk) m = Add(c, k) a = Relu(m)",
    "a sum with data, then Sigmoid": "k = Conv<pads=[1,1,1,1]>(x, wk) m = Add(c, k) a = Sigmoid(m)",
    "a product with a gate": "k = Conv<pads=[1,1,1,1]>(x, wk) s = Sigmoid(k) a = Mul(c, s)",
    "a negative constant before Relu": "m = Add(c, below) a = Relu(m)",
    "a factor": "m = Mul(c, map) a = Relu(m)",
    "Neg": "m = Neg(c) a = Relu(m)",
    "Dropout": "m = Dropout(c) a = Relu(m)",
    "Cast": "m = Cast<to=11>(c) n = Cast<to=1>(m) a = Relu(n)",
    "Abs": "a = Abs(c)",
    "Asinh": "a = Asinh(c)",
    "Shrink": "a = Shrink(c)",
    "IsNaN": "n = IsNaN(c) a = Cast<to=1>(n)",
    "GlobalLpPool": "g = GlobalLpPool(c) a = Relu(g)",
    "LpPool": "p = LpPool<kernel_shape=[2,2]>(c) a = Relu(p)",
    "Max of three": "k = Conv<pads=[1,1,1,1]>(x, wk) a = Max(c, k, zero)",
    "GatherElements": "n = GatherElements<axis=3>(c, columns) a = Relu(n)",
    "QuickGelu": "a = com.microsoft.QuickGelu(c)",
    "quantised by ONNX Runtime's own": (
        "q = com.microsoft.QuantizeLinear(c, one, byte) d = com.microsoft.DequantizeLinear(q, one, byte) a = Relu(d)"
    ),
}

LOSES: dict[str, str] = {
    "Sigmoid": "a = Sigmoid(c)",
    "HardSigmoid": "a = HardSigmoid(c)",
    "Softplus": "a = Softplus(c)",
    "Exp": "a = Exp(c)",
    "Clip above 0": "a = Clip(c, one, six)",
    "Clip below 0": "a = Clip(c, low, minus)",
    "Max with a positive": "a = Max(c, one)",
    "Min with a negative": "a = Min(c, minus)",
    "a positive constant before Relu": "m = Add(c, map) a = Relu(m)",
    "a positive constant and nothing more": "a = Add(c, map)",
    "a constant taken from, before Relu": "m = Sub(map, c) a = Relu(m)",
    "Sigmoid behind GatherElements": "n = GatherElements<axis=3>(c, columns) a = Sigmoid(n)",
    "Sigmoid behind GlobalLpPool": "g = GlobalLpPool(c) a = Sigmoid(g)",
    "Sigmoid on one of two ways": "r = Relu(c) s = Sigmoid(c) a = Add(r, s)",
    "Sigmoid behind MaxPool": "m = MaxPool<kernel_shape=[2,2]>(c) a = Sigmoid(m)",
    "Sigmoid behind Concat": (
        "k = Conv<pads=[1,1,1,1]>(x, wk) m = Concat<axis=1>(c, k) r = Sigmoid(m) a = Conv(r, wm)"
    ),
}

UNKNOWN: dict[str, str] = {
    "LpPool of a negative constant": "m = Add(c, below) p = LpPool<kernel_shape=[2,2]>(m) a = Relu(p)",
    "a bias that pruning does not reach": "t = Transpose<perm=[0,2,3,1]>(c) e = com.microsoft.BiasGelu(t, twelve) "
    "a = Transpose<perm=[0,3,1,2]>(e)",
    "what takes its size out again, behind a factor": "m = Mul(c, map) a = InstanceNormalization(m, twelve, twelve)",
    "what takes its size out again, behind a part": (
        "m = Slice(c, first, eight, two) n = Neg(m) a = InstanceNormalization(n, twelve, twelve)"
    ),
    "a product over places": "a = ReduceProd(c, space)",
}

GIVEN: dict[str, Any] = {
    "twelve": np.ones(12, np.float32),
    "first": np.zeros(1, np.int64),
    "columns": np.zeros((1, 12, 8, 2), np.int64),
    "eight": np.array([6], np.int64),
    "two": np.array([2], np.int64),
    "space": np.array([2, 3], np.int64),
    "byte": np.uint8(0),
    "zero": c(0),
    "one": c(1),
    "half": c(0.5),
    "three": c(3),
    "six": c(6),
    "minus": c(-1),
    "low": c(-6),
    "root": c(np.sqrt(2)),
    "slope": np.full((12, 1, 1), 0.3, np.float32),
    "wk": weight(12, 3, 3, 3, seed=8, outlier=None),
    "wm": weight(12, 24, 1, 1, seed=9, outlier=None),
    "map": np.full((1, 1, 8, 8), 0.7, np.float32),
    "below": np.full((1, 1, 8, 8), -0.7, np.float32),
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in KEEPS.items()])
def test_zero_stays_zero_so_the_layer_is_judged(body: str) -> None:
    result = cleaned(network(CONV + body + END, **GIVEN))
    found = layers(result)["c"]
    assert found.status is LayerStatus.JUDGED, found.reason
    assert found.pruned == (OUTLIER,)
    assert (exposed(result.model, "c")["c"][:, OUTLIER] == 0).all()


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in LOSES.items()])
def test_zero_becomes_something_else_so_the_layer_is_not_judged(body: str) -> None:
    proto = network(CONV + body + END, **GIVEN)
    result = cleaned(proto)
    found = layers(result)["c"]
    assert found.status is LayerStatus.NOT_ZERO_KEEPING
    assert found.reason
    assert found.pruned == ()
    assert result.model == proto


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in UNKNOWN.items()])
def test_what_cannot_be_told_of_a_silent_channel_is_not_judged(body: str) -> None:
    proto = network(CONV + body + END, **GIVEN)
    result = cleaned(proto)
    found = layers(result)["c"]
    assert found.status is LayerStatus.UNJUDGEABLE
    assert found.reason
    assert result.model == proto


def test_a_constant_of_one_per_channel_is_the_bias_and_asks_nothing_more() -> None:
    """Added before a Relu it is folded, so the silent channel is 0 behind it."""
    body = CONV + "m = Add(c, k) a = Relu(m)" + END
    result = cleaned(network(body, k=np.abs(rand(1, 12, 1, 1)) + 1))
    found = layers(result)["c"]
    assert found.status is LayerStatus.JUDGED
    assert found.pruned == (OUTLIER,)
    assert (exposed(result.model, "m")["m"][:, OUTLIER] == 0).all()


# --- head ---------------------------------------------------------------------------------------------

HEADS = {
    "nothing": CONV + "y = Identity(c)",
    "Relu": CONV + "y = Relu(c)",
    "pool and softmax": CONV + "g = GlobalAveragePool(c) f = Flatten(g) y = Softmax(f)",
    "concat": CONV + "k = Conv<pads=[1,1,1,1]>(x, wk) y = Concat<axis=1>(c, k)",
    "sum": CONV + "k = Conv<pads=[1,1,1,1]>(x, wk) y = Add(c, k)",
    "reshape and transpose": CONV + "t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, shape)",
    "argmax": CONV + "m = ArgMax<axis=1>(c) y = Cast<to=1>(m)",
    "one of two ways": CONV + "r = Relu(c) y0 = Identity(r) y = Conv(r, w2)",
    "scaled": CONV + "y = Mul(c, map)",
    "sum of several": CONV + "k = Conv<pads=[1,1,1,1]>(x, wk) y = Sum(c, k)",
    "larger than a number": CONV + "g = Greater(c, zero) y = Cast<to=1>(g)",
    "sum of squares over places": CONV + "y = ReduceSumSquare(c, space)",
}
NO_HEADS = {
    "Gemm": CONV + "r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm(f, wg)",
    "MatMul": CONV + "r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = MatMul(f, wg)",
    "Conv": CONV + "r = Relu(c) y = Conv(r, w2)",
    "resize and Conv": CONV + "r = Relu(c) u = Resize(r, , scales) y = Conv(u, w2)",
}
MORE = GIVEN | {
    "shape": np.array([1, -1, 12], np.int64),
    "wg": weight(12, 5, seed=5, outlier=None),
    "scales": np.array([1, 1, 2, 2], np.float32),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_not_judged(name: str) -> None:
    two = name == "one of two ways"
    proto = network(HEADS[name], y="float[1,4,8,8] y, float[1,12,8,8] y0" if two else "", **MORE)
    found = layers(cleaned(proto))["c"]
    assert found.status is LayerStatus.HEAD
    assert found.pruned == ()


@pytest.mark.parametrize("name", NO_HEADS)
def test_a_layer_before_another_linear_layer_is_no_head(name: str) -> None:
    found = layers(cleaned(network(NO_HEADS[name], **MORE)))["c"]
    assert found.status is LayerStatus.JUDGED
    assert found.pruned == (OUTLIER,)


IF = """
go = Greater(total, none)
v = If(go) <
  then_branch = t () => (float[1,12,8,8] th) { th = Conv<pads=[1,1,1,1]>(x, w, b) },
  else_branch = e () => (float[1,12,8,8] el) { el = Conv<pads=[1,1,1,1]>(x, wk) } >
"""
LEVEL = "total = ReduceSum<keepdims=0>(x) none = Constant<value = float {0.0}>() "


def test_the_head_is_found_through_the_branches_of_an_if() -> None:
    last = network(LEVEL + IF + " y = Relu(v)", wk=weight(12, 3, 3, 3, seed=8))
    found = layers(cleaned(last))
    assert found["th"].status is LayerStatus.HEAD
    assert found["el"].status is LayerStatus.HEAD


def test_a_layer_in_a_branch_is_no_head_when_a_layer_follows_the_if() -> None:
    inner = network(LEVEL + IF + " r = Relu(v) y = Conv(r, w2)", wk=weight(12, 3, 3, 3, seed=8))
    result = cleaned(inner)
    found = layers(result)
    for name in ("th", "el"):
        assert found[name].status is LayerStatus.JUDGED
        assert found[name].pruned == (OUTLIER,)
    assert (exposed(result.model, "v")["v"][:, OUTLIER] == 0).all()
    assert found["y"].status is LayerStatus.HEAD


# --- gate ---------------------------------------------------------------------------------------------

SE = (
    "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) p = GlobalAveragePool(r) s = Conv(p, ws, bs) t = Relu(s) "
    "e = Conv(t, we, be) {gate} m = Mul({sides}) y = Conv(m, w2)"
)
GATES = {
    "Sigmoid": "g = Sigmoid(e)",
    "HardSigmoid": "g = HardSigmoid(e)",
    "Add, Clip, Div": "g1 = Add(e, three) g2 = Clip(g1, zero, six) g = Div(g2, six)",
    "Add, Clip, Mul": "g1 = Add(e, three) g2 = Clip(g1, zero, six) g = Mul(g2, sixth)",
    "Sigmoid twice as large": "g1 = Sigmoid(e) g = Mul(g1, two)",
}
SQUEEZE: dict[str, Any] = GIVEN | {
    "ws": weight(14, 12, 1, 1, seed=10),
    "bs": rand(14, seed=11),
    "we": weight(12, 14, 1, 1, seed=12),
    "be": rand(12, seed=13),
    "sixth": c(1 / 6),
    "two": c(2),
}


@pytest.mark.parametrize("sides", ["r, g", "g, r"])
@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_not_judged_but_the_layers_around_it_are(gate: str, sides: str) -> None:
    found = layers(cleaned(network(SE.format(gate=GATES[gate], sides=sides), **SQUEEZE)))
    assert found["e"].status is LayerStatus.GATE
    assert found["e"].pruned == ()
    assert found["s"].status is LayerStatus.JUDGED
    assert found["s"].pruned == (OUTLIER,)
    assert found["c"].status is LayerStatus.JUDGED
    assert found["c"].pruned == (OUTLIER,)


def test_an_excitation_by_relu_is_a_candidate() -> None:
    """A channel whose factor is 0 is switched off, which is what pruning means."""
    found = layers(cleaned(network(SE.format(gate="g = Relu(e)", sides="r, g"), **SQUEEZE)))
    assert found["e"].status is LayerStatus.JUDGED
    assert found["e"].pruned == (OUTLIER,)


def test_weights_a_constant_would_need_are_nodes_too() -> None:
    """Limits held by Constant nodes are read as initializers are."""
    body = constants({"lo": c(1), "hi": c(6)}) + CONV + "a = Clip(c, lo, hi)" + END
    assert layers(cleaned(network(body)))["c"].status is LayerStatus.NOT_ZERO_KEEPING
    body = constants({"lo": c(0), "hi": c(6)}) + CONV + "a = Clip(c, lo, hi)" + END
    assert layers(cleaned(network(body)))["c"].status is LayerStatus.JUDGED
