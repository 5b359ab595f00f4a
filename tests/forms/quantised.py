"""Quantised weights: what scaling their scales can hold exactly, and what would have to round."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np

from tests.forms.build import Array, Form, Weight, bn, folds, may, model, overridable, positive, rand, stays

TAIL = "y = BatchNormalization(c, g, b, m, v)"
W = (4, 3, 3, 3)
X = "float[2,3,6,6] x"
PER_CHANNEL = "w = DequantizeLinear<axis = 0>(q, s, z)"
PER_TENSOR = "w = DequantizeLinear(q, s, z)"


def ints(shape: tuple[int, ...], dtype: type = np.int8, low: int = -120, high: int = 120, seed: int = 0) -> Array:
    return np.random.default_rng([13, seed, *shape]).integers(low, high, shape).astype(dtype)


def scales(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([17, seed, *shape]).uniform(0.004, 0.02, shape).astype(np.float32)


def plus(c: int, tag: str = "") -> dict[str, Weight]:
    """Normalisation with positive scales only: the weight's scales then stay positive as they are."""
    stats = bn(c, tag)
    return {**stats, f"g{tag}": np.abs(np.asarray(stats[f"g{tag}"]))}


def rows() -> Iterator[Form]:
    yield from _per_channel()
    yield from _per_tensor()
    yield from _bias()
    yield from _linear()
    yield from _blocks()
    yield from _sharing()


def stored_weights(dtype: type = np.int8, c: int = 4) -> dict[str, Weight]:
    low, high = (0, 250) if dtype == np.uint8 else (-120, 120)
    zero: Array = np.full(c, 128 if dtype == np.uint8 else 0, dtype)
    return {"q": ints((c, 3, 3, 3), dtype, low, high), "s": scales(c), "z": zero}


def _per_channel() -> Iterator[Form]:
    body = f"{PER_CHANNEL} c = Conv(x, w) {TAIL}"
    for name, dtype in (("int8", np.int8), ("uint8", np.uint8)):
        yield folds(f"quantised/channel-{name}", model(body, **stored_weights(dtype), **plus(4)))
        offset = {**stored_weights(dtype), "z": ints((4,), dtype, 3, 9)}
        yield folds(f"quantised/channel-{name}-zero-points", model(body, **offset, **plus(4)))
    no_zero = model(body.replace(", z)", ")"), q=ints(W), s=scales(4), **plus(4))
    yield folds("quantised/channel-no-zero-point", no_zero)
    wide = model(body.replace(", z)", ")"), q=ints(W, np.int32, -9999, 9999), s=scales(4) / 99, **plus(4))
    yield folds("quantised/channel-int32", wide)
    for name, kind, low, high in (("int4", ml_dtypes.int4, -8, 8), ("uint4", ml_dtypes.uint4, 0, 16)):
        weights = {
            "q": ints(W, np.int8, low, high).astype(kind),
            "s": scales(4) * 9,
            "z": ints((4,), np.int8, 0, 5).astype(kind),
        }
        yield folds(f"quantised/channel-{name}", model(body, opset=21, ir=10, **weights, **plus(4)))
    old = model(body, opset=13, **stored_weights(), **plus(4))
    yield folds("quantised/channel-opset13", old)
    half = {n: np.asarray(a).astype(np.float16) for n, a in plus(4).items()}
    recipe = model(
        body,
        x="float16[2,3,6,6] x",
        dtype="float16",
        opset=19,
        ir=9,
        q=ints(W),
        s=scales(4).astype(np.float16),
        z=ints((4,), np.int8, 0, 1),
        **half,
    )
    yield folds("quantised/channel-scales-float16", recipe)
    pair = f"{PER_CHANNEL} c = Conv(x, w, B) e = Mul(c, k) y = Add(e, t)"
    recipe = model(pair, **stored_weights(), B=rand(4), k=positive(4, 1, 1), t=rand(4, 1, 1))
    yield folds("quantised/channel-mul-add", recipe)
    # A negative factor must not make a scale negative; negating the integers is exact unless one is -128.
    yield may("quantised/channel-negative-factor", "scales stay positive", model(body, **stored_weights(), **bn(4)))
    lowest = {**stored_weights(), "q": np.where(ints(W) < -100, -128, ints(W)).astype(np.int8)}
    yield stays("quantised/channel-negative-factor-128", "scale_not_positive", model(body, **lowest, **bn(4)))
    zero = {**plus(4), "g": np.array([1, 0, 1, 2], np.float32)}
    yield may("quantised/channel-zero-factor", "a scale may not be zero", model(body, **stored_weights(), **zero))
    wrong = body.replace("axis = 0", "axis = 1")
    by_input = {"q": ints(W), "s": scales(3), "z": np.zeros(3, np.int8)}
    yield stays("quantised/channel-wrong-axis", "scales_not_per_channel", model(wrong, **by_input, **plus(4)))
    behind = f"{PER_CHANNEL} i = Identity(w) c = Conv(x, i) {TAIL}"
    yield may(
        "quantised/behind-Identity",
        "a node more to look through",
        model(behind, **stored_weights(), **plus(4)),
    )
    turned = "r = DequantizeLinear<axis = 3>(q, s, z) w = Transpose<perm = [3,2,0,1]>(r) c = Conv(x, w) " + TAIL
    hwio = {"q": ints((3, 3, 3, 4)), "s": scales(4), "z": np.zeros(4, np.int8)}
    yield may("quantised/behind-Transpose", "the scales' axis moves", model(turned, **hwio, **plus(4)))
    made = f"q = QuantizeLinear<axis = 0>(f, s, z) {body}"
    recipe = model(made, f=rand(*W), s=scales(4), z=np.zeros(4, np.int8), **plus(4))
    yield may("quantised/weight-quantised-in-graph", "the rounding is of constants only", recipe)


def _per_tensor() -> Iterator[Form]:
    body = f"{PER_TENSOR} c = Conv(x, w) {TAIL}"
    one = {"q": ints(W), "s": scales(), "z": np.zeros((), np.int8)}
    for opset in (13, 17, 21):
        ir = 10 if opset == 21 else 8
        yield folds(f"quantised/tensor-opset{opset}", model(body, opset=opset, ir=ir, **one, **plus(4)))
    yield folds(
        "quantised/tensor-uint8",
        model(body, q=ints(W, np.uint8, 0, 250), s=scales(), z=np.array(120, np.uint8), **plus(4)),
    )
    bare = model(body.replace(", z)", ")"), q=ints(W), s=scales(), **plus(4))
    yield folds("quantised/tensor-no-zero-point", bare)
    for opset in (10, 12):  # DequantizeLinear has no axis yet
        recipe = model(body, opset=opset, **one, **plus(4))
        yield stays(f"quantised/tensor-opset{opset}", "opset_too_old", recipe)
    scalar = model(f"{PER_TENSOR} c = Conv(x, w) y = Mul(c, k)", opset=12, **one, k=positive())
    # One factor for all channels needs no axis: folding it even here is right.
    yield may("quantised/tensor-opset12-scalar", "a scalar factor keeps the scale per-tensor", scalar)
    yield may(
        "quantised/tensor-length-1-scale",
        "a scale of shape [1]",
        model(body, q=ints(W), s=scales(1), z=np.zeros(1, np.int8), **plus(4)),
    )


def _bias() -> Iterator[Form]:
    real = model(f"{PER_CHANNEL} c = Conv(x, w, B) {TAIL}", **stored_weights(), B=rand(4), **plus(4))
    yield folds("quantised/bias-float", real)
    weights = stored_weights()
    line = "B = DequantizeLinear<axis = 0>(qb, sb)"
    stored = {"qb": ints((4,), np.int32, -3000, 3000), "sb": np.asarray(weights["s"]) * np.float32(0.02)}
    body = f"{PER_CHANNEL} {line} c = Conv(x, w, B) {TAIL}"
    # The new bias is stored in steps of its own new scale: half a step off at most.
    yield folds("quantised/bias-int32", model(body, **weights, **stored, **plus(4)), tolerance=1e-3)
    lead = (
        "xs = Constant<value = float {0.03}>() xz = Constant<value = int8 {0}>() "
        "xq = QuantizeLinear(x, xs, xz) d = DequantizeLinear(xq, xs, xz)"
    )
    whole = model(f"{lead} {body.replace('Conv(x', 'Conv(d')}", **weights, **stored, **plus(4))
    yield folds("quantised/bias-int32-quantised-input", whole, tolerance=1e-3)
    single = {"qb": ints((4,), np.int32, -3000, 3000), "sb": np.array(0.0004, np.float32)}
    recipe = model(body.replace("<axis = 0>(qb", "(qb"), **weights, **single, **plus(4))
    yield folds("quantised/bias-int32-per-tensor", recipe, tolerance=1e-3)
    ptq = "g = DequantizeLinear(qg, sg) b = DequantizeLinear(qt, st)"
    stats = {n: a for n, a in plus(4).items() if n in "mv"}
    shift = {"qg": ints((4,), np.int8, 30, 120), "sg": scales(), "qt": ints((4,), np.int8), "st": scales()}
    recipe = model(f"{ptq} {PER_CHANNEL} c = Conv(x, w) {TAIL}", **stored_weights(), **shift, **stats)
    yield folds("quantised/bn-scale-and-bias-quantised", recipe)
    recipe = model(f"{ptq} c = Conv(x, W) {TAIL}", W=W, **shift, **stats)
    yield folds("quantised/float-conv-bn-quantised", recipe)


def _linear() -> Iterator[Form]:
    conv = f"{PER_CHANNEL} c = Conv<group = G>(x, w) {TAIL}"
    for name, group, shape in (("grouped", 3, (6, 1, 3, 3)), ("depthwise", 3, (3, 1, 3, 3))):
        c = shape[0]
        recipe = model(conv.replace("G", str(group), 1), q=ints(shape), s=scales(c), z=np.zeros(c, np.int8), **plus(c))
        yield folds(f"quantised/Conv-{name}", recipe)
    up = f"w = DequantizeLinear<axis = 1>(q, s, z) c = ConvTranspose<group = G>(x, w) {TAIL}"
    turned = {"q": ints((3, 4, 3, 3)), "s": scales(4), "z": np.zeros(4, np.int8)}
    yield folds("quantised/ConvTranspose", model(up.replace("G", "1", 1), **turned, **plus(4)))
    # Both groups share the scales, so one cannot be scaled without the other.
    grouped = {"q": ints((4, 2, 3, 3)), "s": scales(2), "z": np.zeros(2, np.int8)}
    recipe = model(up.replace("G", "2", 1), x="float[2,4,6,6] x", **grouped, **plus(4))
    yield stays("quantised/ConvTranspose-grouped", "scales_not_per_channel", recipe)
    for trans, axis, matrix in ((1, 0, (4, 6)), (0, 1, (6, 4))):
        body = f"w = DequantizeLinear<axis = {axis}>(q, s, z) c = Gemm<transB = {trans}>(x, w, B) {TAIL}"
        recipe = model(
            body, x="float[2,6] x", q=ints(matrix), s=scales(4), z=np.zeros(4, np.int8), B=rand(4), **plus(4)
        )
        yield folds(f"quantised/Gemm-transB{trans}", recipe)
    single = f"{PER_TENSOR} c = Gemm<transB = 1>(x, w, B) {TAIL}"
    recipe = model(single, x="float[2,6] x", q=ints((4, 6)), s=scales(), z=np.zeros((), np.int8), B=rand(4), **plus(4))
    yield folds("quantised/Gemm-per-tensor", recipe)
    body = "w = DequantizeLinear<axis = 1>(q, s, z) c = MatMul(x, w) e = Mul(c, k) y = Add(e, t)"
    weights = {"q": ints((6, 4)), "s": scales(4), "z": np.zeros(4, np.int8), "k": positive(4), "t": rand(4)}
    yield folds("quantised/MatMul-mul-add", model(body, x="float[2,6] x", **weights), remain="Add")
    negative = body.replace("axis = 1", "axis = -1")
    yield folds("quantised/MatMul-negative-axis", model(negative, x="float[2,6] x", **weights), remain="Add")


def _blocks() -> Iterator[Form]:
    body = f"w = DequantizeLinear<axis = AXIS, block_size = SIZE>(q, s) c = Conv(x, w) {TAIL}"
    x = "float[2,8,6,6] x"
    along_input = {"q": ints((4, 8, 3, 3)), "s": scales(4, 2, 3, 3)}
    text = body.replace("AXIS", "1").replace("SIZE", "4")
    yield folds("quantised/blocks-along-input", model(text, x=x, opset=21, ir=10, **along_input, **plus(4)))
    along_output = {"q": ints((4, 8, 3, 3)), "s": scales(2, 8, 3, 3)}
    text = body.replace("AXIS", "0").replace("SIZE", "2")
    recipe = model(text, x=x, opset=21, ir=10, **along_output, **plus(4))
    yield stays("quantised/blocks-along-output", "scales_not_per_channel", recipe)
    single = {"q": ints((4, 8, 3, 3)), "s": scales(4, 8, 3, 3)}
    text = body.replace("AXIS", "0").replace("SIZE", "1")
    recipe = model(text, x=x, opset=21, ir=10, **single, **plus(4))
    yield may("quantised/blocks-of-one", "every channel has its own scales after all", recipe)
    gemm = "w = DequantizeLinear<axis = 0, block_size = 4>(q, s) c = MatMul(x, w) y = Mul(c, k)"
    weights = {
        "q": ints((8, 4), np.int8, -8, 8).astype(ml_dtypes.int4),
        "s": scales(2, 4) * 9,
        "k": positive(4),
    }
    yield folds("quantised/blocks-MatMul-int4", model(gemm, x="float[2,8] x", opset=21, ir=10, **weights))


def _sharing() -> Iterator[Form]:
    two = "float y, float o"
    shared = f"{PER_CHANNEL} c = Conv(x, w) {TAIL} o = Conv<strides = [2,2]>(x, w)"
    yield folds("quantised/shared-weight", model(shared, y=two, **stored_weights(), **plus(4)))
    again = PER_CHANNEL.replace("w =", "w2 =")
    stored = f"{PER_CHANNEL} {again} c = Conv(x, w) {TAIL} o = Conv<strides = [2,2]>(x, w2)"
    yield folds("quantised/shared-integers", model(stored, y=two, **stored_weights(), **plus(4)))
    other = f"{PER_CHANNEL} c = Conv(x, w) {TAIL} w2 = DequantizeLinear<axis = 0>(q2, s, z) o = Conv(x, w2)"
    recipe = model(other, y=two, q2=ints(W, seed=3), **stored_weights(), **plus(4))
    yield folds("quantised/shared-scales", recipe)
    lead = "xq = QuantizeLinear(x, s, zx) d = DequantizeLinear(xq, s, zx)"
    body = f"{lead} {PER_TENSOR} c = Conv(d, w) {TAIL}"
    weights: dict[str, Weight] = {
        "q": ints(W),
        "s": scales() * 2,
        "z": np.zeros((), np.int8),
        "zx": np.zeros((), np.int8),
    }
    yield folds("quantised/scale-shared-with-activation", model(body, **weights, **plus(4)))
    recipe = model(f"{PER_CHANNEL} c = Conv(x, w) {TAIL}", overridable("s"), **stored_weights(), **plus(4))
    yield stays("quantised/scales-overridable", "overridable", recipe)
    recipe = model(f"{PER_CHANNEL} c = Conv(x, w) {TAIL}", overridable("q"), **stored_weights(), **plus(4))
    # The fold would change the scales alone, which are right for any integers; still the weight is not fixed.
    yield may("quantised/integers-overridable", "only the scales would change", recipe)
