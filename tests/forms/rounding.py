"""Activations rounded on the way: nothing crosses a QuantizeLinear, integer chains stay exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.forms.build import Form, Weight, bn, folds, may, model, positive, rand, stays
from tests.forms.quantised import PER_CHANNEL, TAIL, W, ints, plus, scales, stored_weights


def rows() -> Iterator[Form]:
    yield from _across_rounding()
    yield from _integer()


def _across_rounding() -> Iterator[Form]:
    q = "ys = Constant<value = float {0.05}>() yz = Constant<value = int8 {3}>()"
    pair = "o = QuantizeLinear(e, ys, yz) c = DequantizeLinear(o, ys, yz)"
    static = f"{q} {PER_CHANNEL} e = Conv(x, w) {pair} {TAIL}"
    yield stays("quantised/qdq-between", "rounding_between", model(static, **stored_weights(), **plus(4)))
    real = f"{q} e = Conv(x, W) {pair} {TAIL}"
    yield stays("quantised/qdq-between-float-weight", "rounding_between", model(real, W=W, **plus(4)))
    affine = f"{q} e = Conv(x, W) {pair} y = Mul(c, k)"
    yield stays("quantised/qdq-between-mul", "rounding_between", model(affine, W=W, k=positive(4, 1, 1)))
    after = f"{q} {PER_CHANNEL} c = Conv(x, w) e = BatchNormalization(c, g, b, m, v) y = QuantizeLinear(e, ys, yz)"
    yield folds("quantised/bn-then-quantise", model(after, y="int8 y", **stored_weights(), **plus(4)))
    ahead = (
        "xs = Constant<value = float {0.03}>() xz = Constant<value = uint8 {128}>() "
        "xq = QuantizeLinear(x, xs, xz) d = DequantizeLinear(xq, xs, xz)"
    )
    yield folds(
        "quantised/input-quantised",
        model(f"{ahead} {PER_CHANNEL} c = Conv(d, w) {TAIL}", **stored_weights(), **plus(4)),
    )
    yield folds("quantised/input-quantised-float-weight", model(f"{ahead} c = Conv(d, W) {TAIL}", W=W, **bn(4)))


def _integer() -> Iterator[Form]:
    scale: dict[str, Weight] = {
        "xs": np.array(0.03, np.float32),
        "xz": np.array(128, np.uint8),
        "ys": np.array(0.09, np.float32),
        "yz": np.array(120, np.uint8),
    }
    conv = "xq = QuantizeLinear(x, xs, xz) o = QLinearConv(xq, xs, xz, q, s, z, ys, yz)"
    chain = f"{conv} c = DequantizeLinear(o, ys, yz) {TAIL}"
    yield stays("quantised/QLinearConv-bn", "rounding_between", model(chain, **scale, **stored_weights(), **plus(4)))
    scaled = f"{conv} c = DequantizeLinear(o, ys, yz) y = Mul(c, k)"
    recipe = model(scaled, **scale, **stored_weights(), k=positive(4, 1, 1))
    yield may("quantised/QLinearConv-mul", "a pure scale fits into the DequantizeLinear after it", recipe)
    dynamic = (
        "xq, xs, xz = DynamicQuantizeLinear(x) i = ConvInteger(xq, q, xz) f = Cast<to = 1>(i) "
        "r = Mul(xs, s) c = Mul(f, r)"
    )
    dynamic_weights: dict[str, Weight] = {"q": ints(W, np.uint8, 0, 250), "s": scales() / 4}
    bare = dynamic.replace("q, xz)", "q, xz, z)")
    # The scale of an integer convolution is a run-time product; the constant half of it can take the factor.
    recipe = model(f"{bare} {TAIL}", z=np.array(120, np.uint8), **dynamic_weights, **plus(4))
    yield may("quantised/ConvInteger-dynamic-bn", "the shift needs a node of its own", recipe)
    biased = f"{bare.replace('c = Mul(f, r)', 'e = Mul(f, r) c = Add(e, B)')} {TAIL}"
    recipe = model(biased, z=np.array(120, np.uint8), B=rand(1, 4, 1, 1), **dynamic_weights, **plus(4))
    yield may("quantised/ConvInteger-dynamic-bias-bn", "scale and bias can take the affine", recipe)
    static = "xq = QuantizeLinear(x, xs, xz) i = ConvInteger(xq, q, xz, z) f = Cast<to = 1>(i) c = Mul(f, r) " + TAIL
    fixed = {n: scale[n] for n in ("xs", "xz")}
    recipe = model(static, z=np.array(120, np.uint8), r=scales() * 0.03, q=dynamic_weights["q"], **fixed, **plus(4))
    yield may("quantised/ConvInteger-static-bn", "two affines after an integer convolution are one", recipe)
    product = (
        "xq, xs, xz = DynamicQuantizeLinear(x) i = MatMulInteger(xq, q, xz, z) f = Cast<to = 1>(i) "
        "r = Mul(xs, s) c = Mul(f, r) y = Mul(c, k)"
    )
    recipe = model(
        product,
        x="float[2,6] x",
        q=ints((6, 4), np.uint8, 0, 250),
        z=np.array(120, np.uint8),
        s=scales(),
        k=positive(4),
    )
    yield may("quantised/MatMulInteger-mul", "the weight's scale can take the factor", recipe)
