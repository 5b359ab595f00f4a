"""Affines after a convolution, in every spelling exporters use."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forms.build import Form, Oracle, bn, folds, may, model, positive, rand, reference, stays

CONV = "c = Conv(x, W)"
W = (4, 3, 3, 3)
SHAPES: dict[str, tuple[int, ...]] = {
    "Cx1x1": (4, 1, 1),
    "1xCx1x1": (1, 4, 1, 1),
    "1": (1,),
    "scalar": (),
    "1x1x1x1": (1, 1, 1, 1),
}
LINES = {
    "mul": "y = Mul(c, k)",
    "mul-left": "y = Mul(k, c)",
    "add": "y = Add(c, k)",
    "add-left": "y = Add(k, c)",
    "sub": "y = Sub(c, k)",
    "sub-from": "y = Sub(k, c)",
    "div": "y = Div(c, k)",
}


def rows() -> Iterator[Form]:
    for spelling, line in LINES.items():
        for name, shape in SHAPES.items():
            recipe = model(f"{CONV} {line}", W=W, k=positive(*shape))
            yield folds(f"affine/{spelling}-{name}", recipe)
        recipe = model(f"c = ConvTranspose(x, W) {line}", W=(3, 4, 3, 3), k=positive(1, 4, 1, 1))
        yield folds(f"affine/ConvTranspose-{spelling}", recipe)
        narrow = model(f"{CONV} {line}", x="float[2,3,8] x", W=(4, 3, 3), k=positive(4, 1))
        yield folds(f"affine/1d-{spelling}", narrow)
    yield from _chains()
    yield from _normalisations()
    yield from _look_through()
    yield from _spatial_wrappers()
    yield from _open()
    yield from _legacy()


def _chains() -> Iterator[Form]:
    chains = {
        "add-mul": "a = Add(c, t) y = Mul(a, k)",
        "sub-mul-add": "a = Sub(c, t) d = Mul(a, k) y = Add(d, u)",
        "sub-div-mul-add": "a = Sub(c, t) d = Div(a, k) e = Mul(d, l) y = Add(e, u)",
        "mul-mul-mul": "a = Mul(c, k) d = Mul(l, a) y = Mul(d, p)",
        "add-add-add": "a = Add(c, t) d = Add(u, a) y = Add(d, q)",
        "sub-from-twice": "a = Sub(t, c) y = Sub(u, a)",
        "div-div": "a = Div(c, k) y = Div(a, l)",
        "scalar-then-channel": "a = Mul(c, p) d = Add(a, q) e = Mul(d, k) y = Add(e, t)",
        "paddle-per-tensor": "a = Add(c, t) d = Mul(a, p) y = Add(d, q)",
        "eight-long": "a = Add(c, t) d = Mul(a, k) e = Sub(d, u) f = Div(e, l) "
        "h = Add(q, f) i = Mul(p, h) j = Sub(t, i) y = Mul(j, k)",
        "constant-reused": "a = Mul(c, k) d = Add(a, k) y = Div(d, k)",
    }
    constants = {"t": rand(4, 1, 1, seed=3), "u": rand(1, 4, 1, 1, seed=4), "q": rand(1, seed=5)}
    constants |= {"k": positive(4, 1, 1), "l": positive(1, 4, 1, 1), "p": positive(1, seed=6)}
    for name, lines in chains.items():
        used = {n: a for n, a in constants.items() if f"({n}," in lines or f" {n})" in lines}
        yield folds(f"affine/chain-{name}", model(f"{CONV} {lines}", W=W, **used))


def _normalisations() -> Iterator[Form]:
    k, t = positive(4, 1, 1), rand(1, 4, 1, 1)
    after = model(f"{CONV} a = BatchNormalization(c, g, b, m, v) d = Mul(a, k) y = Add(d, t)", W=W, k=k, t=t, **bn(4))
    yield folds("affine/bn-mul-add", after)
    ahead = model(f"{CONV} a = Mul(c, k) d = Add(a, t) y = BatchNormalization(d, g, b, m, v)", W=W, k=k, t=t, **bn(4))
    yield folds("affine/mul-add-bn", ahead)
    bias = model(f"{CONV} a = Add(c, t) y = BatchNormalization(a, g, b, m, v)", W=W, t=t, **bn(4))
    yield folds("affine/add-bn", bias)
    paddle = model(f"{CONV} a = Add(c, t) d = Identity(a) y = BatchNormalization(d, g, b, m, v)", W=W, t=t, **bn(4))
    yield folds("affine/add-identity-bn", paddle)
    two = "a = BatchNormalization(c, g1, b1, m1, v1) y = BatchNormalization(a, g2, b2, m2, v2)"
    yield folds("affine/bn-bn", model(f"{CONV} {two}", W=W, **bn(4, "1"), **bn(4, "2", seed=2)))
    apart = two.replace("a = Batch", "e = Batch").replace("y =", "a = Identity(e) y =")
    yield folds("affine/bn-identity-bn", model(f"{CONV} {apart}", W=W, **bn(4, "1"), **bn(4, "2", seed=2)))
    three = two.replace("y =", "d =") + " y = BatchNormalization(d, g1, b2, m1, v2)"
    yield folds("affine/bn-bn-bn-shared", model(f"{CONV} {three}", W=W, **bn(4, "1"), **bn(4, "2", seed=2)))
    one = model(f"{CONV} y = BatchNormalization(c, g, g, g, v)", W=W, g=positive(4), v=positive(4, seed=8))
    yield folds("affine/bn-one-constant-thrice", one)
    zero = {**bn(4), "g": rand(4) * 0}
    yield folds("affine/bn-scale-zero", model(f"{CONV} y = BatchNormalization(c, g, b, m, v)", W=W, **zero))
    some = {**bn(4), "g": rand(4) * [1, 0, 1, 0]}
    some["g"] = some["g"].astype("float32")  # type: ignore[union-attr]
    yield folds("affine/bn-some-scales-zero", model(f"{CONV} y = BatchNormalization(c, g, b, m, v)", W=W, **some))


def _look_through() -> Iterator[Form]:
    pair = "d = Transpose<perm = [0,2,3,1]>({0}) {1} = Transpose<perm = [0,3,1,2]>({2})"
    tail = "y = BatchNormalization(z, g, b, m, v)"
    routes = {
        "identity": "z = Identity(c)",
        "identities": "d = Identity(c) e = Identity(d) z = Identity(e)",
        "cast-same-type": "z = Cast<to = 1>(c)",
        "dropout": "z = Dropout(c)",
        "dropout-ratio": "r = Constant<value = float {0.3}>() z = Dropout(c, r)",
        "dropout-training-false": "r = Constant<value = float {0.3}>() f = Constant<value = bool {0}>() "
        "z = Dropout(c, r, f)",
        "transpose-pair": pair.format("c", "z", "d"),
        "all": "a = Identity(c) d = Cast<to = 1>(a) e = Dropout(d) z = Identity(e)",
    }
    for name, route in routes.items():
        yield folds(f"affine/behind-{name}", model(f"{CONV} {route} {tail}", W=W, **bn(4)))
    old = model(f"{CONV} z = Dropout<ratio = 0.4>(c) {tail}", opset=10, W=W, **bn(4))
    yield folds("affine/behind-dropout-opset10", old)
    older = model(f"{CONV} z = Dropout<ratio = 0.4>(c) {tail}", opset=7, W=W, **bn(4))
    yield folds("affine/behind-dropout-opset7", older)
    split = f"{CONV} a = Mul(c, k) d = Transpose<perm = [0,2,3,1]>(a) e = Add(d, t) y = Transpose<perm = [0,3,1,2]>(e)"
    yield folds("affine/split-around-transpose", model(split, W=W, k=positive(4, 1, 1), t=rand(4)))
    middle = f"{CONV} {pair.format('c', 'y', 'e')} "
    middle = middle.replace("y =", "e = Mul(d, k) y =")
    yield folds("affine/inside-transpose-pair", model(middle, W=W, k=positive(1, 1, 1, 4)))
    spread = f"{CONV} a = Sub(c, t) d = Identity(a) e = Mul(d, k) f = Cast<to = 1>(e) y = Add(u, f)"
    recipe = model(spread, W=W, t=rand(4, 1, 1), k=positive(4, 1, 1), u=rand(1, 4, 1, 1))
    yield folds("affine/split-around-identity-and-cast", recipe)
    like = model(f"{CONV} z = CastLike(c, W) {tail}", W=W, **bn(4))
    yield may("affine/behind-castlike-same-type", "exporters write it for constants only", like)
    end = model(f"{CONV} d = BatchNormalization(c, g, b, m, v) y = Identity(d)", W=W, **bn(4))
    yield folds("affine/bn-then-identity", end)


def _spatial_wrappers() -> Iterator[Form]:
    """tf2onnx writes a 1-D convolution as a 2-D one between Unsqueeze and Squeeze."""
    x, weight = "float[2,3,8] x", (4, 3, 1, 3)
    lead = "i = Constant<value = int64[1] {2}>() w = Unsqueeze(x, i) d = Conv(w, W) c = Squeeze(d, i)"
    old = "w = Unsqueeze<axes = [2]>(x) d = Conv(w, W) c = Squeeze<axes = [2]>(d)"
    bnorm = "y = BatchNormalization(c, g, b, m, v)"
    yield folds("affine/conv1d-as-2d-bn", model(f"{lead} {bnorm}", x=x, W=weight, **bn(4)))
    yield folds("affine/conv1d-as-2d-bn-opset11", model(f"{old} {bnorm}", x=x, opset=11, W=weight, **bn(4)))
    pair = "s = Mul(c, k) y = Add(s, t)"
    for name, shape in (("Cx1", (4, 1)), ("1xCx1", (1, 4, 1)), ("scalar", ())):
        recipe = model(f"{lead} {pair}", x=x, W=weight, k=positive(*shape), t=rand(*shape))
        yield folds(f"affine/conv1d-as-2d-mul-add-{name}", recipe)
    negative = lead.replace("{2}", "{-2}")
    yield folds("affine/conv1d-as-2d-negative-axis", model(f"{negative} {bnorm}", x=x, W=weight, **bn(4)))
    last = "i = Constant<value = int64[1] {3}>() w = Unsqueeze(x, i) d = Conv(w, W) c = Squeeze(d, i)"
    yield folds("affine/conv1d-as-2d-last-axis", model(f"{last} {bnorm}", x=x, W=(4, 3, 3, 1), **bn(4)))
    channel_last = (
        f"n = Transpose<perm = [0,2,1]>(x) {lead.replace('(x, i)', '(n, i)')} f = Transpose<perm = [0,2,1]>(c)"
    )
    recipe = model(f"{channel_last} y = Add(f, t)", x="float[2,8,3] x", W=weight, t=rand(4))
    yield folds("affine/conv1d-as-2d-nwc-add", recipe)
    # Squeezing the batch or the channel away moves every later axis.
    one = "i = Constant<value = int64[1] {0}>() d = Conv(x, W) c = Squeeze(d, i) y = Mul(c, k)"
    yield folds("affine/batch-squeezed", model(one, x="float[1,3,6,6] x", W=W, k=positive(4, 1, 1)))
    trap = model(one, x="float[1,3,6,6] x", W=W, k=positive(1, 4, 1))
    yield stays("affine/batch-squeezed-height", "not_per_channel", trap, listed=False)
    flat = "s = Constant<value = int64[3] {0,0,-1}>() d = Reshape(c, s) y = BatchNormalization(d, g, b, m, v)"
    yield may("affine/reshape-flattens-space", "channels keep axis 1", model(f"{CONV} {flat}", W=W, **bn(4)))


def _open() -> Iterator[Form]:
    """Exact to fold, but nothing an exporter is known to write: a folder may leave them."""
    for name, line in (
        ("neg", "y = Neg(c)"),
        ("sum", "y = Sum(c, k)"),
        ("add-to-itself", "y = Add(c, c)"),
    ):
        constants = {"k": rand(4, 1, 1)} if "k" in line else {}
        yield may(
            f"affine/{name}",
            "affine, but by another operator",
            model(f"{CONV} {line}", W=W, **constants),
            visible=False,
        )
    wide = f"{CONV} d = Cast<to = 11>(c) e = Mul(d, k) y = Cast<to = 1>(e)"
    double = model(wide, W=W, k=positive(4, 1, 1).astype("float64"))
    yield may("affine/cast-to-double-and-back", "the wider type rounds less", double)
    half = f"{CONV} d = Cast<to = 10>(c) e = Cast<to = 1>(d) y = Mul(e, k)"
    yield may(
        "affine/cast-to-half-and-back",
        "the Cast rounds; folding past it moves the result by a half-precision step",
        model(half, W=W, k=positive(4, 1, 1)),
        tolerance=5e-3,
    )
    pooled = f"{CONV} p = GlobalAveragePool(c) y = BatchNormalization(p, g, b, m, v)"
    yield may("affine/global-average-pool", "the mean commutes with an affine", model(pooled, W=W, **bn(4)))
    near = 'e = Constant<value = float[4] {1,1,2,2}>() p = Resize<mode = "nearest">(c, "", e)'
    resized = model(f"{CONV} {near} y = BatchNormalization(p, g, b, m, v)", W=W, **bn(4))
    yield may("affine/nearest-resize", "copying pixels commutes with an affine", resized)
    seen = model(f"{CONV} z, k = Dropout(c) y = BatchNormalization(z, g, b, m, v)", y="float y, bool k", W=W, **bn(4))
    yield may("affine/dropout-mask-used", "the mask is all true at inference", seen)


def _legacy() -> Iterator[Form]:
    """Opset 6 and before: `broadcast` and `axis` say where a shorter second operand lines up."""
    y = "float[2,4,4,4] y"
    for spelling in ("Mul", "Add"):
        body = f"{CONV} y = {spelling}<broadcast = 1, axis = 1>(c, k)"
        recipe = model(body, opset=6, ir=3, y=y, W=W, k=positive(4))
        # ONNX Runtime has no kernel of that age, and no exporter in use writes it.
        yield reference(may(f"affine/opset6-{spelling}-axis-1", "legacy broadcasting", recipe))
        for name, text in (("axis-2", ", axis = 2"), ("axis-3", ", axis = 3"), ("no-axis", "")):
            body = f"{CONV} y = {spelling}<broadcast = 1{text}>(c, k)"
            recipe = model(body, opset=6, ir=3, y=y, W=W, k=positive(4))
            yield reference(stays(f"affine/opset6-{spelling}-{name}", "not_per_channel", recipe, listed=False))
    tail = "y = BatchNormalization<is_test = 1>(z, g, b, m, v)"
    kept = model(f"{CONV} z = Dropout<is_test = 1>(c) {tail}", opset=6, ir=3, y=y, W=W, **bn(4))
    yield reference(folds("affine/opset6-dropout-is_test-1", kept))
    random = model(f"{CONV} z = Dropout<is_test = 0>(c) {tail}", opset=6, ir=3, y=y, W=W, **bn(4))
    yield stays("affine/opset6-dropout-is_test-0", "not_linear", random, oracle=Oracle.NONE)
