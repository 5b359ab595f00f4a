"""Operator domains: the two names of ONNX's own, and everybody else's."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from tests.forms.build import Edit, Form, Oracle, bn, folds, may, model, positive, rand, reference, stays

W = (4, 3, 3, 3)
CONV = "c = Conv(x, W)"
BN = "y = BatchNormalization(c, g, b, m, v)"
Y = "float[2,4,4,4] y"
MS = '"com.microsoft" : 1'
ACME = '"com.acme" : 2'


def rows() -> Iterator[Form]:
    yield from _own()
    yield from _others()
    yield from _fused()


def _renamed(*operators: str, imported: str = "") -> Edit:
    """Writes ONNX's own domain out in full on these operators' nodes, and in the import if asked."""

    def edit(proto: ModelProto) -> None:
        for node in proto.graph.node:
            if node.op_type in operators:
                node.domain = "ai.onnx"
        proto.opset_import[0].domain = imported

    return edit


def _own() -> Iterator[Form]:
    body = f"{CONV} {BN}"
    # onnx.checker knows its operators by the short name only; runtimes take either.
    both = ("Conv", "BatchNormalization")
    for name, edit in (
        ("conv", _renamed("Conv")),
        ("bn", _renamed("BatchNormalization")),
        ("both", _renamed(*both)),
        ("import", _renamed(imported="ai.onnx")),
        ("import-and-nodes", _renamed(*both, imported="ai.onnx")),
    ):
        yield folds(f"domains/ai.onnx-{name}", model(body, edit, W=W, **bn(4)), valid=name == "import")
    affine = f"{CONV} s = Mul(c, k) y = Add(s, t)"
    recipe = model(affine, _renamed("Conv", "Mul"), W=W, k=positive(4, 1, 1), t=rand(4, 1, 1))
    yield folds("domains/ai.onnx-mul-add", recipe, valid=False)
    identity = f"d = Conv(x, W) c = Identity(d) {BN}"
    yield folds("domains/ai.onnx-Identity", model(identity, _renamed("Identity"), W=W, **bn(4)), valid=False)
    constant = f"k = Constant<value = float[4,1,1] {{2,3,0.5,-1}}>() {CONV} y = Mul(c, k)"
    yield folds("domains/ai.onnx-Constant", model(constant, _renamed("Constant"), W=W), valid=False)


def _others() -> Iterator[Form]:
    unused = '"com.ms.internal.nhwc" : 19, "ai.onnx.ml" : 3, "com.acme" : 7'
    yield folds("domains/imports-unused", model(f"{CONV} {BN}", imports=unused, W=W, **bn(4)))
    gelu = f"{CONV} {BN.replace('y =', 'n =')} y = com.microsoft.Gelu(n)"
    yield folds("domains/contrib-after", model(gelu, y=Y, imports=MS, W=W, **bn(4)))
    ahead = f"n = com.microsoft.Gelu(x) {CONV.replace('(x', '(n')} {BN}"
    yield folds("domains/contrib-before", model(ahead, y=Y, imports=MS, W=W, **bn(4)))
    between = f"d = Conv(x, W) c = com.microsoft.Gelu(d) {BN}"
    yield stays("domains/contrib-between", "not_linear", model(between, y=Y, imports=MS, W=W, **bn(4)))
    ml = f"{CONV} d = ai.onnx.ml.Binarizer<threshold = 0.1>(x) {BN} z = Neg(d)"
    recipe = model(ml, y=f"{Y}, float[2,3,6,6] z", imports='"ai.onnx.ml" : 1', W=W, **bn(4))
    yield folds("domains/ai.onnx.ml-beside", recipe)
    for name, body in (
        ("after", f"{CONV} {BN.replace('y =', 'n =')} y = com.acme.Twice(n)"),
        ("before", f"n = com.acme.Twice(x) {CONV.replace('(x', '(n')} {BN}"),
    ):
        yield reference(folds(f"domains/unknown-{name}", model(body, y=Y, imports=ACME, W=W, **bn(4))))
    doubled = model(f"d = Conv(x, W) c = com.acme.Twice(d) {BN}", y=Y, imports=ACME, W=W, **bn(4))
    yield reference(stays("domains/unknown-between", "not_linear", doubled))
    reads = f"{CONV} {BN} z = com.acme.Twice(c)"
    recipe = model(reads, y=f"{Y}, float[2,4,4,4] z", imports=ACME, W=W, **bn(4))
    yield reference(stays("domains/unknown-reads-conv", "several_consumers", recipe))
    weight = f"{CONV} {BN} z = com.acme.Twice(W)"
    recipe = model(weight, y=f"{Y}, float[4,3,3,3] z", imports=ACME, W=W, **bn(4))
    yield reference(folds("domains/unknown-reads-weight", recipe))
    # Same names as ONNX's operators, other meanings: none of the tool's business.
    for name, body in (
        ("Conv", f"{CONV.replace('Conv', 'com.acme.Conv')} {BN}"),
        ("BatchNormalization", f"{CONV} {BN.replace('Batch', 'com.acme.Batch')}"),
        ("Mul", f"{CONV} y = com.acme.Mul(c, g)"),
    ):
        weights = bn(4) if "Batch" in body else {"g": positive(4)}
        recipe = model(body, y=Y, imports=ACME, W=W, **weights)
        listed = name == "Conv"
        yield stays(f"domains/foreign-{name}", "not_linear", recipe, listed=listed, oracle=Oracle.NONE)
    through = f"d = Conv(x, W) c = com.acme.Identity(d) {BN}"
    recipe = model(through, y=Y, imports=ACME, W=W, **bn(4))
    yield stays("domains/foreign-Identity-between", "not_linear", recipe, oracle=Oracle.NONE)


def _fused() -> Iterator[Form]:
    plain = f"c = com.microsoft.FusedConv(x, W, B) {BN}"
    # Without an activation it is a Conv by another name.
    recipe = model(plain, y=Y, imports=MS, W=W, B=rand(4), **bn(4))
    yield may("domains/FusedConv-bn", "no activation inside", recipe)
    relu = f'c = com.microsoft.FusedConv<activation = "Relu">(x, W, B) {BN}'
    recipe = model(relu, y=Y, imports=MS, W=W, B=rand(4), **bn(4))
    yield stays("domains/FusedConv-Relu-bn", "not_linear", recipe)
    added = f"c = com.microsoft.FusedConv(x, W, B, r) {BN}"
    recipe = model(added, x="float[2,3,6,6] x, float[2,4,4,4] r", y=Y, imports=MS, W=W, B=rand(4), **bn(4))
    yield stays("domains/FusedConv-residual-bn", "not_linear", recipe)
    ahead = 'c = BatchNormalization(x, g, b, m, v) y = com.microsoft.FusedConv<activation = "Relu">(c, W, B)'
    recipe = model(ahead, y=Y, imports=MS, W=W, B=rand(4), **bn(3))
    yield may("domains/bn-FusedConv-Relu", "the affine comes before the activation", recipe)
    beside = f'{CONV} {BN.replace("y =", "n =")} y = com.microsoft.FusedConv<activation = "Relu">(n, V, B)'
    weights = {"W": rand(*W), "V": rand(4, 4, 1, 1), "B": rand(4), **bn(4)}
    yield folds("domains/FusedConv-beside", model(beside, y=Y, imports=MS, **weights))
