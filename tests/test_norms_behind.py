"""Normalisations behind other operators on each channel: the same channels as before them, or not judged, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnx_clp.verdicts import LayerStatus
from tests.forms.build import rand
from tests.judging import OUTLIER, cleaned, exposed, layers, network, weight

CHANNELS = 12
LARGE = 3
"""The channel whose weights are large and whose variance takes that out again."""


def norm() -> dict[str, Any]:
    """A BatchNormalization that makes OUTLIER the channel that stands out, and LARGE one like the others."""
    scale, variance = np.ones(CHANNELS, np.float32), np.ones(CHANNELS, np.float32)
    scale[OUTLIER], variance[LARGE] = 30, 900
    shift = np.full(CHANNELS, 0.5, np.float32)
    return {"g": scale, "s": shift, "m": rand(CHANNELS, seed=6), "v": variance}


GIVEN: dict[str, Any] = norm() | {
    "w": weight(CHANNELS, 3, 3, 3, outlier=LARGE),
    "wd": np.abs(rand(CHANNELS, 1, 1, 1, seed=7)) + 0.5,
    "wk": weight(CHANNELS, 3, 3, 3, seed=8, outlier=None),
    "we": weight(CHANNELS, CHANNELS, 1, 1, seed=9, outlier=None),
    "space": np.array([2, 3], np.int64),
    "end": np.array([7], np.int64),
    "high": np.array([2], np.int64),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "around": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "one": np.array([1], np.int64),
    "two": np.array(2, np.float32),
    "tiny": np.array(1e-5, np.float32),
    "back": np.array([-1, CHANNELS, 1, 1], np.int64),
    "grid": np.array([0, CHANNELS, 8, 8], np.int64),
    "open": np.array([0, 0, -1], np.int64),
}
CONV = "c = Conv<pads=[1,1,1,1]>(x, w) "
BATCH = " n = BatchNormalization(a, g, s, m, v) r = Relu(n) p = GlobalAveragePool(r) y = Conv(p, w2)"
INSTANCE = " n = InstanceNormalization(a, g, s) r = Relu(n) p = GlobalAveragePool(r) y = Conv(p, w2)"
PLAIN = " r = Relu(a) p = GlobalAveragePool(r) y = Conv(p, w2)"

ALONE = {
    "nothing": "a = Identity(c)",
    "MaxPool": "a = MaxPool<kernel_shape=[2,2]>(c)",
    "AveragePool": "a = AveragePool<kernel_shape=[2,2]>(c)",
    "LpPool": "a = LpPool<kernel_shape=[2,2]>(c)",
    "GlobalAveragePool": "a = GlobalAveragePool(c)",
    "GlobalMaxPool": "a = GlobalMaxPool(c)",
    "Flatten": "q = GlobalAveragePool(c) f = Flatten(q) a = Reshape(f, back)",
    "Reshape": "q = GlobalAveragePool(c) a = Reshape(q, back)",
    "Reshape to the same": "a = Reshape(c, grid)",
    "Resize": "a = Resize(c, , twice)",
    "Pad": "a = Pad(c, around)",
    "Slice": "a = Slice(c, one, end, high)",
    "ReduceMean": "a = ReduceMean(c, space)",
    "ReduceSum": "a = ReduceSum(c, space)",
    "ReduceL2": "a = ReduceL2(c, space)",
    "Sum of one": "a = Sum(c)",
    "Mean of itself": "a = Mean(c, c)",
    "twice itself": "a = Add(c, c)",
    "Einsum that keeps": 'a = Einsum<equation="nchw->nchw">(c)',
    "TopK": "a, i = TopK(c, one)",
    "Neg": "a = Neg(c)",
    "Mul by one number": "a = Mul(c, two)",
}
TURNED = {
    "Relu": "a = Relu(c)",
    "Tanh": "a = Tanh(c)",
    "square": "a = Mul(c, c)",
    "square by Pow": "a = Pow(c, two)",
    "root of the absolute": "q = Abs(c) a = Sqrt(q)",
    "depthwise Conv": f"a = Conv<group={CHANNELS}>(c, wd)",
}
WRITTEN = {
    "InstanceNormalization": "u = ReduceMean(c, space) d = Sub(c, u) q = Mul(d, d) k = ReduceMean(q, space) "
    "l = Add(k, tiny) o = Sqrt(l) a = Div(d, o)",
    "LayerNormalization": "u = ReduceMean(c, one) d = Sub(c, u) q = Mul(d, d) k = ReduceMean(q, one) "
    "l = Add(k, tiny) o = Sqrt(l) a = Div(d, o)",
    "length": "k = ReduceL2(c, space) a = Div(c, k)",
    "maximum": "k = GlobalMaxPool(c) a = Div(c, k)",
    "softmax": "e = Exp(c) k = ReduceSum(e, one) a = Div(e, k)",
}
NOT_WRITTEN = {
    "a difference with data": "k = Conv<pads=[1,1,1,1]>(x, wk) a = Sub(c, k)",
    "divided by one number": "a = Div(c, two)",
    "an excitation": "q = GlobalAveragePool(c) e = Conv(q, we) o = Sigmoid(e) a = Mul(c, o)",
}


def made(body: str) -> ModelProto:
    return network(CONV + body, **GIVEN)


@pytest.mark.parametrize("name", ALONE)
def test_a_batch_normalization_behind_it_counts_or_the_layer_is_not_judged(name: str) -> None:
    result = cleaned(made(ALONE[name] + BATCH))
    found = layers(result)["c"]
    assert (found.status, found.pruned) in [(LayerStatus.JUDGED, (OUTLIER,)), (LayerStatus.UNJUDGEABLE, ())]
    assert found.status is LayerStatus.JUDGED or found.reason
    if found.pruned:
        name = "n" if any("n" in node.output for node in result.model.graph.node) else "c"
        assert (exposed(result.model, name)[name][:, OUTLIER] == 0).all()


@pytest.mark.parametrize("name", ["nothing", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "ReduceSum"])
def test_it_is_judged_behind_what_only_pools_or_moves(name: str) -> None:
    assert layers(cleaned(made(ALONE[name] + BATCH)))["c"].pruned == (OUTLIER,)


@pytest.mark.parametrize("name", [*ALONE, *TURNED])
def test_an_instance_normalization_behind_it_makes_the_size_say_nothing(name: str) -> None:
    found = layers(cleaned(made((ALONE | TURNED)[name] + INSTANCE)))["c"]
    assert (found.status, found.pruned) == (LayerStatus.UNJUDGEABLE, ())
    assert "InstanceNormalization" in found.reason


@pytest.mark.parametrize("name", WRITTEN)
def test_a_normalisation_that_is_written_out_is_one(name: str) -> None:
    found = layers(cleaned(made(WRITTEN[name] + PLAIN)))["c"]
    assert found.status in (LayerStatus.UNJUDGEABLE, LayerStatus.NOT_ZERO_KEEPING)
    assert found.pruned == ()
    assert found.reason


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_a_difference_a_quotient_and_an_excitation_are_none(name: str) -> None:
    assert layers(cleaned(made(NOT_WRITTEN[name] + PLAIN)))["c"].pruned == (LARGE,)


@pytest.mark.parametrize("name", ["MaxPool", "Resize", "ReduceSum", "Sum of one", "twice itself", "TopK", "Neg"])
def test_without_a_normalisation_the_weights_alone_count(name: str) -> None:
    assert layers(cleaned(made(ALONE[name] + PLAIN)))["c"].pruned == (LARGE,)
