"""Channels that are constant and not zero: taken into the bias of what reads them, or kept where that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.compact_models import CHAIN, CONV1, DEAD, FLAT, MS, NO_BIAS, STAYS, Row, Weight, bn, dead, filled

LIT = f"{CONV1} r = Sigmoid(a)"
SHIFTED = "[a] a = Conv<pads=[1,1,1,1]>(x, w1, bias) r = Relu(a)"
BIASED: dict[str, Weight] = {**CHAIN, "bias": np.asarray([1, 1, 2.5, 1, 1, -3, 1, 1], np.float32), "b2": (4,)}
DENSE: dict[str, Weight] = {**CHAIN, "m": (8, 5), "c": (5,), "c2": (1, 5), "rows": (2, 5)}
MEANS = f"{LIT} p = GlobalAveragePool(r) f = Flatten(p)"
KEPT = {"a": {2, 5}}


def takes(name: str, text: str, weights: Mapping[str, Weight], **how: Any) -> Row:
    """A layer that takes channels 2 and 5 of Conv a into its bias."""
    return Row(f"constant goes/{name}", text, weights, how.pop("removed", DEAD), **how)


def refuses(name: str, text: str, weights: Mapping[str, Weight], why: str = "constant and not zero", **how: Any) -> Row:
    """A layer that cannot."""
    return Row(f"constant stays/{name}", text, weights, STAYS, KEPT, {"a": why}, **how)


ABSORBED = [
    takes("a new bias", f"{LIT} y = Conv(r, w2)", CHAIN),
    takes("a bias that is there", f"{LIT} y = Conv(r, w2, b2)", BIASED),
    takes("a bias and a zero", f"{SHIFTED} y = Conv(r, w2, b2)", BIASED),
    takes("strides and dilations", f"{LIT} y = Conv<strides=[2,2],dilations=[2,1]>(r, w2, b2)", BIASED),
    takes("valid", f'{LIT} y = Conv<auto_pad="VALID">(r, w2, b2)', BIASED),
    takes("one tap that asks for same", f'{LIT} y = Conv<auto_pad="SAME_UPPER">(r, k)', {**CHAIN, "k": (4, 8, 1, 1)}),
    takes(
        "pooled with padding",
        f"{LIT} p = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(r) y = Conv(p, w2)",
        CHAIN,
    ),
    takes(
        "depthwise with a bias",
        f"{CONV1} r = Relu(a) [d] d = Conv<group=8,pads=[1,1,1,1]>(r, k, bias) q = Clip(d, nil, six) "
        "y = Conv(q, w2, b2)",
        {**BIASED, "k": (8, 1, 3, 3), "nil": np.float32(0), "six": np.float32(2)},
        removed={"a": (2, 5), "d": (2, 5)},
    ),
    takes(
        "a bias that layers share",
        f"{LIT} b = Conv(r, w2, b2) s = Conv(x, w3, b2) y = Add(b, s)",
        {**BIASED, "w3": (4, 3, 3, 3)},
    ),
    takes(
        "two readers",
        f"{LIT} b = Conv(r, w2, b2) c = Conv(r, w3) y = Add(b, c)",
        {**BIASED, "w3": (4, 8, 3, 3)},
    ),
    takes(
        "what loses channels itself",
        f"{LIT} [b] b = Conv(r, v, vb) s = Relu(b) y = Conv(s, h)",
        {**CHAIN, "v": dead("v", (6, 8, 1, 1), (0, 4)), "vb": dead("vb", (6,), (0, 4)), "h": (4, 6, 1, 1)},
        removed={"a": (2, 5), "b": (0, 4)},
    ),
    takes(
        "a new bias on what loses channels itself",
        f"{LIT} [b] b = Conv(r, v) s = Relu(b) y = Conv(s, h)",
        {**CHAIN, "v": dead("v", (6, 8, 1, 1), (0, 4)), "h": (4, 6, 1, 1)},
        removed={"a": (2, 5), "b": (0, 4)},
    ),
    takes(
        "normalised after a concat",
        "[a] a = Conv<pads=[1,1,1,1]>(x, w1) s = Concat<axis=1>(x, a) n = BatchNormalization(s, ng, nb, nm, nv) "
        "q = Relu(n) y = Conv(q, k)",
        {**NO_BIAS, **bn("n", 11), "k": (4, 11, 1, 1)},
        tolerance=1e-4,
    ),
    takes("Gemm", f"{MEANS} y = Gemm(f, m, c)", DENSE, result=FLAT),
    takes("Gemm without a bias", f"{MEANS} y = Gemm(f, m)", DENSE, result=FLAT),
    takes("Gemm with a factor", f"{MEANS} y = Gemm<alpha=0.5>(f, m, c)", DENSE, result=FLAT),
    takes(
        "Gemm of a whole image",
        f"{LIT} f = Flatten(r) y = Gemm<transB=1>(f, m, c)",
        {**CHAIN, "m": (5, 512), "c": (5,)},
        result=FLAT,
    ),
    takes(
        "FusedConv",
        f'{LIT} y = com.microsoft.FusedConv<activation="Relu">(r, w2, b2)',
        BIASED,
        imports=MS,
    ),
]
NOT_ABSORBED = [
    refuses("zeros beside it", f"{LIT} y = Conv<pads=[1,1,1,1]>(r, w2, b2)", BIASED, "pads it with zeros"),
    refuses("zeros on one side", f"{LIT} y = Conv<pads=[0,0,0,1]>(r, w2, b2)", BIASED, "pads it with zeros"),
    refuses("zeros beside one tap", f"{LIT} y = Conv<pads=[1,1,1,1]>(r, k)", {**CHAIN, "k": (4, 8, 1, 1)}, "pads it"),
    refuses("same", f'{LIT} y = Conv<auto_pad="SAME_LOWER">(r, w2, b2)', BIASED, "pads it with zeros"),
    refuses(
        "one of two readers pads",
        f"{LIT} b = Conv<pads=[1,1,1,1]>(r, w2, b2) c = Conv<pads=[2,2,2,2],dilations=[2,2]>(r, w2) "
        "d = Conv(r, k) e = Add(b, c) y = Add(e, d)",
        {**BIASED, "k": (4, 8, 1, 1)},
        "pads it",
    ),
    refuses("ConvTranspose", f"{LIT} y = ConvTranspose(r, k)", {**CHAIN, "k": (8, 4, 2, 2)}, "reads it"),
    refuses("groups", f"{LIT} y = Conv<group=2>(r, k)", {**CHAIN, "k": (4, 4, 1, 1)}),
    refuses("MatMul", f"{MEANS} y = MatMul(f, m)", DENSE, result=FLAT),
    refuses("a bias for every row", f"{MEANS} y = Gemm(f, m, rows)", DENSE, result=FLAT),
    refuses("a bias of two dimensions", f"{MEANS} y = Gemm(f, m, c2)", DENSE, result=FLAT),
    refuses("a bias with a factor", f"{MEANS} y = Gemm<beta=2.0>(f, m, c)", DENSE, result=FLAT),
    refuses(
        "a dequantised weight",
        f"{LIT} v = DequantizeLinear(q, s) y = Conv(r, v)",
        {**CHAIN, "q": (10 * filled("q", (4, 8, 1, 1))).astype(np.int8), "s": np.float32(0.02)},
    ),
    refuses(
        "a dequantised bias",
        f"{LIT} v = DequantizeLinear(q, s) y = Conv(r, w2, v)",
        {**CHAIN, "q": np.arange(4, dtype=np.int32), "s": np.float32(0.02)},
    ),
    Row(
        "constant stays/the other branch is not constant",
        f"{LIT} [b] b = Conv<pads=[1,1,1,1]>(x, w3) s = Add(r, b) y = Conv(s, w2)",
        {**CHAIN, "w3": dead("w3", (8, 3, 3, 3), (5, 6))},
        {"a": (5,), "b": (5,)},
        {"a": {2}, "b": {6}},
        {"a": "tied to other branches"},
    ),
]
