"""Linear nodes of every kind, with a normalisation or an affine after them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.forms.build import Form, Weight, bn, folds, may, model, positive, rand, stays

BN = "y = BatchNormalization(c, g, b, m, v)"
SPATIAL = {1: "8", 2: "6,6", 3: "4,4,4"}
# op: group kind -> (group, input channels, weight channels (first two axes), output channels)
CONV = {"plain": (1, 3, (4, 3), 4), "grouped": (2, 4, (6, 2), 6)}
CONV |= {"depthwise": (4, 4, (4, 1), 4), "multiplier": (3, 3, (6, 1), 6)}
TRANSPOSED = {"plain": (1, 3, (3, 4), 4), "grouped": (2, 4, (4, 3), 6)}
TRANSPOSED |= {"depthwise": (4, 4, (4, 1), 4), "multiplier": (3, 3, (3, 2), 6)}


def rows() -> Iterator[Form]:
    yield from _convolutions()
    yield from _biases()
    yield from _attributes()
    yield from _gemm()
    yield from _gemm_limits()
    yield from _matmul()


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def _convolutions() -> Iterator[Form]:
    for op, kinds in (("Conv", CONV), ("ConvTranspose", TRANSPOSED)):
        for rank, space in SPATIAL.items():
            for kind, (group, c_in, weight, c) in kinds.items():
                kernel = (2,) * rank if rank == 3 else (3,) * rank
                body = f"c = {op}<group = {group}>(x, W) {BN}"
                x = f"float[2,{c_in},{space}] x"
                yield folds(f"linear/{op}{rank}d-{kind}-bn", model(body, x=x, W=weight + kernel, **bn(c)))
            ones = (1,) * rank
            body = f"c = {op}(x, W) s = Mul(c, k) y = Add(s, t)"
            constants = {"k": positive(4, *ones), "t": rand(1, 4, *ones)}
            shape = (4, 3) if op == "Conv" else (3, 4)
            recipe = model(body, x=f"float[2,3,{space}] x", W=shape + (2,) * rank, **constants)
            yield folds(f"linear/{op}{rank}d-mul-add", recipe)


def _biases() -> Iterator[Form]:
    zero = "o = Constant<value = int64[1] {4}>() z = Constant<value = float {0}>()"
    variants: dict[str, tuple[str, str, dict[str, Weight]]] = {
        "empty-name": ("", '(x, W, "")', {}),
        "initializer": ("", "(x, W, B)", {"B": rand(4)}),
        "Constant": ("B = Constant<value = float[4] {0.5, -1, 0, 2}>()", "(x, W, B)", {}),
        "Identity": ("B = Identity(B0)", "(x, W, B)", {"B0": rand(4)}),
        "zero-Expand": (f"{zero} B = Expand(z, o)", "(x, W, B)", {}),
        "zero-CastLike-Expand": (f"{zero} l = CastLike(z, x) B = Expand(l, o)", "(x, W, B)", {}),
        "zero-CastLike-Expand-of-Shape": (
            "s = Shape<start = AXIS, end = END>(W) z = Constant<value = int64 {0}>() "
            "l = CastLike(z, x) B = Expand(l, s)",
            "(x, W, B)",
            {},
        ),
    }
    for op, weight, axis in (("Conv", (4, 3, 3, 3), 0), ("ConvTranspose", (3, 4, 3, 3), 1)):
        for name, (before, inputs, constants) in variants.items():
            before = before.replace("AXIS", str(axis)).replace("END", str(axis + 1))
            body = f"{before} c = {op}{inputs} {BN}"
            yield folds(f"linear/{op}-bias-{name}", model(body, W=weight, **constants, **bn(4)))
    dynamic = model(f"c = Conv(x, W, B) {BN}", x="float[2,3,6,6] x, float[4] B", W=(4, 3, 3, 3), **bn(4))
    yield stays("linear/Conv-bias-at-run-time", "bias_not_constant", dynamic)
    given = model(f"c = Conv(x, W) {BN}", x="float[2,3,6,6] x, float[4,3,3,3] W", **bn(4))
    yield stays("linear/Conv-weight-at-run-time", "weight_not_constant", given)


def _attributes() -> Iterator[Form]:
    for text in (
        "pads = [1,1,1,1]",
        "pads = [0,1,2,0], strides = [2,1]",
        "dilations = [2,2]",
        'auto_pad = "SAME_UPPER", strides = [2,2]',
        'auto_pad = "SAME_LOWER"',
        'auto_pad = "VALID", kernel_shape = [3,3]',
    ):
        body = f"c = Conv<{text}>(x, W) {BN}"
        yield folds(f"linear/Conv-{_slug(text)}", model(body, W=(4, 3, 3, 3), **bn(4)))
    for text in (
        "strides = [2,2], pads = [1,1,1,1], output_padding = [1,1]",
        "strides = [2,2], output_shape = [12,12]",
        'auto_pad = "SAME_UPPER", strides = [2,2]',
        "dilations = [2,1]",
    ):
        body = f"c = ConvTranspose<{text}>(x, W) {BN}"
        yield folds(f"linear/ConvTranspose-{_slug(text)}", model(body, W=(3, 4, 3, 3), **bn(4)))
    pointwise = model(f"c = Conv(x, W) {BN}", W=(12, 3, 1, 1), **bn(12))
    yield folds("linear/Conv-pointwise", pointwise)
    single = model(f"c = Conv(x, W) {BN}", W=(1, 3, 3, 3), **bn(1))
    yield folds("linear/Conv-one-channel", single)
    unknown = model(f"c = Conv(x, W) {BN}", x="float[N,3,H,W] x", W=(4, 3, 1, 1), **bn(4))
    yield folds("linear/Conv-dynamic-shape", unknown)
    bare = model(f"c = Conv(x, W) {BN}", value_info=False, W=(4, 3, 3, 3), **bn(4))
    yield folds("linear/Conv-no-value-info", bare)


def _gemm() -> Iterator[Form]:
    for a in (0, 1):
        for b in (0, 1):
            x, weight = ("float[6,3] x" if a else "float[3,6] x"), ((5, 6) if b else (6, 5))
            body = f"c = Gemm<transA = {a}, transB = {b}>(x, W, B) {BN}"
            yield folds(f"linear/Gemm-A{a}-B{b}", model(body, x=x, W=weight, B=(5,), **bn(5)))
    shapes: dict[str, tuple[int, ...]] = {
        "O": (5,),
        "1xO": (1, 5),
        "NxO": (3, 5),
        "Nx1": (3, 1),
        "1x1": (1, 1),
        "1": (1,),
        "scalar": (),
    }
    for name, shape in shapes.items():
        body = f"c = Gemm<beta = 0.5>(x, W, B) {BN}"
        recipe = model(body, x="float[3,6] x", W=(6, 5), B=rand(*shape), **bn(5))
        yield folds(f"linear/Gemm-C-{name}", recipe)
    for name, inputs in (("absent", "(x, W)"), ("empty-name", '(x, W, "")')):
        body = f"c = Gemm<transB = 1>{inputs} {BN}"
        yield folds(f"linear/Gemm-C-{name}", model(body, x="float[3,6] x", W=(5, 6), **bn(5)))
    for text in ("alpha = 0.5", "alpha = -2.0, beta = 3.0", "alpha = 0.25, transB = 1, beta = 0.125"):
        weight = (5, 6) if "transB" in text else (6, 5)
        body = f"c = Gemm<{text}>(x, W, B) {BN}"
        yield folds(f"linear/Gemm-{_slug(text)}", model(body, x="float[3,6] x", W=weight, B=(5,), **bn(5)))
    square = model(f"c = Gemm(x, W, B) {BN}", x="float[3,5] x", W=(5, 5), B=(5,), **bn(5))
    yield folds("linear/Gemm-square-weight", square)
    for name, k, t in (("O", (5,), (5,)), ("1xO", (1, 5), (1, 5)), ("scalar", (), (1, 1))):
        body = "c = Gemm<transB = 1>(x, W, B) s = Mul(c, k) y = Add(s, t)"
        recipe = model(body, x="float[3,6] x", W=(5, 6), B=(5,), k=positive(*k), t=rand(*t))
        yield folds(f"linear/Gemm-mul-add-{name}", recipe)
    for name, line in (("sub", "y = Sub(k, c)"), ("div", "y = Div(c, k)"), ("mul-left", "y = Mul(k, c)")):
        recipe = model(f"c = Gemm(x, W) {line}", x="float[3,6] x", W=(6, 5), k=positive(5))
        yield folds(f"linear/Gemm-{name}", recipe)


def _gemm_limits() -> Iterator[Form]:
    x = "float[3,6] x"
    # beta = 0 switches C off, so the shift would need beta changed: an edit a folder may decline.
    off = model(f"c = Gemm<beta = 0.0>(x, W, B) {BN}", x=x, W=(6, 5), B=(5,), **bn(5))
    yield may("linear/Gemm-beta-0", "C is switched off", off)
    zero = model(f"c = Gemm<alpha = 0.0>(x, W, B) {BN}", x=x, W=(6, 5), B=(5,), **bn(5))
    yield may("linear/Gemm-alpha-0", "the weight is switched off", zero)
    run_time = model(f"c = Gemm(x, W, B) {BN}", x="float[3,6] x, float[5] B", W=(6, 5), **bn(5))
    yield stays("linear/Gemm-C-at-run-time", "bias_not_constant", run_time)
    left = model(f"c = Gemm(W, x) {BN}", x="float[6,5] x", W=(5, 6), **bn(5))
    yield stays("linear/Gemm-constant-A", "weight_not_constant", left)
    by_row = model("c = Gemm(x, W) y = Mul(c, k)", x="float[5,6] x", W=(6, 5), k=positive(5, 1))
    yield stays("linear/Gemm-mul-per-row", "not_per_channel", by_row, listed=False)
    full = model("c = Gemm(x, W) y = Mul(c, k)", x="float[5,6] x", W=(6, 5), k=positive(5, 5))
    yield stays("linear/Gemm-mul-full", "not_per_channel", full, listed=False)


def _matmul() -> Iterator[Form]:
    two, three = "float[3,6] x", "float[2,3,6] x"
    yield folds("linear/MatMul-bn", model(f"c = MatMul(x, W) {BN}", x=two, W=(6, 5), **bn(5)), remain="Add")
    biased = f"a = MatMul(x, W) c = Add(a, B) {BN}"
    yield folds("linear/MatMul-add-bn", model(biased, x=two, W=(6, 5), B=(5,), **bn(5)), remain="Add")
    left = f"a = MatMul(x, W) c = Add(B, a) {BN}"
    yield folds("linear/MatMul-add-left-bn", model(left, x=two, W=(6, 5), B=(5,), **bn(5)), remain="Add")
    for name, x in (("2d", two), ("3d", three)):
        body = "a = MatMul(x, W) s = Mul(a, k) y = Add(s, t)"
        recipe = model(body, x=x, W=(6, 5), k=positive(5), t=rand(5))
        yield folds(f"linear/MatMul-{name}-mul-add", recipe, remain="Add")
        yield folds(f"linear/MatMul-{name}-mul", model("a = MatMul(x, W) y = Mul(k, a)", x=x, W=(6, 5), k=(5,)))
        div = model("a = MatMul(x, W) y = Div(a, k)", x=x, W=(6, 5), k=positive(1, 5))
        yield folds(f"linear/MatMul-{name}-div", div)
        long = model(
            "a = MatMul(x, W) d = Sub(a, m) e = Mul(d, k) y = Add(e, t)",
            x=x,
            W=(6, 5),
            m=rand(5),
            k=positive(5),
            t=rand(5),
        )
        yield folds(f"linear/MatMul-{name}-sub-mul-add", long, remain="Add")
    sequence = model(f"c = MatMul(x, W) {BN}", x="float[2,5,6] x", W=(6, 5), **bn(5))
    # The normalised axis 1 is the sequence, though it is as long as the weight's output axis.
    yield stays("linear/MatMul-3d-bn", "not_per_channel", sequence)
    shift = model("a = MatMul(x, W) y = Add(a, t)", x=two, W=(6, 5), t=(5,))
    yield may("linear/MatMul-add-alone", "the Add is its bias already", shift, remain="Add")
    turned = model("a = MatMul(W, x) y = Mul(a, k)", x="float[6,3] x", W=(5, 6), k=positive(5, 1))
    yield may("linear/MatMul-constant-left", "rows of a left-hand weight are channels too", turned)
    batched = model("a = MatMul(x, W) y = Mul(a, k)", x=three, W=(2, 6, 5), k=positive(5))
    yield may("linear/MatMul-batched-weight", "one matrix per batch entry", batched)
    turned = model(f"a = MatMul(x, W) c = Transpose<perm = [0,2,1]>(a) {BN}", x=three, W=(6, 5), **bn(5))
    yield may("linear/MatMul-transpose-bn", "the channel moves through the Transpose", turned, remain="Add")
    flat = model(
        f"a = MatMul(x, W) s = Constant<value = int64[2] {{-1,5}}>() c = Reshape(a, s) {BN}",
        x=three,
        W=(6, 5),
        **bn(5),
    )
    yield may("linear/MatMul-reshape-bn", "the Reshape keeps the channel axis last", flat, remain="Add")
