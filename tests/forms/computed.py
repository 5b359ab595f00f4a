"""Constants that the graph computes: an affine's, a normalisation's and a convolution's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.forms.build import Form, Weight, bn, folds, may, model, positive, rand

CONV = "c = Conv(x, W)"
W = (4, 3, 3, 3)
EPS = "e = Constant<value = float {0.001}>() "
TO_CHANNEL = "w = Constant<value = int64[4] {1,4,1,1}>() "
ONE = "i = Constant<value = float {1}>() "


def rows() -> Iterator[Form]:
    yield from _formulas()
    yield from _scales()
    yield from _parameters()
    yield from _weights()


def _formulas() -> Iterator[Form]:
    """(x - mean)·rsqrt(var + eps)·gamma + beta, in the ways frameworks spell it."""
    four = {n: a.reshape(1, 4, 1, 1) for n, a in bn(4).items() if not isinstance(a, tuple)}
    flat: dict[str, Weight] = {**bn(4)}
    rsqrt = {
        "Sqrt-Div": "q = Sqrt(s) r = Div(i, q)",
        "Sqrt-Reciprocal": "q = Sqrt(s) r = Reciprocal(q)",
        "Reciprocal-Sqrt": "q = Reciprocal(s) r = Sqrt(q)",
        "Pow-minus-half": "h = Constant<value = float {-0.5}>() r = Pow(s, h)",
        "Pow-half-Reciprocal": "h = Constant<value = float {0.5}>() q = Pow(s, h) r = Reciprocal(q)",
    }
    for name, lines in rsqrt.items():
        body = f"{EPS}{ONE}s = Add(v, e) {lines} {CONV} d = Sub(c, m) n = Mul(d, r) o = Mul(n, g) y = Add(o, b)"
        yield folds(f"computed/rsqrt-{name}", model(body, W=W, **four))
    divided = f"{EPS}s = Add(v, e) q = Sqrt(s) {CONV} d = Sub(c, m) n = Div(d, q) o = Mul(g, n) y = Add(b, o)"
    yield folds("computed/divide-by-Sqrt", model(divided, W=W, **four))
    inverse = f"{EPS}s = Add(v, e) q = Sqrt(s) r = Reciprocal(q) k = Mul(r, g) p = Mul(m, k) t = Sub(b, p) "
    merged = f"{inverse} {CONV} o = Mul(c, k) y = Add(o, t)"
    yield folds("computed/merged-scale-and-shift", model(merged, W=W, **four))
    negated = inverse.replace("p = Mul(m, k) t = Sub(b, p)", "z = Neg(m) p = Mul(z, k) t = Add(p, b)")
    yield folds("computed/Neg-mean", model(f"{negated} {CONV} o = Mul(c, k) y = Add(o, t)", W=W, **four))
    shaped = "".join(f"{p}4 = Reshape({p}, w) " for p in "gbmv")
    jax = (
        f"{EPS}{TO_CHANNEL}{shaped} s = Add(v4, e) q = Sqrt(s) k = Div(g4, q) z = Neg(m4) p = Mul(z, k) t = Add(p, b4)"
    )
    yield folds("computed/keras-on-jax", model(f"{jax} {CONV} o = Mul(c, k) y = Add(o, t)", W=W, **flat))
    axes = "a = Constant<value = int64[2] {1,2}>() "
    raised = "".join(f"{p}4 = Unsqueeze({p}, a) " for p in "gbmv")
    line = (
        f"{EPS}{axes}{raised} s = Add(v4, e) q = Sqrt(s) {CONV} d = Sub(c, m4) n = Div(d, q) "
        "o = Mul(n, g4) y = Add(o, b4)"
    )
    yield folds("computed/Unsqueeze-parameters", model(line, W=W, **flat))
    old = line.replace(axes, "").replace(", a)", ")").replace("Unsqueeze(", "Unsqueeze<axes = [1,2]>(")
    yield folds("computed/Unsqueeze-parameters-opset11", model(old, opset=11, W=W, **flat))


def _scales() -> Iterator[Form]:
    """One scale k computed from k0, one operator at a time."""
    k = positive(4, 1, 1)
    axes = "a = Constant<value = int64[2] {1,2}>() "
    cases: dict[str, tuple[str, dict[str, Weight]]] = {
        "Sqrt": ("k = Sqrt(k0)", {"k0": k}),
        "Reciprocal": ("k = Reciprocal(k0)", {"k0": k}),
        "Pow": ("k = Pow(k0, p)", {"k0": k, "p": np.array(1.5, np.float32)}),
        "Pow-integer-exponent": ("k = Pow(k0, p)", {"k0": k, "p": np.array(2, np.int64)}),
        "Neg": ("k = Neg(k0)", {"k0": k}),
        "Div": ("k = Div(k0, l)", {"k0": k, "l": positive(4, 1, 1, seed=9)}),
        "Reshape": (f"{TO_CHANNEL}k = Reshape(k0, w)", {"k0": positive(4)}),
        "Unsqueeze": (f"{axes}k = Unsqueeze(k0, a)", {"k0": positive(4)}),
        "Transpose": ("k = Transpose<perm = [2,1,0]>(k0)", {"k0": positive(1, 1, 4)}),
        "Cast-from-double": ("k = Cast<to = 1>(k0)", {"k0": k.astype(np.float64)}),
        "Cast-from-integer": (
            "k = Cast<to = 1>(k0)",
            {"k0": np.array([[[2]], [[-3]], [[1]], [[5]]], np.int64)},
        ),
        "CastLike-constant": ("k = CastLike(k0, l)", {"k0": k.astype(np.float16), "l": rand(1)}),
        "CastLike-data": ("k = CastLike(k0, x)", {"k0": k.astype(np.float64)}),
        "Expand": (f"{TO_CHANNEL}k = Expand(k0, w)", {"k0": positive(1)}),
        "Expand-channels": (f"{TO_CHANNEL}k = Expand(k0, w)", {"k0": k}),
        "Where": (
            "k = Where(f, k0, l)",
            {"f": np.array([[[True]], [[False]]] * 2), "k0": k, "l": rand(4, 1, 1)},
        ),
        "Concat": ("k = Concat<axis = 0>(k0, l)", {"k0": k[:1], "l": k[1:]}),
        "Identity": ("k = Identity(k0)", {"k0": k}),
        "Mul-Add-Sub": ("d = Mul(k0, k0) e = Add(d, l) k = Sub(e, k0)", {"k0": k, "l": rand(1)}),
        "ConstantOfShape": (
            "k = ConstantOfShape<value = float[1] {1.7}>(w0)",
            {"w0": np.array([1, 4, 1, 1])},
        ),
        "Shape-of-weight": (
            "s = Shape<start = 0, end = 1>(W) n = Cast<to = 1>(s) k = Div(n, l)",
            {"l": positive(4, 1, 1)},
        ),
    }

    for name, (lines, constants) in cases.items():
        yield folds(f"computed/scale-{name}", model(f"{lines} {CONV} y = Mul(c, k)", W=W, **constants))
    rarer: dict[str, tuple[str, dict[str, Weight]]] = {
        "Squeeze": ("a = Constant<value = int64[1] {0}>() k = Squeeze(k0, a)", {"k0": positive(1, 4, 1, 1)}),
        "Flatten": ("f = Flatten<axis = 0>(k0) k = Reshape(f, w0)", {"k0": k, "w0": np.array([4, 1, 1])}),
        "Slice": ("k = Slice(k0, s, t)", {"k0": positive(6, 1, 1), "s": np.array([2]), "t": np.array([6])}),
        "Gather": ("k = Gather<axis = 0>(k0, n)", {"k0": k, "n": np.array([3, 1, 0, 2])}),
        "Exp": ("k = Exp(k0)", {"k0": k}),
        "Abs": ("k = Abs(k0)", {"k0": k}),
        "Max": ("k = Max(k0, l)", {"k0": k, "l": np.array(0.9, np.float32)}),
        "Clip": ("k = Clip(k0, l)", {"k0": k, "l": np.array(0.9, np.float32)}),
        "Tile": ("k = Tile(k0, r)", {"k0": positive(1, 1, 1), "r": np.array([4, 1, 1])}),
        "ReduceMean": ("k = ReduceMean<axes = [1,2]>(k0)", {"k0": positive(4, 3, 3)}),
        "Split": ("k, l = Split<axis = 0>(k0)", {"k0": positive(8, 1, 1)}),
        "MatMul": (
            "d = MatMul(k0, l) k = Reshape(d, w0)",
            {"k0": rand(4, 3), "l": rand(3), "w0": np.array([4, 1, 1])},
        ),
    }
    for name, (lines, constants) in rarer.items():
        recipe = model(f"{lines} {CONV} y = Mul(c, k)", W=W, **constants)
        yield may(f"computed/scale-{name}", "constant, but no exporter is known to write it", recipe)


def _parameters() -> Iterator[Form]:
    """BatchNormalization whose parameters are computed."""
    tail = "y = BatchNormalization(c, g, b, m, v)"
    rest = {n: a for n, a in bn(4).items() if n != "v"}
    squared = model(f"v = Mul(d, d) {CONV} {tail}", W=W, d=positive(4), **rest)
    yield folds("computed/bn-variance-squared", squared)
    cast = {f"{n}0": np.asarray(a).astype(np.float64) for n, a in bn(4).items()}
    lines = "".join(f"{n} = Cast<to = 1>({n}0) " for n in "gbmv")
    yield folds("computed/bn-parameters-Cast", model(f"{lines} {CONV} {tail}", W=W, **cast))
    shaped = {f"{n}0": np.asarray(a).reshape(1, 4, 1, 1) for n, a in bn(4).items()}
    lines = "w = Constant<value_ints = [4]>() " + "".join(f"{n} = Reshape({n}0, w) " for n in "gbmv")
    yield folds("computed/bn-parameters-Reshape", model(f"{lines} {CONV} {tail}", W=W, **shaped))
    stacked = np.stack([np.asarray(a) for a in bn(4).values()])
    lines = "g, b, m, v = Split<axis = 0>(s) "
    for n in "gbmv":
        lines = lines.replace(f"{n},", f"{n}1,").replace("v =", "v1 =")
    lines += "w = Constant<value_ints = [4]>() " + "".join(f"{n} = Reshape({n}1, w) " for n in "gbmv")
    yield may(
        "computed/bn-parameters-Split",
        "one stacked constant",
        model(f"{lines} {CONV} {tail}", W=W, s=stacked),
    )
    ones = "w = Constant<value_ints = [4]>() g = ConstantOfShape<value = float[1] {1.5}>(w) b = ConstantOfShape(w) "
    rest = {n: a for n, a in bn(4).items() if n in "mv"}
    yield folds("computed/bn-ConstantOfShape", model(f"{ones} {CONV} {tail}", W=W, **rest))


def _weights() -> Iterator[Form]:
    tail = "c = Conv(x, W) y = BatchNormalization(c, g, b, m, v)"
    shape = "s = Constant<value = int64[4] {4,3,3,3}>() "
    cases: dict[str, tuple[str, dict[str, Weight]]] = {
        "Transpose": ("W = Transpose<perm = [3,2,0,1]>(W0)", {"W0": (3, 3, 3, 4)}),
        "Reshape": (f"{shape}W = Reshape(W0, s)", {"W0": (4, 27)}),
        "Transpose-Reshape": (
            f"{shape}r = Reshape(W0, s) W = Transpose<perm = [0,1,3,2]>(r)",
            {"W0": (108,)},
        ),
        "Identity": ("W = Identity(W0)", {"W0": W}),
        "Cast": ("W = Cast<to = 1>(W0)", {"W0": rand(*W).astype(np.float16)}),
        "Mul-Unsqueeze-Div": (
            "a = Constant<value = int64[3] {1,2,3}>() r = Div(k, l) u = Unsqueeze(r, a) W = Mul(W0, u)",
            {"W0": W, "k": positive(4), "l": positive(4, seed=3)},
        ),
        "Concat": ("W = Concat<axis = 0>(W0, W1)", {"W0": (1, 3, 3, 3), "W1": (3, 3, 3, 3)}),
        "ConstantOfShape": (f"{shape}W = ConstantOfShape<value = float[1] {{0.02}}>(s)", {}),
        "Constant": ("W = Constant<value = float[4,3,1,1] {1,2,3,4,5,6,7,8,9,-1,-2,-3}>()", {}),
    }
    for name, (lines, constants) in cases.items():
        yield folds(f"computed/weight-{name}", model(f"{lines} {tail}", **constants, **bn(4)))
    turned = model(f"W = Transpose(W0) {tail.replace('Conv', 'Gemm')}", x="float[2,6] x", W0=(4, 6), **bn(4))
    yield folds("computed/Gemm-weight-Transpose", turned)
    body = "W = Transpose(W0) c = MatMul(x, W) s = Mul(c, k) y = Add(s, t)"
    recipe = model(body, x="float[2,6] x", W0=(4, 6), k=positive(4), t=rand(4))
    yield folds("computed/MatMul-weight-Transpose", recipe, remain="Add")
