"""Layers on integers or behind DequantizeLinear, and fused ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.compact_models import CHAIN, CONV1, DEAD, FLAT, MS, NHWC, Array, Row, dead, filled


def ints(name: str, shape: tuple[int, ...], zero: tuple[int, ...] = (), axis: int = 0, kind: type = np.int8) -> Array:
    """Random integers that are never 0 but in some channels, where they are all 0."""
    scaled = np.clip(np.rint(30 * dead(name, shape, zero, axis)), -100, 100)
    return np.asarray(scaled.astype(kind))


def steps(name: str, count: int) -> Array:
    return (0.01 + 0.01 * np.abs(filled(name, (count,)))).astype(np.float32)


Q1: dict[str, Any] = {
    "q1": ints("w1", (8, 3, 3, 3), (2, 5)),
    "s1": steps("s1", 8),
    "z1": np.zeros(8, np.int8),
    "qb": ints("b1", (8,), (2, 5), kind=np.int32),
    "sb": steps("s1", 8) * np.float32(0.02),
    "xs": np.float32(0.02),
    "xz": np.int8(3),
    "as": np.float32(0.05),
    "az": np.int8(-7),
    "q2": ints("w2", (4, 8, 3, 3)),
    "s2": np.float32(0.02),
    "z2": np.int8(0),
}
QDQ = (
    "xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz) w = DequantizeLinear<axis=0>(q1, s1, z1) "
    "[a] a = Conv(xd, w, b) r = Relu(a) aq = QuantizeLinear(r, as, az) ad = DequantizeLinear(aq, as, az) "
    "v = DequantizeLinear(q2, s2, z2) y = Conv(ad, v)"
)
BIAS = "b = DequantizeLinear<axis=0>(qb, sb) "
U8: dict[str, Any] = {
    "xs": np.float32(0.05),
    "xz": np.uint8(120),
    "ws": steps("s1", 8),
    "wz": np.asarray([0, 0, 5, 0, 0, -3, 0, 0], np.int8),
    "w8": np.where(
        np.isin(np.arange(8), [2, 5])[:, None, None, None],
        np.asarray([0, 0, 5, 0, 0, -3, 0, 0], np.int8)[:, None, None, None],
        ints("w1", (8, 3, 3, 3)),
    ),
    "ys": np.float32(0.3),
    "yz": np.uint8(131),
    "b8": ints("b1", (8,), (2, 5), kind=np.int32),
    "v8": ints("w2", (4, 8, 3, 3)),
    "vs": np.float32(0.01),
    "vz": np.int8(0),
    "os": np.float32(0.5),
    "oz": np.uint8(128),
}
ROUNDED = "xq = QuantizeLinear(x, xs, xz) [a] a = QLinearConv(xq, xs, xz, w8, ws, wz, ys, yz, b8)"
LAST = "[o] o = QLinearConv(r, ys, yz, v8, vs, vz, os, oz) y = DequantizeLinear(o, os, oz)"
PER_ROW: dict[str, Any] = {
    "i1": ints("d1", (192, 6), (1, 4), 1),
    "n1": steps("s1", 6),
    "e1": dead("e1", (6,), (1, 4)),
    "d2": (6, 3),
}
QUANTISED = [
    Row("quantised/qdq", BIAS + QDQ, Q1, DEAD, tolerance=2e-2),
    Row(
        "quantised/qdq, weights computed from integers stay",
        BIAS + QDQ.replace("[a] a = Conv(xd, w, b)", "wt = Identity(w) [a] a = Conv(xd, wt, b)"),
        Q1,
        {},
        {"a": {2, 5}},
    ),
    Row(
        "quantised/qdq, one scale for all",
        QDQ.replace("<axis=0>(q1, s1, z1)", "(q1, s2, z2)").replace(", b)", ")"),
        Q1,
        DEAD,
        tolerance=2e-2,
    ),
    Row(
        "quantised/qdq, a weight in two places",
        QDQ.replace("(xd, w, b)", "(xd, w)").replace(
            "y = Conv(ad, v)", "c = Conv(ad, v) e = Conv(xd, w) f = Sigmoid(e) g = Conv(f, v) y = Add(c, g)"
        ),
        Q1,
        DEAD,
        {"e": {2, 5}},
        tolerance=2e-2,
    ),
    Row(
        "quantised/qdq of activations a channel",
        f"{CONV1} q = QuantizeLinear<axis=1>(a, s1, z1) r = DequantizeLinear<axis=1>(q, s1, z1) y = Conv(r, w2)",
        {**CHAIN, "s1": steps("s1", 8), "z1": ints("z1", (8,))},
        DEAD,
        tolerance=2e-2,
    ),
    Row(
        "quantised/qdq moves zero",
        f"{CONV1} q = QuantizeLinear(a, s, z) r = DequantizeLinear(q, s, t) y = Conv<pads=[1,1,1,1]>(r, w2)",
        {**CHAIN, "s": np.float32(0.1), "z": np.int8(3), "t": np.int8(2)},
        {},
        {"a": {2, 5}},
        tolerance=2e-2,
    ),
    Row(
        "quantised/qdq, depthwise",
        BIAS
        + QDQ.replace(
            "v = Deq", "k = DequantizeLinear<axis=0>(qk, s1, z1) [d] d = Conv<group=8>(ad, k) v = Deq"
        ).replace("Conv(ad, v)", "Conv(d, v)"),
        {**Q1, "qk": ints("k", (8, 1, 1, 1))},
        {"a": (2, 5), "d": (2, 5)},
        tolerance=2e-2,
    ),
    Row(
        "quantised/int4 in blocks stays",
        f"{CONV1} {NHWC} d = DequantizeLinear<axis=0,block_size=4>(i4, sc) y = MatMul(t, d)",
        {**CHAIN, "i4": ints("i4", (8, 5)), "sc": np.abs(filled("sc", (2, 5)))},
        {},
        {"a": {2, 5}},
        {"a": "a block of channels"},
        opset=21,
        tolerance=2e-2,
    ),
    Row(
        "quantised/blocks along the other axis",
        f"{CONV1} {NHWC} d = DequantizeLinear<axis=1,block_size=2>(i4, sc) y = MatMul(t, d)",
        {**CHAIN, "i4": ints("i4", (8, 6)), "sc": np.abs(filled("sc", (8, 3)))},
        DEAD,
        opset=21,
        tolerance=1e-4,
    ),
    Row("quantised/QLinearConv", f"{ROUNDED} r = MaxPool<kernel_shape=[2,2]>(a) {LAST}", U8, {"a": (2, 5)}),
    Row(
        "quantised/QLinearConv, zero moves",
        f"{ROUNDED} [o] o = QLinearConv(a, ys, xz, v8, vs, vz, os, oz) y = DequantizeLinear(o, os, oz)",
        U8,
        {},
        {"a": {2, 5}},
    ),
    Row(
        "quantised/QLinearAdd and the like",
        f"{ROUNDED} [b] b = QLinearConv(xq, xs, xz, w8, ws, wz, ys, yz, b9) "
        "s = com.microsoft.QLinearAdd(a, ys, yz, b, ys, yz, ys, yz) "
        "r = com.microsoft.QLinearLeakyRelu<alpha=0.1>(s, ys, yz, ys, yz) " + LAST,
        {**U8, "b9": np.where(np.arange(8) == 2, 500, U8["b8"]).astype(np.int32)},
        {"a": (5,), "b": (5,)},
        {"a": {2}},
        imports=MS,
    ),
    Row(
        "quantised/ConvInteger",
        "xq, xsc, xzp = DynamicQuantizeLinear(x) [a] a = ConvInteger(xq, q1, xzp) f = Cast<to=1>(a) "
        "sc = Mul(xsc, ws3) m = Mul(f, sc) n = Add(m, b1) r = Relu(n) y = Conv(r, w2)",
        {**Q1, "ws3": steps("s1", 8).reshape(8, 1, 1), "b1": dead("b1", (8, 1, 1), (2, 5)), "w2": (4, 8, 1, 1)},
        DEAD,
        tolerance=1e-4,
    ),
    Row(
        "quantised/a dynamic one after another",
        f"{CONV1} aq, asc, azp = DynamicQuantizeLinear(a) [i] i = ConvInteger(aq, v8, azp) f = Cast<to=1>(i) "
        "y = Mul(f, asc)",
        {**CHAIN, "v8": U8["v8"]},
        DEAD,
        tolerance=1e-4,
    ),
    Row(
        "quantised/a dynamic one of what is not zero stays",
        f"{CONV1} g = Sigmoid(a) aq, asc, azp = DynamicQuantizeLinear(g) [i] i = ConvInteger(aq, v8, azp) "
        "f = Cast<to=1>(i) y = Mul(f, asc)",
        {**CHAIN, "v8": ints("w2", (4, 8, 3, 3), (3,), 1)},
        {},
        {"a": {2, 5}},
        tolerance=1e-4,
    ),
    Row(
        "quantised/MatMulInteger",
        "p = Flatten(x) xq, xsc, xzp = DynamicQuantizeLinear(p) "
        "[a] a = MatMulInteger(xq, i1, xzp) f = Cast<to=1>(a) sc = Mul(xsc, n1) m = Mul(f, sc) n = Add(m, e1) "
        "r = Relu(n) y = MatMul(r, d2)",
        PER_ROW,
        {"a": (1, 4)},
        result=FLAT,
        tolerance=1e-4,
    ),
]
FUSED = [
    Row(
        "fused/FusedConv with Relu",
        '[a] a = com.microsoft.FusedConv<activation="Relu">(x, w1, b1) y = Conv(a, w2)',
        {**CHAIN, "b1": np.asarray([1, 1, -2, 1, 1, 3, 1, 1], np.float32)},
        {"a": (2, 5)},
        imports=MS,
    ),
    Row(
        "fused/FusedConv with an addition stays",
        '[b] b = Conv(x, w1) [a] a = com.microsoft.FusedConv<activation="Relu">(x, w1, b1, b) y = Conv(a, w2)',
        CHAIN,
        {},
        {"b": {2, 5}},
        {"b": "part of it"},
        imports=MS,
    ),
]
