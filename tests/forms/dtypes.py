"""Stored types, mixed types and results a type cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.forms.build import (
    NUMPY_OF,
    Form,
    Recipe,
    Weight,
    bn,
    folds,
    may,
    model,
    positive,
    rand,
    reference,
    stays,
)

W = (4, 3, 3, 3)
CONV_BN = "c = Conv(x, W) y = BatchNormalization(c, g, b, m, v)"


def rows() -> Iterator[Form]:
    for dtype in ("float16", "bfloat16", "double"):
        for form in _of(dtype):
            yield form if dtype == "float16" else reference(form)
    yield from _mixed()
    yield from _limits()


def _typed(body: str, dtype: str, x: str = "[2,3,6,6]", /, **weights: Weight) -> Recipe:
    stored = {n: w if isinstance(w, tuple) else w.astype(NUMPY_OF[dtype]) for n, w in weights.items()}
    opset, ir = (22, 10) if dtype == "bfloat16" else (17, 8)
    return model(body, x=f"{dtype}{x} x", dtype=dtype, opset=opset, ir=ir, **stored)


def _of(dtype: str) -> Iterator[Form]:
    stats = bn(4, dtype=dtype)
    pair = "s = Mul(c, k) y = Add(s, t)"
    wide = {"k": positive(4, 1, 1), "t": rand(1, 4, 1, 1)}
    flat = {"k": positive(4), "t": rand(4)}
    yield folds(f"dtypes/{dtype}-Conv-bn-bias", _typed(CONV_BN.replace("W)", "W, B)"), dtype, W=W, B=rand(4), **stats))
    strided = CONV_BN.replace("Conv(", "Conv<strides = [2,1], pads = [1,0,0,1]>(")
    yield folds(f"dtypes/{dtype}-Conv-bn-strided", _typed(strided, dtype, W=W, **stats))
    yield folds(f"dtypes/{dtype}-Conv-mul-add", _typed(f"c = Conv(x, W) {pair}", dtype, W=W, **wide))
    up = CONV_BN.replace("Conv", "ConvTranspose")
    yield folds(f"dtypes/{dtype}-ConvTranspose-bn", _typed(up, dtype, W=(3, 4, 3, 3), **stats))
    deep = CONV_BN.replace("Conv(", "Conv<group = 4>(")
    yield folds(f"dtypes/{dtype}-depthwise-bn", _typed(deep, dtype, "[2,4,6,6]", W=(4, 1, 3, 3), **stats))
    gemm = CONV_BN.replace("Conv(x, W)", "Gemm<transB = 1>(x, W, B)")
    yield folds(f"dtypes/{dtype}-Gemm-bn", _typed(gemm, dtype, "[2,6]", W=(4, 6), B=rand(4), **stats))
    product = _typed(f"c = MatMul(x, W) {pair}", dtype, "[2,6]", W=(6, 4), **flat)
    yield folds(f"dtypes/{dtype}-MatMul-mul-add", product, remain="Add")
    scalar = _typed("c = Conv(x, W) y = Div(c, k)", dtype, W=W, k=positive())
    yield folds(f"dtypes/{dtype}-Conv-div-scalar", scalar)
    computed = "e = CastLike(e0, W) s = Add(v, e) q = Sqrt(s) k = Div(g, q) c = Conv(x, W) y = Mul(c, k)"
    constants = {"v": positive(4, 1, 1, seed=5), "g": positive(4, 1, 1)}
    text = "e0 = Constant<value = float {0.01}>() " + computed
    yield folds(f"dtypes/{dtype}-computed-scale", _typed(text, dtype, W=W, **constants))


def _mixed() -> Iterator[Form]:
    """Low-precision data with float32 statistics, as BatchNormalization allows since opset 14."""
    for dtype in ("float16", "bfloat16"):
        opset, ir = (22, 10) if dtype == "bfloat16" else (15, 8)
        x = f"{dtype}[2,3,6,6] x"
        for name, stats in (
            ("statistics-float32", bn(4, dtype=dtype, statistics="float")),
            ("all-float32", bn(4)),
            ("scale-float32", bn(4, dtype="float", statistics=dtype)),
        ):
            recipe = model(CONV_BN, x=x, dtype=dtype, opset=opset, ir=ir, W=W, **stats)
            yield reference(folds(f"dtypes/{dtype}-mixed-{name}", recipe))
        biased = CONV_BN.replace("W)", "W, B)")
        recipe = model(biased, x=x, dtype=dtype, opset=opset, ir=ir, W=W, B=(4,), **bn(4))
        yield reference(folds(f"dtypes/{dtype}-mixed-with-bias", recipe))
    old = bn(4, dtype="float16", statistics="float")
    recipe = model(CONV_BN, x="float16[2,3,6,6] x", dtype="float16", opset=14, W=W, **old)
    yield reference(folds("dtypes/float16-mixed-opset14", recipe))
    wide = model(CONV_BN, W=W, **bn(4, dtype="float", statistics="double"))
    yield reference(folds("dtypes/float-mixed-statistics-double", wide))
    cast = "h = Cast<to = 10>(x) d = Conv(h, W) c = Cast<to = 1>(d) y = BatchNormalization(c, g, b, m, v)"
    recipe = model(cast, W=rand(*W).astype(np.float16), **bn(4))
    yield may("dtypes/half-conv-cast-float-bn", "the Cast widens after rounding", recipe, tolerance=5e-3)
    down = "d = Conv(x, W) c = Cast<to = 10>(d) y = BatchNormalization(c, g, b, m, v)"
    recipe = model(down, dtype="float", y="float16 y", W=rand(*W), **bn(4, dtype="float16"))
    yield may("dtypes/float-conv-cast-half-bn", "the Cast narrows in between", recipe)
    whole = "d = Conv(x, W) e = Cast<to = 6>(d) c = Cast<to = 1>(e) y = BatchNormalization(c, g, b, m, v)"
    yield stays("dtypes/cast-to-integer-between", "not_linear", model(whole, W=W, **bn(4)))


def _limits() -> Iterator[Form]:
    half = "float16[2,3,6,6] x"
    big = rand(*W, scale=300.0).astype(np.float16)
    scale = np.array([[[400.0]], [[1]], [[1]], [[1]]], np.float16)
    # Small inputs keep the convolution's output finite where the folded weight would not be.
    tame = "h = Clip(x, lo, hi) c = Conv(h, W) y = Mul(c, k)"
    ends = {"lo": np.array(-1e-3, np.float16), "hi": np.array(1e-3, np.float16)}
    recipe = model(tame, x=half, dtype="float16", W=big, k=scale, **ends)
    yield stays("dtypes/float16-weight-overflows", "not_finite", recipe)
    shift = np.array([[[60000.0]], [[0]], [[0]], [[0]]], np.float16)
    bias = np.array([60000, 0, 0, 0], np.float16)
    body = "c = Conv(x, W, B) s = Sub(c, u) y = Mul(s, k)"
    weights = {
        "W": rand(*W).astype(np.float16),
        "B": bias,
        "u": shift,
        "k": positive(4, 1, 1).astype(np.float16),
    }
    recipe = model(body, x=half, dtype="float16", **weights)
    yield may("dtypes/float16-shift-cancels-bias", "exact folding removes a rounding", recipe, tolerance=2.0)
    recipe = model("c = Conv(x, W, B) y = Add(c, u)", x=half, dtype="float16", W=W, B=bias, u=shift)
    yield stays("dtypes/float16-bias-overflows", "not_finite", recipe)
    large = rand(*W, scale=1e20)
    ends = {"lo": np.array(-1e-25, np.float32), "hi": np.array(1e-25, np.float32)}
    recipe = model(tame, W=large, k=np.full((4, 1, 1), 1e25, np.float32), **ends)
    yield stays("dtypes/float32-weight-overflows", "not_finite", recipe)
    small = np.array([[[1e-7]], [[1]], [[1]], [[1]]], np.float16)
    recipe = model("c = Conv(x, W) y = Mul(c, k)", x=half, dtype="float16", W=W, k=small)
    yield may("dtypes/float16-channel-underflows", "the weights of one channel become subnormal", recipe)
    all_small = model("c = Conv(x, W) y = Mul(c, k)", x=half, dtype="float16", W=W, k=np.full((), 2e-6, np.float16))
    yield may("dtypes/float16-all-underflow", "every folded weight loses its digits", all_small)
    for name, line, k in (
        ("div-zero", "y = Div(c, k)", np.zeros((4, 1, 1), np.float32)),
        ("div-one-zero", "y = Div(c, k)", np.array([[[1]], [[0]], [[1]], [[2]]], np.float32)),
        ("div-zero-scalar", "y = Div(c, k)", np.zeros((), np.float32)),
        ("mul-nan", "y = Mul(c, k)", np.array([[[1]], [[np.nan]], [[1]], [[2]]], np.float32)),
        ("mul-infinite", "y = Mul(c, k)", np.full((1,), np.inf, np.float32)),
        ("add-nan", "y = Add(c, k)", np.full((4, 1, 1), np.nan, np.float32)),
        ("add-infinite", "y = Add(c, k)", np.array([[[1]], [[-np.inf]], [[1]], [[2]]], np.float32)),
    ):
        yield stays(f"dtypes/{name}", "not_finite", model(f"c = Conv(x, W) {line}", W=W, k=k))
    infinite = model("c = Conv(x, W) y = Div(c, k)", W=W, k=np.full((4, 1, 1), np.inf, np.float32))
    yield may("dtypes/div-infinite", "the scale is zero", infinite)
    zero = model("c = Conv(x, W) y = Mul(c, k)", W=W, k=np.zeros((4, 1, 1), np.float32))
    yield folds("dtypes/mul-zero", zero)
    computed = "k = Reciprocal(z) c = Conv(x, W) y = Mul(c, k)"
    zeros = np.array([[[1]], [[0]], [[1]], [[2]]], np.float32)
    yield stays("dtypes/computed-reciprocal-of-zero", "not_finite", model(computed, W=W, z=zeros))
    root = "k = Sqrt(z) c = Conv(x, W) y = Mul(c, k)"
    yield stays("dtypes/computed-root-of-negative", "not_finite", model(root, W=W, z=-zeros - 1))
    holed = rand(*W)
    holed[2, 1, 1, 1] = np.nan
    yield may(
        "dtypes/weight-holds-nan",
        "the channel is NaN with or without the fold",
        model(CONV_BN, W=holed, **bn(4)),
    )
