"""Branches that meet or part."""

from __future__ import annotations

import numpy as np

from tests.compact_models import HALF, IMAGE, TWO, WIDE, Row, bn, dead, sizes

JOINS = [
    Row(
        "join/residual: only what is dead on both branches",
        f"{TWO} s = Add(a, b) r = Relu(s) y = Conv(r, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {"a": (2, 5), "b": (2, 5)},
        {"a": {1}, "b": {6}},
        {"a": "tied to other branches'"},
    ),
    Row(
        "join/three residuals in a row",
        "[a] a = Conv(x, c1) ra = Relu(a) [b] b = Conv(ra, d1) s = Add(ra, b) rs = Relu(s) "
        "[c] c = Conv(rs, d2) t = Add(rs, c) rt = Relu(t) y = Conv(rt, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "d1": dead("d1", (8, 8, 1, 1), (2, 5)), "d2": dead("d2", (8, 8, 1, 1), (1, 2))},
        {"a": (2,), "b": (2,), "c": (2,)},
        {"a": {1, 5}, "b": {5}, "c": {1}},
    ),
    Row(
        "join/product: what is dead on either branch",
        f"{TWO} s = Mul(a, b) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {"a": (1, 2, 5, 6), "b": (1, 2, 5, 6)},
    ),
    Row(
        "join/max of both",
        f"{TWO} s = Max(a, b) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {"a": (2, 5), "b": (2, 5)},
        {"a": {1}, "b": {6}},
    ),
    Row(
        "join/where",
        f"{TWO} c = Greater(x1, nil) x1 = ReduceSum(x) s = Where(c, a, b) y = Conv(s, w2)".replace(
            "c = Greater(x1, nil) x1 = ReduceSum(x)", "x1 = ReduceSum(x) c = Greater(x1, nil)"
        ),
        {**IMAGE, "w2": (4, 8, 1, 1), "nil": np.float32(0)},
        {"a": (2, 5), "b": (2, 5)},
        {"a": {1}, "b": {6}},
    ),
    Row(
        "join/concat",
        f"{TWO} s = Concat<axis=1>(a, b) r = Relu(s) y = Conv(r, wide)",
        {**IMAGE, **WIDE},
        {"a": (1, 2, 5), "b": (2, 5, 6)},
    ),
    Row(
        "join/concat with the input",
        "[a] a = Conv(x, c1) s = Concat<axis=-3>(x, a, x) y = Conv(s, w14)",
        {**IMAGE, "w14": (4, 14, 1, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/concat with a constant",
        "[a] a = Conv(x, c1) s = Concat<axis=1>(a, k) y = Conv(s, w12)",
        {**IMAGE, "k": dead("k", (2, 4, 8, 8), (3,), 1), "w12": (4, 12, 1, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/concat read by many norms (dense)",
        "[a] a = Conv(x, c1) s = Concat<axis=1>(x, a) n = BatchNormalization(s, ng, nb, nm, nv) r = Relu(n) "
        "[b] b = Conv(r, k1) t = Concat<axis=1>(s, b) m = BatchNormalization(t, mg, mb, mm, mv) q = Relu(m) "
        "y = Conv(q, k2)",
        {
            **IMAGE,
            **bn("n", 11, shifts={4: -1.0, 5: 1.0, 8: 1.0}),
            **bn("m", 15, shifts={4: 0.0, 5: 1.0, 8: 1.0, 11: 1.0}),
            "k1": dead("k1", (4, 11, 1, 1), (0,)),
            "k2": (4, 15, 1, 1),
        },
        {"a": (1, 2, 5), "b": (0,)},
        tolerance=1e-4,
    ),
    Row(
        "join/concat beside",
        f"{TWO} s = Concat<axis=2>(a, b) r = Relu(s) y = Conv(r, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {"a": (2, 5), "b": (2, 5)},
        {"a": {1}, "b": {6}},
    ),
    Row(
        "join/squeeze and excite",
        "[a] a = Conv(x, c1) r = Relu(a) p = GlobalAveragePool(r) [e] e = Conv(p, s1, t1) q = Relu(e) "
        "[f] f = Conv(q, s2, t2) g = Sigmoid(f) m = Mul(r, g) y = Conv(m, w2)",
        {
            **IMAGE,
            "s1": dead("s1", (3, 8, 1, 1), (1,)),
            "t1": dead("t1", (3,), (1,)),
            "s2": (8, 3, 1, 1),
            "t2": (8,),
            "w2": (4, 8, 1, 1),
        },
        {"a": (1, 2, 5), "e": (1,), "f": (1, 2, 5)},
    ),
    Row(
        "join/squeeze and excite by Gemm",
        "[a] a = Conv(x, c1) r = Relu(a) p = ReduceMean<axes=[2,3],keepdims=0>(r) "
        "[e] e = Gemm<transB=1>(p, s1, t1) q = Relu(e) [f] f = Gemm(q, s2, t2) g = HardSigmoid(f) "
        "u = Reshape(g, shape) m = Mul(r, u) y = Conv(m, w2)",
        {
            **IMAGE,
            "s1": (3, 8),
            "t1": (3,),
            "s2": (3, 8),
            "t2": (1, 8),
            "w2": (4, 8, 1, 1),
            "shape": sizes(-1, 8, 1, 1),
        },
        {"a": (1, 2, 5), "f": (1, 2, 5)},
        opset=13,
    ),
    Row(
        "join/a map for all channels",
        "[a] a = Conv(x, c1) [m] m = Conv(x, one) s = Sigmoid(m) g = Mul(a, s) y = Conv(g, w2)",
        {**IMAGE, "one": (1, 3, 1, 1), "w2": (4, 8, 1, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/split",
        "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) s = Sigmoid(p) b = Conv(s, h) c = Conv(q, h) y = Add(b, c)",
        {**IMAGE, **HALF, "parts": sizes(4, 4)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/split without sizes",
        "[a] a = Conv(x, c1) p, q = Split<axis=1,num_outputs=2>(a) b = Conv(p, h) c = Conv(q, h) y = Add(b, c)",
        {**IMAGE, **HALF},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/split by attribute",
        "[a] a = Conv(x, c1) p, q = Split<axis=1,split=[3,5]>(a) b = Conv(p, h3) c = Conv(q, h5) y = Add(b, c)",
        {**IMAGE, "h3": (4, 3, 1, 1), "h5": (4, 5, 1, 1)},
        {"a": (1, 2, 5)},
        opset=11,
    ),
    Row(
        "join/a gated unit: halves go together",
        "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) s = Sigmoid(p) g = Mul(q, s) y = Conv(g, h)",
        {**IMAGE, **HALF, "parts": sizes(4, 4)},
        {"a": (1, 5)},
        {"a": {2}},
    ),
    Row(
        "join/split keeps one of each part",
        "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) b = Conv(p, k2) c = Conv(q, k6) y = Add(b, c)",
        {"c1": dead("c1", (8, 3, 1, 1), (0, 1, 5)), "k2": (4, 2, 1, 1), "k6": (4, 6, 1, 1), "parts": sizes(2, 6)},
        {"a": (1, 5)},
        {"a": {0}, "b": {0, 1, 2, 3}},
        {"a": "at least one channel"},
    ),
    Row(
        "join/slice",
        "[a] a = Conv(x, c1) p = Slice(a, i2, i6, i1) y = Conv(p, h)",
        {**IMAGE, **HALF, "i2": sizes(2), "i6": sizes(-2), "i1": sizes(1)},
        {"a": (0, 1, 2, 5, 6, 7)},
    ),
    Row(
        "join/slices that overlap",
        "[a] a = Conv(x, c1) p = Slice(a, i0, i5, i1) q = Slice(a, i3, i9, i1) "
        "b = Conv(p, k5) c = Conv(q, k5) y = Add(b, c)",
        {
            **IMAGE,
            "k5": (4, 5, 1, 1),
            "i0": sizes(0),
            "i5": sizes(5),
            "i3": sizes(3),
            "i9": sizes(1 << 40),
            "i1": sizes(1),
        },
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/slice in steps stays",
        "[a] a = Conv(x, c1) p = Slice(a, i0, i9, i1, i2) y = Conv(p, h)",
        {**IMAGE, **HALF, "i0": sizes(0), "i9": sizes(8), "i1": sizes(1), "i2": sizes(2)},
        {},
        {"a": {1, 2, 5}},
        {"a": "in steps"},
    ),
    Row(
        "join/slice beside",
        "[a] a = Conv(x, c1) p = Slice(a, i0, i9, i1, i2) y = Conv(p, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "i0": sizes(0, 1), "i9": sizes(8, 7), "i1": sizes(2, -1), "i2": sizes(2, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/gather",
        "[a] a = Conv(x, c1) p = Gather<axis=1>(a, at) y = Conv(p, k5)",
        {**IMAGE, "at": sizes(7, -3, 0, 7, 1), "k5": (4, 5, 1, 1)},
        {"a": (1, 2, 3, 4, 5, 6)},
    ),
    Row(
        "join/gather of one channel stays",
        "[a] a = Conv(x, c1) p = Gather<axis=1>(a, at) u = Unsqueeze(p, one) y = Conv(u, k1)",
        {**IMAGE, "at": np.int64(3), "one": sizes(1), "k1": (4, 1, 1, 1)},
        {},
        {"a": {1, 2, 5}},
    ),
    Row(
        "join/depth to space",
        '[a] a = Conv(x, c1) p = DepthToSpace<blocksize=2, mode="DCR">(a) y = Conv(p, k2)',
        {"c1": dead("c1", (8, 3, 1, 1), (1, 3, 5, 7, 0)), "k2": (4, 2, 1, 1)},
        {"a": (1, 3, 5, 7)},
        {"a": {0}},
    ),
    Row(
        "join/depth to space, column first",
        '[a] a = Conv(x, c1) p = DepthToSpace<blocksize=2, mode="CRD">(a) y = Conv(p, k2)',
        {"c1": dead("c1", (8, 3, 1, 1), (1, 3, 4, 5, 6, 7)), "k2": (4, 2, 1, 1)},
        {"a": (4, 5, 6, 7)},
        {"a": {1, 3}},
    ),
    Row(
        "join/space to depth",
        "[a] a = Conv(x, c1) p = SpaceToDepth<blocksize=2>(a) y = Conv(p, k32)",
        {**IMAGE, "k32": (4, 32, 1, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/a difference of itself",
        "[a] a = Conv(x, c1) t = Transpose<perm=[0,1,3,2]>(a) s = Sub(a, t) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "join/channels along different axes stay",
        "[a] a = Conv(x, c1) t = Transpose<perm=[0,3,2,1]>(a) s = Add(a, t) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)},
        {},
        {"a": {1, 2, 5}},
    ),
]
