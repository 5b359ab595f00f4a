"""What must not be folded: other readers, operators in between, broadcasts that are not per channel."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forms.affine import LINES
from tests.forms.build import Form, Oracle, Weight, bn, folds, may, model, positive, rand, stays

CONV = "c = Conv(x, W)"
BN = "y = BatchNormalization(c, g, b, m, v)"
W = (4, 3, 3, 3)


def rows() -> Iterator[Form]:
    yield from _readers()
    yield from _between()
    yield from _broadcasts()
    yield from _one_channel()
    yield from _operands()
    yield from _ranks()


def _readers() -> Iterator[Form]:
    two = "float y, float z"
    k = positive(4, 1, 1)
    lines: dict[str, tuple[str, dict[str, Weight]]] = {
        "bn-and-relu": (f"{BN} z = Relu(c)", {**bn(4)}),
        "bn-and-bn": (f"{BN} z = BatchNormalization(c, m, b, g, v)", {**bn(4)}),
        "bn-and-conv": (f"{BN} z = Conv(c, V)", {"V": rand(2, 4, 2, 2), **bn(4)}),
        "mul-and-add": ("y = Mul(c, k) z = Add(c, k)", {"k": k}),
        "mul-and-itself": ("s = Mul(c, k) y = Add(s, c) z = Neg(x)", {"k": k}),
        "residual-around-bn": (f"{BN.replace('y =', 's =')} y = Add(s, c) z = Neg(x)", {**bn(4)}),
    }
    for name, (text, weights) in lines.items():
        recipe = model(f"{CONV} {text}", y=two, W=W, **weights)
        yield stays(f"guards/readers-{name}", "several_consumers", recipe)
    # A Shape reads no values, so folding is right; a folder may still count it as a reader.
    shape = model(f"{CONV} {BN} z = Shape(c)", y="float y, int64[4] z", W=W, **bn(4))
    yield may("guards/readers-Shape", "a Shape reads no values", shape)
    for name, line, weight in (("bn", BN, bn(4)), ("mul", "y = Mul(c, k)", {"k": k})):
        recipe = model(f"{CONV} {line}", y="float y, float c", W=W, **weight)
        yield stays(f"guards/conv-is-output-before-{name}", "graph_output", recipe)
    middle = model(f"{CONV} s = Mul(c, k) y = Add(s, k)", y="float y, float s", W=W, k=k)
    # The Mul may go into the convolution, which then makes the output s; the Add must stay.
    yield folds("guards/chain-middle-is-output", middle, left="Add")
    tapped = model(f"{CONV} s = Mul(c, k) y = Add(s, k) z = Relu(s)", y=two, W=W, k=k)
    yield folds("guards/chain-middle-read-twice", tapped, left="Add")
    behind = model(f"d = Conv(x, W) c = Identity(d) {BN} z = Relu(d)", y=two, W=W, **bn(4))
    yield stays("guards/readers-before-Identity", "several_consumers", behind)
    residual = model(f"d = Conv<pads = [1,1,1,1]>(x, W) c = Add(d, x) {BN}", W=rand(3, 3, 3, 3), **bn(3))
    yield stays("guards/residual-add-then-bn", "not_linear", residual)
    both = model(f"d = Conv(x, W) e = Conv(x, V) c = Add(d, e) {BN}", W=W, V=rand(4, 3, 3, 3, seed=4), **bn(4))
    yield may("guards/sum-of-two-convs-then-bn", "both convolutions could take it", both)


def _between() -> Iterator[Form]:
    operators = {
        "Relu": "c = Relu(d)",
        "LeakyRelu": "c = LeakyRelu<alpha = 0.2>(d)",
        "PRelu": "c = PRelu(d, p)",
        "Sigmoid": "c = Sigmoid(d)",
        "Clip": "c = Clip(d, lo, hi)",
        "Abs": "c = Abs(d)",
        "Sqrt-of-Abs": "a = Abs(d) c = Sqrt(a)",
        "Pow": "c = Pow(d, hi)",
        "Softmax": "c = Softmax<axis = 1>(d)",
        "MaxPool": "c = MaxPool<kernel_shape = [2,2]>(d)",
        "InstanceNormalization": "c = InstanceNormalization(d, b, g)",
        "LRN": "c = LRN<size = 3>(d)",
    }
    extra = {"p": rand(4, 1, 1), "lo": rand() * 0 - 1, "hi": rand() * 0 + 2}
    for name, line in operators.items():
        weights = {n: a for n, a in extra.items() if f"{n})" in line or f"{n}," in line}
        recipe = model(f"d = Conv(x, W) {line} {BN}", W=W, **weights, **bn(4))
        yield stays(f"guards/{name}-between", "not_linear", recipe)
    # Averaging commutes with an affine, but at a padded edge only where the padding is not counted.
    pool = "c = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1>(d)"
    yield stays("guards/padded-AveragePool-between", "not_linear", model(f"d = Conv(x, W) {pool} {BN}", W=W, **bn(4)))
    pad = "p = Constant<value_ints = [0,0,1,1,0,0,1,1]>() c = Pad(d, p)"
    yield stays("guards/Pad-between", "zero_padding", model(f"d = Conv(x, W) {pad} {BN}", W=W, **bn(4)))
    relu = model(f"{CONV} s = Mul(c, k) r = Relu(s) y = Add(r, k)", W=W, k=positive(4, 1, 1))
    yield folds("guards/Relu-inside-chain", relu, left="Add")
    late = model("d = Conv(x, W) r = Relu(d) y = Mul(r, k)", W=W, k=positive(4, 1, 1))
    yield stays("guards/Relu-then-mul", "not_linear", late)


def _broadcasts() -> Iterator[Form]:
    """Output [4,4,4,4]: a constant can line up with any of the four axes."""
    x = "float[4,3,6,6] x"
    shapes = {
        "width": (4,),
        "height": (4, 1),
        "batch": (4, 1, 1, 1),
        "plane": (4, 4),
        "one-plane": (1, 1, 4, 4),
        "full": (4, 4, 4),
        "full-with-batch": (1, 4, 4, 4),
        "everything": (4, 4, 4, 4),
        "channel-and-height": (4, 4, 1),
        "batch-and-channel": (4, 4, 1, 1),
    }
    for name, shape in shapes.items():
        for spelling in ("mul", "add") if name != "width" else LINES:
            recipe = model(f"{CONV} {LINES[spelling]}", x=x, W=W, k=positive(*shape))
            yield stays(f"guards/{name}-{spelling}", "not_per_channel", recipe, listed=False)
    unknown = model(f"{CONV} y = Mul(c, k)", x="float[N,3,H,V] x", W=(4, 3, 1, 1), k=positive(1))
    yield folds("guards/one-value-unknown-shape", unknown)
    risky = model(f"{CONV} y = Mul(c, k)", x="float[2,3,6,V] x", y="float[2,4,4,U] y", W=(4, 3, 3, 1), k=positive(2))
    # A width known only at run time may be the constant's length.
    yield stays("guards/width-unknown-mul", "not_per_channel", risky, listed=False)


def _one_channel() -> Iterator[Form]:
    """One output channel: a longer constant would make more of them."""
    one = (1, 3, 3, 3)
    for spelling in ("mul", "add", "sub-from", "div"):
        recipe = model(f"{CONV} {LINES[spelling]}", W=one, k=positive(8, 1, 1))
        yield stays(f"guards/widens-channels-{spelling}", "not_per_channel", recipe, listed=False)
    four = model(f"{CONV} y = Mul(c, k)", W=one, k=positive(1, 8, 1, 1))
    yield stays("guards/widens-channels-4d", "not_per_channel", four, listed=False)
    keeps = model(f"{CONV} y = Mul(c, k)", W=one, k=positive(1, 1, 1))
    yield folds("guards/one-channel-one-value", keeps)
    pixel = model(f"{CONV} y = Mul(c, k)", x="float[2,3,3,3] x", W=W, k=positive(5))
    yield stays("guards/widens-one-pixel", "not_per_channel", pixel, listed=False)
    same = model(f"{CONV} y = Add(c, k)", x="float[2,3,3,3] x", W=W, k=positive(4))
    # [C] against [N,C,1,1] gives [N,C,1,C], not one value per channel.
    yield stays("guards/C-on-one-pixel", "not_per_channel", same, listed=False)
    right = model(f"{CONV} y = Add(c, k)", x="float[2,3,3,3] x", W=W, k=positive(4, 1, 1))
    yield folds("guards/Cx1x1-on-one-pixel", right)
    batch = model(f"{CONV} y = Mul(c, k)", x="float[1,3,6,6] x", W=W, k=positive(4, 1, 1, 1))
    yield stays("guards/widens-batch", "not_per_channel", batch, listed=False)
    gemm = model("c = Gemm(x, W) y = Mul(c, k)", x="float[2,6] x", W=(6, 1), k=positive(5))
    yield stays("guards/widens-Gemm", "not_per_channel", gemm, listed=False)
    row = model("c = Gemm(x, W) y = Mul(c, k)", x="float[1,6] x", W=(6, 5), k=positive(5, 1))
    yield stays("guards/widens-Gemm-batch", "not_per_channel", row, listed=False)


def _operands() -> Iterator[Form]:
    k = positive(4, 1, 1)
    over = model(f"{CONV} y = Div(k, c)", W=W, k=k)
    yield stays("guards/constant-over-data", "not_linear", over, listed=False)
    one = model(f"{CONV} y = Div(k, c)", W=W, k=positive(1))
    yield stays("guards/one-over-data", "not_linear", one, listed=False)
    chain = model(f"{CONV} s = Mul(c, k) d = Div(k, s) y = Add(d, k)", W=W, k=k)
    # The Mul before the division is an affine of its own and goes.
    yield folds("guards/affine-then-reciprocal", chain, left="Div Add")
    square = model(f"{CONV} y = Mul(c, c)", W=W)
    yield stays("guards/square", "not_constant", square, listed=False, visible=False)
    run_time = "float[2,3,6,6] x, float[4,1,1] k"
    for spelling in ("mul", "add", "div"):
        recipe = model(f"{CONV} {LINES[spelling]}", x=run_time, W=W)
        yield stays(f"guards/run-time-operand-{spelling}", "not_constant", recipe, listed=False, visible=False)
    gate = "p = GlobalAveragePool(x) e = Conv(p, V) q = Sigmoid(e) c = Conv(x, W) y = Mul(c, q)"
    recipe = model(gate, W=W, V=rand(4, 3, 1, 1))
    yield stays("guards/squeeze-and-excite", "not_constant", recipe, listed=False, visible=False)
    position = (
        "c = Conv(x, W) s = Shape(x) i = Constant<value_int = 0>() n = Gather(s, i) f = Cast<to = 1>(n) y = Mul(c, f)"
    )
    recipe = model(position, W=W)
    yield stays("guards/scale-from-batch-size", "not_constant", recipe, listed=False)
    random = f"{CONV} k = RandomNormal<shape = [4,1,1], seed = 3.0>() y = Mul(c, k)"
    recipe = model(random, y="float[2,4,4,4] y", W=W)
    yield stays("guards/random-operand", "not_constant", recipe, listed=False, oracle=Oracle.NONE)


def _ranks() -> Iterator[Form]:
    """A constant with more axes than the data makes the output's rank grow."""
    for name, shape in (
        ("1x1xCx1x1", (1, 1, 4, 1, 1)),
        ("1x1x1x1x1", (1, 1, 1, 1, 1)),
        ("2x1x4x1x1", (2, 1, 4, 1, 1)),
    ):
        for spelling in ("mul", "add"):
            recipe = model(f"{CONV} {LINES[spelling]}", W=W, k=positive(*shape))
            yield stays(f"guards/rank-{name}-{spelling}", "not_per_channel", recipe, listed=False)
    gemm = model("c = Gemm(x, W) y = Mul(c, k)", x="float[2,6] x", W=(6, 5), k=positive(1, 1, 5))
    yield stays("guards/rank-Gemm", "not_per_channel", gemm, listed=False)
    narrow = model(f"{CONV} y = Mul(c, k)", x="float[1,3,8] x", W=(4, 3, 3), k=positive(1, 4, 1, 1))
    yield stays("guards/rank-Conv1d", "not_per_channel", narrow, listed=False)
    length = model(f"{CONV} y = Mul(c, k)", x="float[2,3,6] x", W=(4, 3, 3), k=positive(4))
    yield stays("guards/length-Conv1d", "not_per_channel", length, listed=False)
    depth = model(f"{CONV} y = Mul(c, k)", x="float[2,3,5,5,5] x", W=(4, 3, 2, 2, 2), k=positive(4, 1, 1))
    yield stays("guards/depth-Conv3d", "not_per_channel", depth, listed=False)
