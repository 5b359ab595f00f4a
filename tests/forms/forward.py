"""Affines before a linear node: exact only where no padding adds zeros that the affine never saw."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forms.build import Form, bn, folds, may, model, positive, rand, reference, stays

BN = "c = BatchNormalization(x, g, b, m, v)"
W = (4, 3, 3, 3)
PLAIN = "y = Conv(c, W)"


def rows() -> Iterator[Form]:
    yield from _convolutions()
    yield from _affines()
    yield from _padding()
    yield from _products()
    yield from _between()
    yield from _both_sides()


def _convolutions() -> Iterator[Form]:
    for rank, space in ((1, "8"), (2, "6,6"), (3, "4,4,4")):
        kernel = (2,) * rank
        recipe = model(f"{BN} {PLAIN}", x=f"float[2,3,{space}] x", W=(4, 3, *kernel), **bn(3))
        yield folds(f"forward/bn-Conv{rank}d", recipe)
    for text, channels, weight in (
        ("group = 2", 4, (6, 2, 3, 3)),
        ("group = 4", 4, (8, 1, 3, 3)),
        ("strides = [2,2]", 3, W),
        ("dilations = [2,1]", 3, W),
        ("pads = [0,0,0,0]", 3, W),
        ('auto_pad = "VALID"', 3, W),
        ('auto_pad = "NOTSET"', 3, W),
    ):
        name = text.replace(" ", "").replace('"', "")
        body = f"{BN} y = Conv<{text}>(c, W)"
        recipe = model(body, x=f"float[2,{channels},6,6] x", W=weight, **bn(channels))
        yield folds(f"forward/bn-Conv-{name}", recipe)
    biased = model(f"{BN} y = Conv(c, W, B)", W=W, B=rand(4), **bn(3))
    yield folds("forward/bn-Conv-bias", biased)
    empty = model(f'{BN} y = Conv(c, W, "")', W=W, **bn(3))
    yield folds("forward/bn-Conv-bias-empty-name", empty)
    point = model(f"{BN} y = Conv(c, W)", W=(5, 3, 1, 1), **bn(3))
    yield folds("forward/bn-Conv-pointwise", point)
    shared = model(f"{BN} {PLAIN} z = Conv<strides = [2,2]>(x, W)", y="float y, float z", W=W, **bn(3))
    yield folds("forward/bn-Conv-shared-weight", shared)


def _affines() -> Iterator[Form]:
    k, t = positive(3, 1, 1), rand(1, 3, 1, 1)
    for name, lines in (
        ("sub-div", "a = Sub(x, t) c = Div(a, k)"),
        ("mul-add", "a = Mul(x, k) c = Add(a, t)"),
        ("add", "c = Add(t, x)"),
        ("sub-from", "c = Sub(t, x)"),
        ("mul", "c = Mul(k, x)"),
    ):
        weights = {n: a for n, a in (("k", k), ("t", t)) if f"{n}," in lines or f" {n})" in lines}
        yield folds(f"forward/{name}-Conv", model(f"{lines} {PLAIN}", W=W, **weights))
    yield folds("forward/scalar-Conv", model(f"a = Div(x, k) c = Sub(a, t) {PLAIN}", W=W, k=positive(), t=rand(1)))
    channel_last = "a = Sub(x, t) d = Div(a, k) c = Transpose<perm = [0,3,1,2]>(d) " + PLAIN
    recipe = model(channel_last, x="float[2,6,6,3] x", W=W, k=positive(3), t=rand(3))
    yield may("forward/NHWC-sub-div-transpose-Conv", "the channel moves through the Transpose", recipe)
    # Zero stays zero under a pure scale, so padding does no harm; a folder may still leave it.
    scale = model("c = Mul(x, k) y = Conv<pads = [1,1,1,1]>(c, W)", W=W, k=k)
    yield may("forward/mul-padded-Conv", "a pure scale keeps padded zeros", scale)
    up = model("c = Mul(x, k) y = ConvTranspose(c, W)", W=(3, 4, 3, 3), k=k)
    yield may("forward/mul-ConvTranspose", "a pure scale is exact there too", up)
    for name, shape in (("per-pixel", (6, 6)), ("width", (6,)), ("full", (3, 6, 6))):
        recipe = model(f"c = Mul(x, k) {PLAIN}", W=W, k=positive(*shape))
        yield stays(f"forward/mul-{name}", "not_per_channel", recipe, listed=False)
    wide = model(f"c = Add(x, t) {PLAIN}", x="float[2,1,6,6] x", W=W, t=rand(3, 1, 1))
    # The constant makes three channels of one.
    yield stays("forward/add-widens", "not_per_channel", wide, listed=False)


def _padding() -> Iterator[Form]:
    for name, text in (
        ("pads", "pads = [1,1,1,1]"),
        ("pads-one-side", "pads = [0,0,0,1]"),
        ("SAME_UPPER", 'auto_pad = "SAME_UPPER"'),
        ("SAME_LOWER", 'auto_pad = "SAME_LOWER"'),
        ("SAME_UPPER-strided", 'auto_pad = "SAME_UPPER", strides = [2,2]'),
    ):
        recipe = model(f"{BN} y = Conv<{text}>(c, W)", W=W, **bn(3))
        yield stays(f"forward/bn-Conv-{name}", "zero_padding", recipe)
        constants = {"k": positive(3, 1, 1), "t": rand(3, 1, 1)}
        shifted = model(f"a = Div(x, k) c = Sub(a, t) y = Conv<{text}>(c, W)", W=W, **constants)
        yield stays(f"forward/div-sub-Conv-{name}", "zero_padding", shifted)
        # The division alone is exact here, as zero stays zero; the subtraction before it must stay.
        scaled = model(f"a = Sub(x, t) c = Div(a, k) y = Conv<{text}>(c, W)", W=W, **constants)
        yield may(f"forward/sub-div-Conv-{name}", "a pure scale keeps padded zeros", scaled)
    point = model(f'{BN} y = Conv<auto_pad = "SAME_UPPER">(c, W)', W=(4, 3, 1, 1), **bn(3))
    yield may("forward/bn-Conv-SAME-pointwise", "a 1x1 kernel is padded by nothing", point)
    node = "p = Constant<value_ints = [0,0,1,1,0,0,1,1]>() d = Pad(c, p)"
    padded = model(f"{BN} {node} y = Conv(d, W)", W=W, **bn(3))
    yield stays("forward/bn-Pad-Conv", "zero_padding", padded)
    reflected = node.replace("Pad(", 'Pad<mode = "reflect">(')
    edges = model(f"{BN} {reflected} y = Conv(d, W)", W=W, **bn(3))
    yield may("forward/bn-reflecting-Pad-Conv", "copied pixels carry the affine along", edges)
    # At its edges a transposed convolution sums fewer taps: a shift before it is no constant after it.
    up = model(f"{BN} y = ConvTranspose(c, W)", W=(3, 4, 3, 3), **bn(3))
    yield stays("forward/bn-ConvTranspose", "not_linear", up)
    cropped = model(f"{BN} y = ConvTranspose<strides = [2,2], pads = [1,1,1,1]>(c, W)", W=(3, 4, 4, 4), **bn(3))
    yield stays("forward/bn-ConvTranspose-strided", "not_linear", cropped)


def _products() -> Iterator[Form]:
    x = "float[2,6] x"
    for a in (0, 1):
        for b in (0, 1):
            weight = (4, 6) if b else (6, 4)
            body = f"{BN} y = Gemm<transA = {a}, transB = {b}>(c, W, B)"
            if a:  # the normalised axis 1 is then the batch of the product
                recipe = model(body, x="float[6,2] x", W=weight, B=rand(4), **bn(2))
                yield stays(f"forward/bn-Gemm-A1-B{b}", "not_per_channel", recipe)
            else:
                yield folds(f"forward/bn-Gemm-A0-B{b}", model(body, x=x, W=weight, B=rand(4), **bn(6)))
    scaled = model(f"{BN} y = Gemm<alpha = 0.5, beta = 2.0>(c, W, B)", x=x, W=(6, 4), B=rand(4), **bn(6))
    yield folds("forward/bn-Gemm-alpha-beta", scaled)
    yield folds("forward/bn-Gemm-no-C", model(f"{BN} y = Gemm(c, W)", x=x, W=(6, 4), **bn(6)))
    full = model(f"{BN} y = Gemm(c, W, B)", x=x, W=(6, 4), B=rand(2, 4), **bn(6))
    yield folds("forward/bn-Gemm-C-NxO", full)
    yield folds("forward/bn-MatMul", model(f"{BN} y = MatMul(c, W)", x=x, W=(6, 4), **bn(6)), remain="Add")
    biased = model(f"{BN} d = MatMul(c, W) y = Add(d, B)", x=x, W=(6, 4), B=rand(4), **bn(6))
    yield folds("forward/bn-MatMul-add", biased, remain="Add")
    rank3 = model(
        "a = Mul(x, k) c = Add(a, t) y = MatMul(c, W)", x="float[2,3,6] x", W=(6, 4), k=positive(6), t=rand(6)
    )
    yield folds("forward/mul-add-MatMul-3d", rank3, remain="Add")
    gain = model("c = Mul(x, k) y = MatMul(c, W)", x="float[2,3,6] x", W=(6, 4), k=positive(1, 1, 6))
    yield folds("forward/mul-MatMul-3d", gain)
    rows_ = model("c = Mul(x, k) y = MatMul(c, W)", x="float[2,6,6] x", W=(6, 4), k=positive(6, 1))
    yield stays("forward/mul-MatMul-per-row", "not_per_channel", rows_, listed=False)
    sequence = model(f"{BN} y = MatMul(c, W)", x="float[2,6,6] x", W=(6, 4), **bn(6))
    yield stays("forward/bn-MatMul-3d", "not_per_channel", sequence)
    turned = model(f"{BN} y = MatMul(W, c)", x="float[6,6] x", W=(4, 6), **bn(6))
    yield stays("forward/bn-MatMul-constant-left", "not_per_channel", turned)
    run_time = model(f"{BN} y = Gemm(c, W, B)", x=f"{x}, float[4] B", W=(6, 4), **bn(6))
    # The shift can be added on after a run-time C, at the price of a node.
    yield may("forward/bn-Gemm-C-at-run-time", "C is not constant", run_time, remain="Add")
    given = model(f"{BN} y = Gemm(c, W)", x=f"{x}, float[6,4] W", **bn(6))
    yield stays("forward/bn-Gemm-weight-at-run-time", "weight_not_constant", given)
    flat = model(f"{BN} f = Flatten(c) y = Gemm(f, W)", x="float[2,3,2,2] x", W=(12, 4), **bn(3))
    yield may("forward/bn-Flatten-Gemm", "each channel becomes a run of inputs", flat)


def _between() -> Iterator[Form]:
    for name, line in (
        ("Identity", "d = Identity(c)"),
        ("Dropout", "d = Dropout(c)"),
        ("Cast-same-type", "d = Cast<to = 1>(c)"),
    ):
        yield folds(f"forward/bn-{name}-Conv", model(f"{BN} {line} y = Conv(d, W)", W=W, **bn(3)))
    for name, line in (
        ("Relu", "d = Relu(c)"),
        ("LeakyRelu", "d = LeakyRelu(c)"),
        ("Sigmoid", "d = Sigmoid(c)"),
        ("MaxPool", "d = MaxPool<kernel_shape = [2,2]>(c)"),
        ("Softmax", "d = Softmax<axis = 1>(c)"),
    ):
        recipe = model(f"{BN} {line} y = Conv(d, W)", W=W, **bn(3))
        yield stays(f"forward/bn-{name}-Conv", "not_linear", recipe)
    two = "float y, float z"
    seen = model(f"{BN} {PLAIN} z = Relu(c)", y=two, W=W, **bn(3))
    yield stays("forward/bn-also-elsewhere", "several_consumers", seen)
    output = model(f"{BN} {PLAIN}", y="float y, float c", W=W, **bn(3))
    yield stays("forward/bn-is-output", "graph_output", output)
    both = model(f"{BN} {PLAIN} z = Conv(c, V)", y=two, W=W, V=rand(5, 3, 2, 2), **bn(3))
    yield may("forward/bn-two-convs", "both convolutions could take it", both)
    text = "c, n, w = BatchNormalization<training_mode = 1>(x, g, b, m, v) y = Conv(c, W)"
    train = model(text, W=W, **bn(3))
    yield reference(stays("forward/training-bn-Conv", "training_mode", train))
    alone = model("y = BatchNormalization(x, g, b, m, v)", **bn(3))
    yield stays("forward/bn-alone", "no_linear_layer", alone)
    last = model("z = Relu(x) y = BatchNormalization(z, g, b, m, v)", **bn(3))
    yield stays("forward/relu-bn-end", "no_linear_layer", last)


def _both_sides() -> Iterator[Form]:
    after = "d = Conv<P>(c, W) y = BatchNormalization(d, g2, b2, m2, v2)"
    stats = {**bn(3), **bn(4, "2", seed=5)}
    plain = after.replace("<P>", "")
    yield folds("forward/bn-Conv-bn", model(f"{BN} {plain}", W=W, **stats))
    padded = after.replace("P", "pads = [1,1,1,1]")
    yield folds("forward/bn-padded-Conv-bn", model(f"{BN} {padded}", W=W, **stats), left="BatchNormalization")
    middle = "a = Conv(x, V) c = BatchNormalization(a, g, b, m, v) y = Conv<pads = [1,1,1,1]>(c, W)"
    yield folds("forward/Conv-bn-padded-Conv", model(middle, V=rand(3, 3, 2, 2), W=W, **bn(3)))
    relu = "a = Conv(x, V) r = Relu(a) c = BatchNormalization(r, g, b, m, v) y = Conv(c, W)"
    yield folds("forward/Conv-Relu-bn-Conv", model(relu, V=rand(3, 3, 2, 2), W=W, **bn(3)))
    stuck = relu.replace("y = Conv(", "y = Conv<pads = [1,1,1,1]>(")
    yield stays("forward/Conv-Relu-bn-padded-Conv", "zero_padding", model(stuck, V=rand(3, 3, 2, 2), W=W, **bn(3)))
    add = (
        "a = Conv<pads = [1,1,1,1]>(x, V) r = Add(a, x) c = BatchNormalization(r, g, b, m, v) "
        "e = Relu(c) y = Conv(e, W)"
    )
    yield stays("forward/preactivation", "not_linear", model(add, V=rand(3, 3, 3, 3), W=W, **bn(3)))
