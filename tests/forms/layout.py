"""Channel-last exports: a convolution between Transposes, its affine in either layout."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forms.affine import LINES
from tests.forms.build import Form, bn, folds, may, model, positive, rand, stays

X = "float[2,6,6,3] x"
IN = "n = Transpose<perm = [0,3,1,2]>(x) a = Conv(n, W)"
CONV = f"{IN} c = Transpose<perm = [0,2,3,1]>(a)"
BACK = "d = Transpose<perm = [0,3,1,2]>(c)"
W = (4, 3, 3, 3)
BN = "BatchNormalization(d, g, b, m, v)"


def rows() -> Iterator[Form]:
    for spelling, line in LINES.items():
        for name, shape in (("C", (4,)), ("1x1x1xC", (1, 1, 1, 4)), ("scalar", ())):
            recipe = model(f"{CONV} {line}", x="float[2,7,8,3] x", W=W, k=positive(*shape))
            yield folds(f"layout/{spelling}-{name}", recipe)
    yield from _exports()
    yield from _ranks()
    yield from _traps()


def _exports() -> Iterator[Form]:
    k, t = positive(4), rand(4)
    four = {"m": rand(1, 1, 1, 4, seed=1), "k": positive(1, 1, 1, 4), "t": rand(1, 1, 1, 4, seed=2)}
    pair = model(f"{CONV} s = Mul(c, k) y = Add(s, t)", x=X, W=W, k=k, t=t)
    yield folds("layout/keras-mul-add", pair)
    lines = "e = Cast<to = 1>(c) f = Sub(e, m) h = Mul(f, k) y = Add(h, t)"
    yield folds("layout/keras-on-torch", model(f"{CONV} {lines}", x=X, W=W, **four))
    bias = "p = Cast<to = 1>(c) u = Add(p, q) e = Cast<to = 1>(u) f = Sub(e, m) h = Mul(f, k) y = Add(h, t)"
    yield folds("layout/keras-on-torch-bias", model(f"{CONV} {bias}", x=X, W=W, q=rand(4), **four))
    bnorm = model(f"{CONV} {BACK} y = {BN}", x=X, W=W, **bn(4))
    yield folds("layout/transpose-transpose-bn", bnorm)
    around = model(f"{CONV} {BACK} o = {BN} y = Transpose<perm = [0,2,3,1]>(o)", x=X, W=W, **bn(4))
    yield folds("layout/bn-between-transposes", around)
    first = model(f"{IN} d = Identity(a) o = {BN} y = Transpose<perm = [0,2,3,1]>(o)", x=X, W=W, **bn(4))
    yield folds("layout/bn-then-transpose", first)
    both = f"{CONV} s = Mul(c, k) {BACK.replace('(c)', '(s)')} y = {BN}"
    yield folds("layout/mul-back-bn", model(both, x=X, W=W, k=k, **bn(4)))
    kept = model(f"{CONV} s = Add(c, t) y = Relu(s)", x=X, W=W, t=t)
    yield folds("layout/add-relu", kept)
    depth = CONV.replace("Conv(", "Conv<group = 3>(") + " s = Mul(c, k) y = Add(s, t)"
    yield folds("layout/depthwise", model(depth, x=X, W=(6, 1, 3, 3), k=positive(6), t=rand(6)))
    up = CONV.replace("Conv(", "ConvTranspose<strides = [2,2]>(") + " s = Mul(c, k) y = Add(s, t)"
    yield folds("layout/ConvTranspose", model(up, x=X, W=(3, 4, 3, 3), k=k, t=t))
    # The width equals the channel count: [C] still lines up with the channels, which come last here.
    yield folds("layout/width-equals-channels", model(f"{CONV} y = Mul(c, k)", x=X, W=W, k=k))


def _ranks() -> Iterator[Form]:
    one = "n = Transpose<perm = [0,2,1]>(x) a = Conv(n, W) c = Transpose<perm = [0,2,1]>(a) s = Mul(c, k) y = Add(s, t)"
    yield folds("layout/1d-NWC", model(one, x="float[2,8,3] x", W=(4, 3, 3), k=positive(4), t=rand(1, 1, 4)))
    three = "n = Transpose<perm = [0,4,1,2,3]>(x) a = Conv(n, W) c = Transpose<perm = [0,2,3,4,1]>(a) "
    recipe = model(
        f"{three} s = Mul(c, k) y = Add(s, t)",
        x="float[2,3,3,3,2] x",
        W=(4, 2, 2, 2, 2),
        k=positive(4),
        t=rand(4),
    )
    yield folds("layout/3d-NDHWC", recipe)
    # Other permutations keep the channel on one axis too, though no exporter writes them.
    reverse = f"{IN} c = Transpose(a) y = Mul(c, k)"
    yield may("layout/reversed", "the channel is axis 2", model(reverse, x=X, W=W, k=positive(4, 1)))
    front = f"{IN} c = Transpose<perm = [1,0,2,3]>(a) y = Mul(c, k)"
    yield may("layout/channel-first-of-all", "the channel is axis 0", model(front, x=X, W=W, k=positive(4, 1, 1, 1)))
    flat = f"{CONV} w = Constant<value_ints = [2,-1,4]>() f = Reshape(c, w) y = Mul(f, k)"
    yield may("layout/space-flattened", "channels stay last", model(flat, x=X, W=W, k=positive(4)))


def _traps() -> Iterator[Form]:
    """Constants that line up with another axis of the same length (all of them 4 here)."""
    square = "float[4,6,6,3] x"
    traps = {
        "height-as-1xCx1x1": ((1, 4, 1, 1), CONV),
        "width-as-Cx1": ((4, 1), CONV),
        "batch-as-Cx1x1x1": ((4, 1, 1, 1), CONV),
        "full": ((4, 4, 4), CONV),
        "per-pixel": ((4, 4, 1), CONV),
        "wrong-turn": ((1, 4, 1, 1), f"{IN} c = Transpose<perm = [0,3,1,2]>(a)"),
        "swapped-space-last": ((4,), f"{IN} c = Transpose<perm = [0,1,3,2]>(a)"),
    }
    for name, (shape, conv) in traps.items():
        recipe = model(f"{conv} y = Mul(c, k)", x=square, W=W, k=positive(*shape))
        yield stays(f"layout/trap-{name}", "not_per_channel", recipe, listed=False)
    lost = model(f"{CONV} y = BatchNormalization(c, g, b, m, v)", x=square, W=W, **bn(4))
    yield stays("layout/trap-bn-on-height", "not_per_channel", lost)
    turned = f"{IN} c = Transpose<perm = [0,2,1,3]>(a) y = BatchNormalization(c, g, b, m, v)"
    yield stays("layout/trap-bn-after-swap", "not_per_channel", model(turned, x=square, W=W, **bn(4)))
    twice = f"{CONV} z = Relu(c) y = Mul(c, k)"
    recipe = model(twice, x=X, y="float y, float z", W=W, k=positive(4))
    yield stays("layout/trap-transpose-used-twice", "several_consumers", recipe)
    raw = model(f"{CONV} y = Mul(c, k)", x=X, y="float y, float a", W=W, k=positive(4))
    yield stays("layout/trap-conv-is-output", "graph_output", raw)
    both = f"{CONV} z = Relu(a) y = Mul(c, k)"
    recipe = model(both, x=X, y="float y, float z", W=W, k=positive(4))
    yield stays("layout/trap-conv-used-before-transpose", "several_consumers", recipe)
