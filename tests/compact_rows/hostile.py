"""What a graph may do with channels that is easy to get wrong: each must lose what it can and compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.compact_models import CHAIN, CONV1, DEAD, FLAT, HEAD, STAYS, Array, Row, Weight, dead, filled, sizes

KEPT = {"a": {2, 5}}
VECTOR = filled("vector", (8,))
AFFINE: dict[str, Weight] = {"g": (8, 1, 1), "s": dead("s", (8, 1, 1), (2, 5))}
UNIT: dict[str, Array] = {"one": np.ones(2, np.float32), "nil": np.zeros(2, np.float32)}
BODY = "{ co = Identity(ci) c = Conv<pads=[1,1,1,1]>(a, w2) m = ReduceMean<keepdims=0>(c, first) so = Add(s, m) }"


def goes(name: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """Channels 2 and 5 of Conv a go, or those of `removed`."""
    removed = how.pop("removed", DEAD)
    return Row(f"hostile/{name}", f"{CONV1} {text}", {**CHAIN, **(more or {})}, removed, **how)


def stays(name: str, why: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """They stay, for the reason `why`."""
    return Row(f"hostile/{name}", f"{CONV1} {text}", {**CHAIN, **(more or {})}, STAYS, KEPT, {"a": why}, **how)


HOSTILE = [
    goes("slopes along the columns, as many as channels", f"r = PRelu(a, v) {HEAD}", {"v": VECTOR}),
    goes("factors along the columns, as many as channels", f"r = Mul(a, v) {HEAD}", {"v": VECTOR}),
    goes("factors along the rows, as many as channels", f"r = Mul(a, v) {HEAD}", {"v": VECTOR.reshape(8, 1)}),
    stays("an addend for every place", "not known to be zero", f"r = Add(a, v) {HEAD}", {"v": (8, 8, 8)}),
    goes("itself twice", "b = Add(a, a) r = Mul(b, b) " + HEAD),
    goes("joined with itself", "r = Concat<axis=1>(a, a) y = Conv(r, k)", {"k": (4, 16, 1, 1)}),
    goes(
        "joined with itself after a Sigmoid",
        "s = Sigmoid(a) r = Concat<axis=1>(a, s) y = Conv(r, k)",
        {"k": (4, 16, 1, 1)},
    ),
    goes(
        "joined along the batch",
        "b = Conv<pads=[1,1,1,1]>(x, w1) r = Concat<axis=0>(a, b) " + HEAD,
        removed={"a": (2, 5), "b": (2, 5)},
    ),
    stays(
        "group normalisation as PyTorch writes it",
        "lays the channels out",
        "f = Reshape(a, groups) n = InstanceNormalization(f, one, nil) c = Shape(a) b = Reshape(n, c) "
        "m = Mul(b, g) r = Add(m, s) " + HEAD,
        {**AFFINE, **UNIT, "groups": sizes(0, 2, -1)},
        tolerance=1e-4,
    ),
    stays(
        "layer normalisation of NHWC",
        "not followed",
        "t = Transpose<perm=[0,2,3,1]>(a) n = LayerNormalization(t, v) r = Transpose<perm=[0,3,1,2]>(n) " + HEAD,
        {"v": VECTOR},
        tolerance=1e-4,
    ),
    goes(
        "a sum over the channels scales them",
        "n = ReduceSum(a, along) r = Mul(a, n) " + HEAD,
        {"along": sizes(1)},
    ),
    stays(
        "a sum over constant channels",
        "constant and not zero",
        "n = Sigmoid(a) m = ReduceSum(n, along) r = Mul(a, m) " + HEAD,
        {"along": sizes(1)},
    ),
    goes(
        "a gate that is one number",
        "p = GlobalAveragePool(a) n = Conv(p, k) g = Sigmoid(n) r = Mul(a, g) " + HEAD,
        {"k": (1, 8, 1, 1)},
    ),
    goes(
        "picked twice, from the end, and not at all",
        "r = Gather<axis=-3>(a, places) y = Conv(r, k)",
        {"places": sizes(0, 0, -1, 2, 5, -3), "k": (4, 6, 1, 1)},
        removed={"a": (1, 2, 3, 4, 5, 6)},
    ),
    goes(
        "sliced beyond the end, along two axes",
        "r = Slice(a, starts, ends, axes) y = Conv(r, k)",
        {"starts": sizes(1, -7), "ends": sizes(6, 1 << 62), "axes": sizes(2, 1), "k": (4, 7, 1, 1)},
        removed={"a": (0, 2, 5)},
    ),
    stays(
        "sliced from the last to the first",
        "in steps",
        "r = Slice(a, starts, ends, axes, steps) " + HEAD,
        {"starts": sizes(7), "ends": sizes(-9), "axes": sizes(1), "steps": sizes(-1)},
    ),
    goes(
        "a part of it that nothing reads",
        "p, q = Split<axis=1,num_outputs=2>(a) y = Conv(p, k)",
        {"k": (4, 4, 1, 1)},
        removed={"a": (2, 5, 6, 7)},
    ),
    goes("a weight that is an output", HEAD.replace("(r", "(a"), result="float[n,o,h,w] y, float[8,3,3,3] w1"),
    goes(
        "a weight that something else reads",
        "c = Conv(a, w2) n = ReduceSum<keepdims=0>(w1) y = Add(c, n)",
    ),
    stays(
        "an output that is read",
        "output of the graph",
        f"r = Relu(a) {HEAD}",
        result="float[n,o,h,w] y, float[n,p,q,s] r",
    ),
    stays(
        "a loop that reads it",
        "nested graph",
        f"y = Loop(two, yes, start) <body = b (int64 i, bool ci, float[4,8,8] s) => (bool co, float[4,8,8] so) {BODY}>",
        {"two": np.int64(2), "yes": np.bool_(True), "start": (4, 8, 8), "first": sizes(0)},
        result="float[o,h,w] y",
    ),
    stays("equations", "not followed", 'y = Einsum<equation="bchw,bchw->bhw">(a, a)', result="float[b,h,w] y"),
    stays(
        "tiles",
        "not followed",
        "r = Tile(a, times) y = Conv(r, k)",
        {"times": sizes(1, 2, 1, 1), "k": (4, 16, 1, 1)},
    ),
    stays(
        "all axes of one entry squeezed",
        "does not name",
        "p = GlobalAveragePool(a) q = Squeeze(p) y = Relu(q)",
        result=FLAT,
    ),
    stays(
        "a channel shuffle that keeps its pairs",
        "lays the channels out",
        "s = Reshape(a, five) t = Transpose<perm=[0,2,1,3,4]>(s) r = Reshape(t, four) " + HEAD,
        {"five": sizes(2, 2, 4, 8, 8), "four": sizes(2, 8, 8, 8)},
    ),
    goes("nothing reads the last layer", "b = Conv(a, w2) y = Relu(x)", removed={"a": (2, 5), "b": (1, 2, 3)}),
]
