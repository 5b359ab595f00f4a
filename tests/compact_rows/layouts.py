"""Grouped and transposed convolutions, dense layers, and values laid out anew."""

from __future__ import annotations

import numpy as np

from tests.compact_models import CHAIN, CONV1, DEAD, FLAT, IMAGE, NHWC, WIDE, Row, bn, dead, sizes

GROUPS = [
    Row(
        "group/depthwise",
        f"{CONV1} r = Relu(a) [d] d = Conv<group=8>(r, k, kb) q = Relu(d) y = Conv(q, w2)",
        {**CHAIN, "k": dead("k", (8, 1, 3, 3), (4,)), "kb": dead("kb", (8,), (2, 4, 5))},
        {"a": (2, 4, 5), "d": (2, 4, 5)},
    ),
    Row(
        "group/depthwise with a bias stays",
        f"{CONV1} r = Relu(a) [d] d = Conv<group=8>(r, k, kb) y = Conv<pads=[1,1,1,1]>(d, w2)",
        {**CHAIN, "k": (8, 1, 3, 3), "kb": dead("kb", (8,), (2,))},
        {"a": (2,), "d": (2,)},
        {"a": {5}, "d": {5}},
        {"a": "makes of it stays", "d": "constant and not zero"},
    ),
    Row(
        "group/depthwise with two outputs a channel",
        f"{CONV1} [d] d = Conv<group=8>(a, k) y = Conv(d, wide)",
        {**CHAIN, **WIDE, "k": dead("k", (16, 1, 3, 3), (0, 1, 6))},
        {"a": (0, 2, 5), "d": (0, 1, 4, 5, 10, 11)},
        {"d": {6}},
    ),
    Row(
        "group/whole groups go",
        f"{CONV1} [d] d = Conv<group=4>(a, k) y = Conv(d, w2)",
        {**CHAIN, "w1": dead("w1", (8, 3, 3, 3), (4, 5, 2)), "b1": dead("b1", (8,), (4, 5, 2)), "k": (8, 2, 3, 3)},
        {"a": (4, 5), "d": (4, 5)},
        {"a": {2}},
        {"a": "of one size"},
    ),
    Row(
        "group/one of every group goes",
        f"{CONV1} [d] d = Conv<group=2>(a, k) y = Conv(d, k4)",
        {
            **CHAIN,
            "w1": dead("w1", (8, 3, 3, 3), (0, 3, 6)),
            "b1": dead("b1", (8,), (0, 3, 6)),
            "k": (4, 4, 3, 3),
            "k4": (4, 4, 1, 1),
        },
        {"a": (0, 6)},
        {"a": {3}},
        {"a": "of one size"},
    ),
    Row(
        "group/an output of every group goes",
        f"{CONV1} [d] d = Conv<group=2>(a, k) y = Conv(d, k6)",
        {**CHAIN, "w1": (8, 3, 3, 3), "k": dead("k", (6, 4, 3, 3), (1, 3, 4)), "k6": (4, 6, 1, 1)},
        {"d": (1, 3)},
        {"d": {4}},
    ),
    Row(
        "group/of the input",
        "[a] a = Conv<group=3>(x, k) y = Conv(a, k6)",
        {"k": dead("k", (6, 1, 3, 3), (1, 2, 4)), "k6": (4, 6, 1, 1)},
        {"a": (1, 2, 4)},
    ),
    Row(
        "group/every group would go",
        f"{CONV1} [d] d = Conv<group=8>(a, k) y = Conv(d, w2, b2)",
        {
            **CHAIN,
            "w1": np.zeros((8, 3, 3, 3), np.float32),
            "b1": np.zeros(8, np.float32),
            "k": (8, 1, 3, 3),
            "b2": (4,),
        },
        {"a": (1, 2, 3, 4, 5, 6, 7), "d": (1, 2, 3, 4, 5, 6, 7)},
        {"a": {0}, "d": {0}, "y": {0, 1, 2, 3}},
    ),
    Row(
        "transposed/plain",
        f"{CONV1} [d] d = ConvTranspose<strides=[2,2]>(a, k, kb) y = Conv(d, k5)",
        {**CHAIN, "k": dead("k", (8, 5, 2, 2), (1,), 1), "kb": dead("kb", (5,), (1,)), "k5": (4, 5, 1, 1)},
        {"a": (2, 5), "d": (1,)},
    ),
    Row(
        "transposed/depthwise",
        f"{CONV1} [d] d = ConvTranspose<group=8>(a, k) y = Conv(d, w2)",
        {**CHAIN, "k": (8, 1, 2, 2)},
        {"a": (2, 5), "d": (2, 5)},
    ),
    Row(
        "transposed/grouped",
        f"{CONV1} [d] d = ConvTranspose<group=2>(a, k, kb) y = Conv(d, k6)",
        {
            **CHAIN,
            "k": np.stack([dead("k0", (4, 3, 2, 2), (0,), 1), dead("k1", (4, 3, 2, 2), (2,), 1)]).reshape(8, 3, 2, 2),
            "kb": dead("kb", (6,), (0, 5)),
            "k6": (4, 6, 1, 1),
        },
        {"a": (2, 5), "d": (0, 5)},
    ),
]

LAYOUTS = [
    Row(
        "layout/nhwc island",
        f"{CONV1} {NHWC} s = Add(t, k) r = Relu(s) u = Transpose<perm=[0,3,1,2]>(r) y = Conv(u, w2)",
        {**CHAIN, "k": dead("k", (8,), (2, 5))},
        DEAD,
    ),
    Row("layout/nhwc to MatMul", f"{CONV1} {NHWC} m = MatMul(t, d) y = Relu(m)", {**CHAIN, "d": (8, 5)}, DEAD),
    Row(
        "layout/flatten",
        f"{CONV1} f = Flatten(a) y = Gemm(f, dense, bias)",
        {**CHAIN, "dense": (512, 5), "bias": (5,)},
        DEAD,
        result=FLAT,
    ),
    Row(
        "layout/flatten of an open image",
        f"{CONV1} f = Flatten(a) r = Relu(f) y = Gemm<transB=1>(r, dense, bias)",
        {**CHAIN, "dense": (5, 512), "bias": (5,)},
        DEAD,
        header="float[n,3,h,w] x",
        result=FLAT,
    ),
    Row(
        "layout/flatten, norm, dense",
        f"{CONV1} f = Flatten(a) n = BatchNormalization(f, ng, nb, nm, nv) r = Relu(n) y = MatMul(r, dense)",
        {**CHAIN, **bn("n", 512, tuple(range(128, 192)) + tuple(range(320, 384))), "dense": (512, 5)},
        DEAD,
        header="float[n,3,h,w] x",
        result=FLAT,
        tolerance=1e-4,
    ),
    Row(
        "layout/flatten with one position moved stays",
        f"{CONV1} f = Flatten(a) s = Add(f, k) r = Relu(s) y = MatMul(r, dense)",
        {**CHAIN, "dense": (512, 5), "k": np.abs(dead("k", (512,), tuple(range(129, 512))))},
        {"a": (5,)},
        {"a": {2}},
        result=FLAT,
    ),
    Row(
        "layout/nhwc flatten",
        f"{CONV1} {NHWC} f = Flatten(t) y = Gemm(f, dense)",
        {**CHAIN, "dense": (512, 5)},
        DEAD,
        result=FLAT,
    ),
    Row(
        "layout/nhwc reshape of an open image",
        f"{CONV1} {NHWC} f = Flatten(t) y = Gemm(f, dense)",
        {**CHAIN, "dense": (512, 5)},
        DEAD,
        header="float[n,3,h,w] x",
        result=FLAT,
    ),
    Row(
        "layout/reshape 0 -1",
        f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(0, -1)},
        DEAD,
        header="float[n,3,h,w] x",
        result=FLAT,
    ),
    Row(
        "layout/reshape -1 512",
        f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(-1, 512)},
        DEAD,
        header="float[n,3,8,8] x",
        result=FLAT,
    ),
    Row(
        "layout/reshape to one row of both images",
        f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (1024, 5), "s": sizes(-1, 1024)},
        DEAD,
        result="float[1,o] y",
    ),
    Row(
        "layout/reshape that cuts images stays",
        f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (256, 5), "s": sizes(-1, 256)},
        {},
        {"a": {2, 5}},
        {"a": "several axes, or among"},
        result="float[4,o] y",
    ),
    Row(
        "layout/reshape of an unknown image stays",
        f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(-1, 512)},
        {},
        {"a": {2, 5}},
        {"a": "image before it is not known"},
        header="float[n,3,h,w] x",
        result=FLAT,
    ),
    Row(
        "layout/tokens",
        f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1]>(f) m = MatMul(t, d) y = Relu(m)",
        {**CHAIN, "d": (8, 5), "s": sizes(0, 8, -1)},
        DEAD,
        result="float[n,o,h] y",
    ),
    Row(
        "layout/a shuffle stays",
        f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1,3,4]>(f) u = Reshape(t, v) y = Conv(u, w2)",
        {**CHAIN, "s": sizes(2, 2, 4, 8, 8), "v": sizes(2, 8, 8, 8)},
        {},
        {"a": {2, 5}},
        {"a": "several axes"},
    ),
    Row(
        "layout/pooled, squeezed, dense",
        f"{CONV1} p = GlobalAveragePool(a) q = Squeeze(p, at) y = Gemm(q, d)",
        {**CHAIN, "at": sizes(-1, 2), "d": (8, 5)},
        DEAD,
        result=FLAT,
    ),
    Row(
        "layout/reduced, dense",
        f"{CONV1} p = ReduceMean<axes=[-2,-1],keepdims=0>(a) y = Gemm(p, d)",
        {**CHAIN, "d": (8, 5)},
        DEAD,
        opset=13,
        result=FLAT,
    ),
    Row(
        "layout/reduced by an input, dense",
        f"{CONV1} p = ReduceMax<keepdims=0>(a, at) y = Gemm(p, d)",
        {**CHAIN, "d": (8, 5), "at": sizes(2, 3)},
        DEAD,
        result=FLAT,
    ),
    Row("layout/a sum over the channels", f"{CONV1} y = ReduceSum(a, one)", {**CHAIN, "one": sizes(1)}, DEAD),
    Row("layout/a sum over all", f"{CONV1} y = ReduceL2<keepdims=0>(a)", CHAIN, DEAD, result="float y"),
    Row(
        "layout/a mean over the channels stays",
        f"{CONV1} y = ReduceMean(a, one)",
        {**CHAIN, "one": sizes(1)},
        {},
        {"a": {2, 5}},
        {"a": "all channels together"},
    ),
    Row(
        "layout/unsqueeze",
        f"{CONV1} u = Unsqueeze(a, at) r = Relu(u) v = Squeeze(r, at) y = Conv(v, w2)",
        {**CHAIN, "at": sizes(1, -1)},
        DEAD,
    ),
    Row(
        "layout/expand",
        "[p] p = GlobalAveragePool(x) [a] a = Conv(p, c1) r = Relu(a) e = Expand(r, s) y = Conv(e, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "s": sizes(2, 8, 3, 3)},
        {"a": (1, 2, 5)},
    ),
    Row(
        "layout/dense layers",
        "p = Flatten(x) [a] a = Gemm(p, d1, e1) r = Relu(a) [b] b = MatMul(r, d2) s = Add(b, e2) "
        "t = Relu(s) y = Gemm<alpha=0.5,beta=2.0,transB=1>(t, d3, e3)",
        {
            "d1": dead("d1", (192, 6), (1, 4), 1),
            "e1": dead("e1", (1, 6), (1, 4), 1),
            "d2": dead("d2", (6, 7), (0,), 1),
            "e2": dead("e2", (7,), (0,)),
            "d3": (3, 7),
            "e3": (2, 3),
        },
        {"a": (1, 4), "b": (0,)},
        result=FLAT,
    ),
    Row(
        "layout/a bias a row",
        "p = Flatten(x) [a] a = Gemm(p, d1, e1) r = Relu(a) y = MatMul(r, d2)",
        {"d1": dead("d1", (192, 6), (1, 4), 1), "e1": dead("e1", (2, 6), (1,), 1), "d2": (6, 3)},
        {"a": (1,)},
        {},
        result=FLAT,
    ),
    Row(
        "layout/attention stays",
        f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1]>(f) y = MatMul(f, t)",
        {**CHAIN, "s": sizes(0, 8, -1)},
        {},
        {"a": {2, 5}},
        result="float[n,o,h] y",
    ),
]


RESIZED = 'Resize<mode="nearest">(r, "", "", sizes)'
IMAGE_SIZE = {"first": sizes(0), "two": sizes(2), "four": sizes(4), "along": sizes(0), "big": sizes(16, 16)}
SIZES = [
    Row(
        "sizes/as many channels as come in, another image",
        f"{CONV1} r = Relu(a) c = Shape(r) p = Slice(c, first, two, along) sizes = Concat<axis=0>(p, big) "
        f"t = {RESIZED} y = Conv(t, w2)",
        {**CHAIN, **IMAGE_SIZE},
        DEAD,
    ),
    Row(
        "sizes/of a relative, cast and picked one by one",
        f"{CONV1} r = Relu(a) c = Shape(a) n = Gather(c, nil) u = Unsqueeze(n, along) k = Gather(c, one) "
        "v = Unsqueeze(k, along) w = Cast<to=7>(v) sizes = Concat<axis=0>(u, w, big) "
        f"t = {RESIZED} y = Conv(t, w2)",
        {**CHAIN, **IMAGE_SIZE, "nil": np.int64(0), "one": np.int64(1)},
        DEAD,
    ),
    Row(
        "sizes/of another value",
        f"{CONV1} [b] b = Conv(x, w3) r = Relu(a) c = Shape(b) p = Slice(c, first, two, along) "
        f"sizes = Concat<axis=0>(p, big) t = {RESIZED} d = Conv(t, w2) e = Conv(b, w4) m = ReduceMax(e) y = Add(d, m)",
        {**CHAIN, **IMAGE_SIZE, "w3": dead("w3", (8, 3, 1, 1), (1,)), "w4": (4, 8, 1, 1)},
        {},
        {"a": {2, 5}, "b": {1}},
        {"a": "not constant", "b": "how many channels"},
    ),
    Row(
        "sizes/of the image alone",
        f"{CONV1} r = Relu(a) c = Shape<start=2>(r) f = Cast<to=1>(c) s = ReduceMax<keepdims=0>(f) t = Mul(r, s) "
        "y = Conv(t, w2)",
        CHAIN,
        DEAD,
    ),
    Row(
        "sizes/the number of channels as a number",
        f"{CONV1} r = Relu(a) c = Shape<start=1,end=2>(r) f = Cast<to=1>(c) t = Mul(r, f) y = Conv(t, w2)",
        CHAIN,
        {},
        {"a": {2, 5}},
        {"a": "reads how many channels there are"},
    ),
    Row(
        "sizes/the number of channels as an output",
        f"{CONV1} r = Relu(a) y = Conv(r, w2) z = Shape(r)",
        CHAIN,
        {},
        {"a": {2, 5}},
        {"a": "how many channels"},
        result="float[n,o,h,w] y, int64[q] z",
    ),
    Row(
        "sizes/a reshape to its own",
        f"{CONV1} r = Relu(a) c = Shape(r) t = Reshape(r, c) y = Conv(t, w2)",
        CHAIN,
        DEAD,
    ),
    Row(
        "sizes/flattened by its own",
        f"{CONV1} r = Relu(a) c = Shape<end=1>(r) s = Concat<axis=0>(c, rest) t = Reshape(r, s) y = MatMul(t, m)",
        {**CHAIN, "rest": sizes(-1), "m": (512, 3)},
        DEAD,
        header="float[n,3,8,8] x",
        result=FLAT.replace("2", "n"),
    ),
    Row(
        "sizes/channels laid along another axis",
        f"{CONV1} r = Relu(a) c = Shape<start=1,end=2>(r) s = Concat<axis=0>(c, rest) t = Reshape(r, s) "
        "y = MatMul(t, m)",
        {**CHAIN, "rest": sizes(-1), "m": (128, 3)},
        {},
        {"a": {2, 5}},
        {"a": "not constant"},
        result="float[p,o] y",
    ),
]
