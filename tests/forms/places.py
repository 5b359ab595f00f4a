"""Nested graphs and local functions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.forms.build import (
    Form,
    Recipe,
    Weight,
    bn,
    constants,
    folds,
    literal,
    may,
    model,
    positive,
    rand,
    stays,
)

X = "float[2,3,6,6] x"
XQ = f"{X}, bool q"
OUT = "float[2,4,4,4]"
W = (4, 3, 3, 3)
BN = "BatchNormalization(c, g, b, m, v)"
INIT = {"W": rand(*W), **bn(4)}
OTHER = {"W": rand(*W, seed=5), **bn(4, seed=9)}


def _stored(weights: dict[str, object]) -> str:
    """A nested graph's own initializers, in text."""
    entries = (literal(np.asarray(w)).replace("] {", f"] {n} = {{", 1) for n, w in weights.items())
    return "<" + ", ".join(entries) + ">"


def rows() -> Iterator[Form]:
    yield from _if()
    yield from _loops()
    yield from _nested()
    yield from _across()
    yield from _functions()
    yield from _function_limits()


def _branch(name: str, out: str, body: str, stored: str = "") -> str:
    return f"{name}_branch = {name} () => ({OUT} {out}) {stored} {{ {body} }}"


def _if() -> Iterator[Form]:
    one, two = f"c = Conv(x, W) p = {BN}", f"d = Conv(x, W) r = {BN.replace('(c', '(d')}"
    both: dict[str, tuple[str, str, str, str, dict[str, Weight]]] = {
        # sibling graphs may reuse names, for other values
        "constants-inside": (f"{constants(INIT)} {one}", f"{constants(OTHER)} {two}", "", "", {}),
        "initializers-inside": (one, two, _stored({**INIT}), _stored({**OTHER}), {}),
        "constants-outside": (one, two, "", "", INIT),
    }
    for name, (then, other, kept, kept_too, outside) in both.items():
        branches = f"{_branch('then', 'p', then, kept)}, {_branch('else', 'r', other, kept_too)}"
        recipe = model(f"y = If (q) <{branches}>", x=XQ, y=f"{OUT} y", **outside)
        yield folds(f"places/If-{name}", recipe)
    plain = f"{_branch('then', 'p', one)}, {_branch('else', 'r', 'r = Conv(x, W)')}"
    recipe = model(f"y = If (q) <{plain}>", x=XQ, y=f"{OUT} y", **INIT)
    yield folds("places/If-weight-shared-by-branches", recipe)
    affine = "c = Conv(x, W) s = Mul(c, k) p = Add(t, s)"
    mixed = f"{_branch('then', 'p', affine)}, {_branch('else', 'r', two)}"
    recipe = model(f"y = If (q) <{mixed}>", x=XQ, y=f"{OUT} y", k=positive(4, 1, 1), t=rand(1, 4, 1, 1), **INIT)
    yield folds("places/If-affine-and-bn", recipe)


def _loops() -> Iterator[Form]:
    weight = rand(3, 3, 3, 3)
    stats = bn(3)
    body = "b (int64 i, bool a, float[2,3,6,6] h) => (bool o, float[2,3,6,6] p {S}) {L}"
    step = "o = Identity(a) c = Conv<pads = [1,1,1,1]>(h, W) p = BatchNormalization(c, g, b, m, v)"
    for name, lines, outside in (
        ("outer-constants", step, {"W": weight, **stats}),
        ("inner-constants", constants({"W": weight, **stats}) + step, {}),
    ):
        text = body.replace("{S}", "").replace("{L}", f"{{ {lines} }}")
        recipe = model(
            f"y = Loop (n, t, x) <body = {text}>", x=f"{X}, int64 n, bool t", y="float[2,3,6,6] y", **outside
        )
        yield folds(f"places/Loop-{name}", recipe)
    seen = body.replace("{S}", ", float[2,3,6,6] s").replace("{L}", f"{{ {step} s = Identity(c) }}")
    outs = "float[2,3,6,6] y, float[k,2,3,6,6] z"
    recipe = model(f"y, z = Loop (n, t, x) <body = {seen}>", x=f"{X}, int64 n, bool t", y=outs, W=weight, **stats)
    yield stays("places/Loop-conv-is-scan-output", "several_consumers", recipe)
    carried = (
        "b (int64 i, bool a, float[2,3,6,6] h, float[3,3,3,3] w) "
        "=> (bool o, float[2,3,6,6] p, float[3,3,3,3] u) "
        "{ o = Identity(a) u = Neg(w) "
        "c = Conv<pads = [1,1,1,1]>(h, w) p = BatchNormalization(c, g, b, m, v) }"
    )
    text = f"y, z = Loop (n, t, x, W) <body = {carried}>"
    recipe = model(text, x=f"{X}, int64 n, bool t", y="float[2,3,6,6] y, float[3,3,3,3] z", W=weight, **stats)
    yield stays("places/Loop-weight-carried", "weight_not_constant", recipe)
    scan = (
        "y = Scan <num_scan_inputs = 1, body = b (float[2,3,6] h) => (float[2,4,4] p) "
        "{ c = Conv(h, W) p = BatchNormalization(c, g, b, m, v) }> (x)"
    )
    recipe = model(scan, x="float[5,2,3,6] x", y="float[5,2,4,4] y", W=(4, 3, 3), **bn(4))
    yield folds("places/Scan", recipe)


def _nested() -> Iterator[Form]:
    one = f"c = Conv(x, W) p2 = {BN}"
    inner = f"{_branch('then', 'p2', one).replace('= then', '= then2')}, "
    inner += _branch("else", "r2", "r2 = Conv(x, V)").replace("= else", "= else2")
    outer = f"{_branch('then', 'p', f'p = If (q) <{inner}>')}, {_branch('else', 'r', 'r = Conv(x, V)')}"
    recipe = model(f"y = If (q) <{outer}>", x=XQ, y=f"{OUT} y", V=rand(*W, seed=4), **INIT)
    yield folds("places/If-in-If", recipe)
    middle = f"{constants(INIT)} p = If (q) <{inner}>"
    outer = f"{_branch('then', 'p', middle)}, {_branch('else', 'r', 'r = Conv(x, V)')}"
    recipe = model(f"y = If (q) <{outer}>", x=XQ, y=f"{OUT} y", V=rand(*W, seed=4))
    yield folds("places/If-in-If-constants-between", recipe)
    step = "c = Conv<pads = [1,1,1,1]>(h, W) p2 = BatchNormalization(c, g, b, m, v)"
    wide = "float[2,3,6,6]"
    inner = f"then_branch = t2 () => ({wide} p2) {{ {step} }}, else_branch = e2 () => ({wide} r2) {{ r2 = Neg(h) }}"
    body = f"b (int64 i, bool a, {wide} h) => (bool o, {wide} p) {{ o = Identity(a) p = If (q) <{inner}> }}"
    weights = {"W": rand(3, 3, 3, 3), **bn(3)}
    recipe = model(f"y = Loop (n, q, x) <body = {body}>", x=f"{XQ}, int64 n", y=f"{wide} y", **weights)
    yield folds("places/If-in-Loop", recipe)


def _across() -> Iterator[Form]:
    """Convolution and normalisation in different graphs, or a branch looking in."""
    tap = f"{_branch('then', 'p', 'p = Relu(c)')}, {_branch('else', 'r', 'r = Neg(c)')}"
    recipe = model(f"c = Conv(x, W) y = {BN} z = If (q) <{tap}>", x=XQ, y=f"float y, {OUT} z", **INIT)
    yield stays("places/conv-captured-by-If", "several_consumers", recipe)
    once = f"{_branch('then', 'p', 'p = Relu(c)')}, {_branch('else', 'r', 'r = Neg(x2)')}"
    recipe = model(f"c = Conv(x, W) y = {BN} z = If (q) <{once}>", x=f"{XQ}, {OUT} x2", y=f"float y, {OUT} z", **INIT)
    yield stays("places/conv-captured-by-one-branch", "several_consumers", recipe)
    deep = f"p = If (q) <{tap.replace('(x', '(x').replace(' p', ' p3').replace(' r', ' r3')}>"
    deep = deep.replace("= then ", "= then3 ").replace("= else ", "= else3 ")
    outer = f"{_branch('then', 'p', deep)}, {_branch('else', 'r', 'r = Identity(x2)')}"
    recipe = model(f"c = Conv(x, W) y = {BN} z = If (q) <{outer}>", x=f"{XQ}, {OUT} x2", y=f"float y, {OUT} z", **INIT)
    yield stays("places/conv-captured-two-levels-down", "several_consumers", recipe)
    # Moving an affine from one branch into code that always runs is exact only when nothing else reads it.
    inside = f"{_branch('then', 'p', f'p = {BN}')}, {_branch('else', 'r', 'r = Relu(x2)')}"
    recipe = model(f"c = Conv(x, W) y = If (q) <{inside}>", x=f"{XQ}, {OUT} x2", y=f"{OUT} y", **INIT)
    yield may("places/bn-in-a-branch", "the convolution is outside", recipe)
    either = f"{_branch('then', 'p', f'p = {BN}')}, {_branch('else', 'r', 'r = Relu(c)')}"
    recipe = model(f"c = Conv(x, W) y = If (q) <{either}>", x=XQ, y=f"{OUT} y", **INIT)
    yield stays("places/bn-in-one-branch-of-two", "several_consumers", recipe)
    chosen = f"{_branch('then', 'p', 'p = Conv(x, W)')}, {_branch('else', 'r', 'r = Conv(x, V)')}"
    recipe = model(f"c = If (q) <{chosen}> y = {BN}", x=XQ, y=f"{OUT} y", V=rand(*W, seed=4), **INIT)
    yield may("places/bn-after-If-of-convs", "both branches would take the affine", recipe)
    over = f"{_branch('then', 'p', f'c = Conv(x, W) p = {BN}')}, {_branch('else', 'r', 'r = Conv(x, V)')}"
    recipe = model(f"y = If (q) <{over}>", x=f"{XQ}, float[4,3,3,3] W", y=f"{OUT} y", V=rand(*W, seed=4), **bn(4))
    yield stays("places/If-weight-is-run-time-input", "weight_not_constant", recipe)


def _function(name: str, inputs: str, body: str, *, out: str = "y", attributes: str = "") -> str:
    head = '<domain: "local", opset_import: ["" : 17, "local" : 1]>'
    return f"{head} {name} {attributes} ({inputs}) => ({out}) {{ {body} }} "


def _local(body: str, *functions: str, **facts: Weight | str) -> Recipe:
    given = {"x": X, "y": "float[a,b,c,d] y", **facts}
    return model(body, imports='"local" : 1', functions="".join(functions), **given)


def _functions() -> Iterator[Form]:
    inside = constants(INIT) + f"c = Conv(x, W) y = {BN}"
    yield folds("places/function-once", _local("y = local.f(x)", _function("f", "x", inside)))
    twice = "y = local.f(x) w = Neg(x) z = local.f(w)"
    outs = "float[a,b,c,d] y, float[e,f,g,h] z"
    yield folds("places/function-twice", _local(twice, _function("f", "x", inside), y=outs))
    lines = constants({"W": rand(*W), "k": positive(4, 1, 1), "t": rand(1, 4, 1, 1)})
    affine = lines + "c = Conv(x, W) s = Mul(c, k) y = Add(s, t)"
    yield folds("places/function-mul-add", _local("y = local.f(x)", _function("f", "x", affine)))
    gemm = (
        constants({"W": rand(6, 4), "B": rand(4), **bn(4)}) + "c = Gemm(x, W, B) y = BatchNormalization(c, g, b, m, v)"
    )
    recipe = _local("y = local.f(x)", _function("f", "x", gemm), x="float[2,6] x", y="float[a,b] y")
    yield folds("places/function-Gemm", recipe)
    outer = _function("h", "x", "w = local.f(x) y = Relu(w)")
    yield folds("places/function-in-function", _local("y = local.h(x)", outer, _function("f", "x", inside)))
    chosen = _local(
        "y = If (q) <then_branch = t () => (float[2,4,4,4] p) { p = local.f(x) }, "
        "else_branch = e () => (float[2,4,4,4] r) { w = Neg(x) r = local.f(w) }>",
        _function("f", "x", inside),
        x=XQ,
    )
    yield folds("places/function-called-in-If", chosen)
    two = _function("f", "x", inside) + _function("h", "x", constants(OTHER) + f"c = Conv(x, W) y = {BN}")
    recipe = _local("y = local.f(x) z = local.h(x)", two, y=outs)
    yield folds("places/two-functions-same-names", recipe)
    no_bias = constants(INIT) + f'c = Conv(x, W, "") d = Identity(c) y = {BN.replace("(c", "(d")}'
    yield folds("places/function-behind-Identity", _local("y = local.f(x)", _function("f", "x", no_bias)))
    branch = f"{_branch('then', 'p', f'c = Conv(x, W) p = {BN}')}, {_branch('else', 'r', 'r = Conv(x, W)')}"
    text = constants(INIT) + f"y = If (q) <{branch}>"
    recipe = _local("y = local.f(x, q)", _function("f", "x, q", text), x=XQ)
    yield folds("places/If-in-function", recipe)
    # A caller gives epsilon: only when every call agrees is it a constant.
    ref = constants(INIT) + "c = Conv(x, W) y = BatchNormalization<epsilon: float = @eps>(c, g, b, m, v)"
    recipe = _local("y = local.f<eps = 0.25>(x)", _function("f", "x", ref, attributes="<eps>"))
    yield may("places/function-epsilon-from-caller", "an attribute of the call", recipe)
    unused = _local(f"c = Conv(x, W) y = {BN}", _function("f", "x", inside), y="float y", **INIT)
    yield folds("places/function-never-called", unused, remain="BatchNormalization")


def _function_limits() -> Iterator[Form]:
    names = "x, W, g, b, m, v"
    passed = _function("f", names, f"c = Conv(x, W) y = {BN}")
    yield stays(
        "places/function-constants-outside",
        "constants_outside",
        _local(f"y = local.f({names})", passed, **INIT),
    )
    twice = f"y = local.f({names}) z = local.f(x, V, b, g, m, v)"
    outs = "float[a,b,c,d] y, float[e,f,g,h] z"
    recipe = _local(twice, passed, y=outs, V=rand(*W, seed=4), **INIT)
    yield stays("places/function-twice-other-constants", "constants_outside", recipe)
    weight = constants({"W": INIT["W"]}) + f"c = Conv(x, W) y = {BN}"
    recipe = _local("y = local.f(x, g, b, m, v)", _function("f", "x, g, b, m, v", weight), **bn(4))
    yield stays("places/function-bn-constants-outside", "constants_outside", recipe)
    stats = constants(bn(4)) + f"c = Conv(x, W) y = {BN}"
    recipe = _local("y = local.f(x, W)", _function("f", "x, W", stats), W=W)
    yield stays("places/function-weight-outside", "constants_outside", recipe)
    tapped = _function("f", "x", constants(INIT) + f"c = Conv(x, W) y = {BN}", out="y, c")
    recipe = _local("y, z = local.f(x)", tapped, y=outs)
    yield stays("places/function-conv-is-output", "graph_output", recipe)
    relu = _function("f", "x", constants(INIT) + f"e = Conv(x, W) c = Relu(e) y = {BN}")
    yield stays("places/function-relu-between", "not_linear", _local("y = local.f(x)", relu))
    norm = _function("f", "c", constants(bn(4)) + f"y = {BN}")
    recipe = _local("c = Conv(x, W) y = local.f(c)", norm, W=W)
    yield may("places/bn-in-function-conv-outside", "only inlining would bring them together", recipe)
