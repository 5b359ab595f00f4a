"""Straight chains, and what may stand between two layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.compact_models import CHAIN, CONV1, DEAD, HEAD, NO_BIAS, PADDED, STAYS, Array, Row, Weight, bn, dead, filled


def keeps_zero(name: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """A chain whose middle keeps zeros at zero."""
    return Row(f"zero stays zero/{name}", f"{CONV1} {text} {HEAD}", {**CHAIN, **(more or {})}, DEAD, **how)


def moves_zero(name: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """A chain whose middle makes something else of zero, before a layer that pads with zeros."""
    reasons = {"a": how.pop("why", "constant and not zero")}
    kept = {"a": {2, 5}}
    return Row(f"zero moves/{name}", f"{CONV1} {text} {PADDED}", {**CHAIN, **(more or {})}, STAYS, kept, reasons, **how)


def vector(*values: float, shape: tuple[int, ...] = (8, 1, 1)) -> Array:
    return np.asarray(values, np.float32).reshape(shape)


CHAINS = [
    Row("chain/relu", f"{CONV1} r = Relu(a) y = Conv(r, w2)", CHAIN, DEAD),
    Row("chain/no activation", f"{CONV1} y = Conv<pads=[1,1,1,1]>(a, w2)", CHAIN, DEAD),
    Row("chain/no bias", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)", NO_BIAS, DEAD),
    Row("chain/graph output stays", f"{CONV1} y = Relu(a)", CHAIN, {}, {"a": {2, 5}}, {"a": "output of the graph"}),
    Row("chain/nothing is zero", f"{CONV1} y = Conv(a, w2)", {**CHAIN, "w1": (8, 3, 3, 3), "b1": (8,)}, {}),
    Row(
        "chain/zero weight, bias stays",
        f"{CONV1} y = Conv<pads=[1,1,1,1]>(a, w2)",
        {**CHAIN, "b1": dead("b1", (8,), (5,))},
        {"a": (5,)},
        {"a": {2}},
        {"a": "constant and not zero"},
    ),
    Row(
        "chain/a negative bias dies in Relu",
        f"{CONV1} r = Relu(a) {PADDED}",
        {**CHAIN, "b1": np.asarray([1, 1, -2, 1, 1, 3, 1, 1], np.float32)},
        {"a": (2,)},
        {"a": {5}},
    ),
    Row(
        "chain/zeros go on through the next layer",
        "a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) s = Relu(b) y = Conv(s, w3)",
        {
            "w1": CHAIN["w1"],
            "w2": np.where(
                np.arange(4)[:, None, None, None] == 1,
                dead("w2", (4, 8, 1, 1), (0, 1, 3, 4, 6, 7), 1),
                filled("w2", (4, 8, 1, 1)),
            ),
            "w3": (3, 4, 1, 1),
        },
        {"a": (2, 5), "b": (1,)},
    ),
    Row(
        "chain/what nobody reads goes too",
        "a = Conv(x, w1) r = Sigmoid(a) b = Conv(r, w2) s = Relu(b) y = Conv(s, w3)",
        {"w1": (8, 3, 3, 3), "w2": dead("w2", (4, 8, 1, 1), (3, 6), 1), "w3": (3, 4, 1, 1)},
        {"a": (3, 6)},
    ),
    Row(
        "chain/what only a dead channel reads goes too",
        "a = Conv(x, w1) r = Sigmoid(a) b = Conv(r, w2) y = Conv(b, w3)",
        {
            "w1": (8, 3, 3, 3),
            "w3": dead("w3", (3, 4, 1, 1), (2,), 1),
            "w2": np.where(
                (np.arange(8) == 4)[:, None, None] & (np.arange(4) != 2)[:, None, None, None],
                np.float32(0),
                filled("w2", (4, 8, 1, 1)),
            ),
        },
        {"a": (4,), "b": (2,)},
    ),
    Row(
        "chain/a layer keeps one channel",
        f"{CONV1} r = Relu(a) y = Conv(r, w2, b2)",
        {**CHAIN, "w1": np.zeros((8, 3, 3, 3), np.float32), "b1": np.zeros(8, np.float32), "b2": (4,)},
        {"a": (1, 2, 3, 4, 5, 6, 7)},
        {"a": {0}, "y": {0, 1, 2, 3}},
        {"a": "at least one channel"},
    ),
    Row(
        "chain/one channel is left alone",
        "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": np.zeros((1, 3, 3, 3), np.float32), "w2": (4, 1, 1, 1)},
        {},
        {"a": {0}, "y": {0, 1, 2, 3}},
        {"a": "only channel"},
    ),
    Row(
        "chain/two consumers",
        f"{CONV1} r = Relu(a) b = Conv(r, w2) s = Sigmoid(b) c = Conv(r, w3) y = Add(s, c)",
        {**CHAIN, "w3": (4, 8, 3, 3)},
        DEAD,
    ),
    Row(
        "chain/one consumer sees it moved",
        f"{CONV1} b = Conv<pads=[1,1,1,1]>(a, w2) s = Sigmoid(a) c = Conv<pads=[1,1,1,1]>(s, w3) y = Add(b, c)",
        {**CHAIN, "w3": (4, 8, 3, 3)},
        {},
        {"a": {2, 5}},
    ),
    Row(
        "chain/a weight that two layers share",
        "a = Conv<pads=[1,1,1,1]>(x, w1) b = Conv<pads=[1,1,1,1]>(x, w1) "
        "s = Sigmoid(b) c = Conv<pads=[1,1,1,1]>(a, w2) d = Conv<pads=[1,1,1,1]>(s, w2) y = Add(c, d)",
        NO_BIAS,
        {"a": (2, 5)},
        {"b": {2, 5}},
    ),
    Row(
        "chain/not a number is not zero",
        "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": CHAIN["w1"], "w2": (4, 8, 1, 1)},
        DEAD,
    ),
    Row(
        "chain/a 1-d convolution",
        "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": dead("w1", (8, 3, 3), (2, 5)), "w2": (4, 8, 3)},
        DEAD,
        header="float[2,3,20] x",
        result="float[n,o,l] y",
    ),
    Row(
        "chain/a 3-d convolution",
        "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": dead("w1", (8, 3, 1, 1, 1), (2, 5)), "w2": (4, 8, 1, 1, 1)},
        DEAD,
        header="float[2,3,3,3,3] x",
        result="float[n,o,d,h,w] y",
    ),
    Row(
        "chain/a nested graph reads it",
        f"{CONV1} c = ReduceSum<keepdims=0>(x) g = Greater(c, nil) "
        "y = If(g) <then_branch = t () => (float[n,o,h,w] p) {{ p = Identity(a) }}, "
        "else_branch = e () => (float[n,o,h,w] q) {{ q = Neg(a) }}>".replace("{{", "{").replace("}}", "}"),
        {**CHAIN, "nil": np.float32(0)},
        {},
        {"a": {2, 5}},
        {"a": "nested graph"},
    ),
    Row(
        "chain/inside a nested graph",
        "c = ReduceSum<keepdims=0>(x) g = Greater(c, nil) "
        "y = If(g) <then_branch = t () => (float[n,o,h,w] p) { a = Conv(x, w1) p = Conv(a, w2) }, "
        "else_branch = e () => (float[n,o,h,w] q) { b = Conv(x, w1) s = Sigmoid(b) q = Conv<pads=[1,1,1,1]>(s, w2) }>",
        {**NO_BIAS, "nil": np.float32(0)},
        {"a": (2, 5)},
        {"b": {2, 5}},
    ),
]

ACTIVATIONS = [
    keeps_zero("leaky", "r = LeakyRelu<alpha=0.2>(a)"),
    keeps_zero("clip", "r = Clip(a, low, high)", {"low": np.float32(0), "high": np.float32(6)}),
    keeps_zero("hard swish", "r = HardSwish(a)"),
    keeps_zero("tanh and abs", "t = Tanh(a) r = Abs(t)"),
    keeps_zero("elu", "r = Elu(a)"),
    keeps_zero("prelu", "r = PRelu(a, slope)", {"slope": (8, 1, 1)}),
    keeps_zero("gelu", "r = Gelu(a)", opset=20),
    keeps_zero("silu", "s = Sigmoid(a) r = Mul(a, s)"),
    keeps_zero("mish", "s = Softplus(a) t = Tanh(s) r = Mul(a, t)"),
    keeps_zero(
        "gelu of operators",
        "d = Div(a, root) e = Erf(d) f = Add(e, one) g = Mul(a, f) r = Mul(g, half)",
        {"root": np.float32(1.41421), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    keeps_zero(
        "hard swish of operators",
        "p = Add(a, three) c = Clip(p, nil, six) m = Mul(a, c) r = Div(m, six)",
        {"three": np.float32(3), "nil": np.float32(0), "six": np.float32(6)},
    ),
    keeps_zero("a cap", "s = Relu(a) r = Min(s, cap)", {"cap": np.abs(filled("cap", (8, 1, 1)))}),
    keeps_zero(
        "an affine that switches it off",
        "m = Mul(a, f) r = Add(m, s)",
        {"f": dead("f", (8, 1, 1), (2, 5)), "s": dead("s", (1, 8, 1, 1), (2, 5), 1)},
    ),
    keeps_zero("a shift that ends below a Relu", "m = Add(a, s) r = Relu(m)", {"s": vector(1, 1, -1, 1, 1, -2, 1, 1)}),
    keeps_zero(
        "batch normalization",
        "n = BatchNormalization(a, ng, nb, nm, nv) r = Relu(n)",
        bn("n", 8, shifts={2: -1.0, 5: 0.0}),
        tolerance=1e-4,
    ),
    keeps_zero("dropout, cast and identity", "d = Dropout(a) c = Cast<to=1>(d) r = Identity(c)"),
    keeps_zero(
        "pooling",
        "p = MaxPool<kernel_shape=[2,2]>(a) "
        "r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(p)",
    ),
    keeps_zero(
        "instance normalization",
        "n = InstanceNormalization(a, ig, ib) r = Relu(n)",
        {"ig": (8,), "ib": dead("ib", (8,), (2, 5))},
    ),
    keeps_zero("padding beside", "r = Pad(a, pads)", {"pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1])}),
    keeps_zero(
        "resize",
        'r = Resize<mode="nearest">(a, roi, scales)',
        {"roi": np.zeros(0, np.float32), "scales": np.asarray([1, 1, 2, 2], np.float32)},
    ),
    keeps_zero(
        "resize to sizes",
        'r = Resize<mode="linear">(a, roi, none, sizes)',
        {"roi": np.zeros(0, np.float32), "none": np.zeros(0, np.float32), "sizes": np.asarray([2, 8, 12, 12])},
    ),
    keeps_zero("softmax beside", "s = Softmax<axis=3>(a) r = Mul(s, a)"),
    keeps_zero("a number from elsewhere", "n = ReduceMean(x) r = Mul(a, n)"),
    keeps_zero("a map from elsewhere", "n = ReduceMean<axes=[1]>(x) r = Mul(a, n)", opset=13),
    moves_zero("sigmoid", "r = Sigmoid(a)"),
    moves_zero("exp", "b = Abs(a) c = Neg(b) r = Exp(c)"),
    moves_zero("clip above zero", "r = Clip(a, low)", {"low": np.float32(0.5)}),
    moves_zero("add", "r = Add(a, s)", {"s": (8, 1, 1)}),
    moves_zero("a positive shift and Relu", "m = Add(a, s) r = Relu(m)", {"s": np.abs(filled("s", (8, 1, 1)))}),
    moves_zero("batch normalization", "r = BatchNormalization(a, ng, nb, nm, nv)", bn("n", 8), tolerance=1e-4),
    moves_zero(
        "padding with a number",
        "r = Pad(a, pads, five)",
        {"pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1]), "five": np.float32(5)},
        why="not known to be zero",
    ),
    moves_zero("softmax over the channels", "r = Softmax<axis=1>(a)", why="all channels together"),
    moves_zero("lrn", "r = LRN<size=3>(a)", why="not followed"),
    moves_zero("layer normalization", "r = LayerNormalization<axis=1>(a, lg)", {"lg": (8, 8, 8)}, why="not followed"),
    moves_zero(
        "an add of the input",
        "u = Concat<axis=1>(x, x, z) r = Add(a, u)",
        {"z": (2, 2, 8, 8)},
        why="no linear layer makes",
    ),
    moves_zero(
        "the largest of all channels", "m = ReduceMax<axes=[1]>(a) r = Sub(a, m)", opset=13, why="all channels together"
    ),
    moves_zero(
        "training", "r, u, v = BatchNormalization<training_mode=1>(a, ng, nb, nm, nv)", bn("n", 8), why="training"
    ),
]
