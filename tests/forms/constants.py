"""Every way a file stores a constant, and every way two nodes share one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.forms.build import (
    Edit,
    Form,
    Weight,
    bn,
    folds,
    initializer,
    may,
    model,
    overridable,
    positive,
    rand,
    reference,
    stays,
)

BODY = "c = Conv(x, W) y = BatchNormalization(c, g, b, m, v)"
CONV = "c = Conv(x, W)"
W = (4, 3, 3, 3)


def rows() -> Iterator[Form]:
    yield from _constant_nodes()
    yield from _fields()
    yield from _sparse()
    yield from _shared()
    yield from _overridable()


def _constant_nodes() -> Iterator[Form]:
    lines = {
        "value": "k = Constant<value = float[4,1,1] {2,-1,0.5,3}>() y = Mul(c, k)",
        "value_float": "k = Constant<value_float = 2.5>() y = Mul(c, k)",
        "value_floats": "k = Constant<value_floats = [2.5]>() y = Mul(c, k)",
        "value_floats-Reshape": "f = Constant<value_floats = [2.0, -1.0, 0.5, 3.0]>() "
        "w = Constant<value_ints = [4,1,1]>() k = Reshape(f, w) y = Mul(c, k)",
        "value_int-Cast": "n = Constant<value_int = 3>() k = Cast<to = 1>(n) y = Mul(c, k)",
        "value_ints-Cast": "n = Constant<value_ints = [2, -3, 1, 4]>() f = Cast<to = 1>(n) "
        "a = Constant<value_ints = [1,2]>() k = Unsqueeze(f, a) y = Mul(c, k)",
    }
    for name, line in lines.items():
        yield folds(f"constants/Constant-{name}", model(f"{CONV} {line}", W=W))
    for name, line in (("value_float", "1.5"), ("value_floats", "[1.5]")):
        zero = f"t = Constant<{name} = {line}>() {CONV} y = Add(t, c)"
        yield folds(f"constants/Constant-{name}-add", model(zero, W=W))
    rest = {n: a for n, a in bn(4).items() if n != "b"}
    dense = "b = Constant<value = float[4] {0, 1.5, 0, -2}>()"
    yield folds("constants/Constant-sparse_value", model(f"{dense} {BODY}", _sparse_constant, W=W, **rest))


def _sparse_constant(proto: ModelProto) -> None:
    node = next(n for n in proto.graph.node if n.op_type == "Constant")
    del node.attribute[:]
    values = helper.make_tensor("", TensorProto.FLOAT, [2], [1.5, -2.0])
    places = helper.make_tensor("", TensorProto.INT64, [2], [1, 3])
    node.attribute.append(helper.make_attribute("sparse_value", helper.make_sparse_tensor(values, places, [4])))


def _typed(proto: ModelProto) -> None:
    """Moves every initializer's raw bytes into its type's own field."""
    for init in proto.graph.initializer:
        array = numpy_helper.to_array(init)
        if init.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            init.ClearField("raw_data")
            init.int32_data.extend(array.view(np.uint16).ravel().tolist())
        elif init.data_type == TensorProto.DOUBLE:
            init.ClearField("raw_data")
            init.double_data.extend(array.ravel().tolist())
        elif init.data_type == TensorProto.FLOAT:
            init.ClearField("raw_data")
            init.float_data.extend(array.ravel().tolist())


def _fields() -> Iterator[Form]:
    yield folds("constants/raw_data", model(BODY, W=W, **bn(4)))
    yield folds("constants/float_data", model(BODY, _typed, W=W, **bn(4)))
    for dtype, field in (("float16", "int32_data"), ("bfloat16", "int32_data"), ("double", "double_data")):
        for name, edits in ((field, (_typed,)), ("raw_data", ())):
            opset, ir = (22, 10) if dtype == "bfloat16" else (17, 8)
            weights = {"W": W, **bn(4, dtype=dtype)}
            recipe = model(BODY, *edits, x=f"{dtype}[2,3,6,6] x", dtype=dtype, opset=opset, ir=ir, **weights)
            form = folds(f"constants/{dtype}-{name}", recipe)
            yield form if dtype == "float16" else reference(form)
    yield folds("constants/external-data", model(BODY, W=W, **bn(4)), external=True)
    line = f"{CONV} s = Mul(c, k) y = Add(s, t)"
    recipe = model(line, W=W, k=positive(4, 1, 1), t=rand(4, 1, 1))
    yield folds("constants/external-data-mul-add", recipe, external=True)
    yield folds("constants/typed-scalar", model(f"{CONV} y = Mul(c, k)", _typed, W=W, k=positive()))


def _sparse_initializers(*names: str) -> Edit:
    def edit(proto: ModelProto) -> None:
        for name in names:
            init = initializer(proto, name)
            array = numpy_helper.to_array(init)
            places = np.flatnonzero(array).astype(np.int64)
            values = numpy_helper.from_array(array.ravel()[places], name)
            indices = numpy_helper.from_array(places)
            proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(array.shape)))
            proto.graph.initializer.remove(init)

    return edit


def _sparse() -> Iterator[Form]:
    holed = rand(*W)
    holed[np.abs(holed) < 0.4] = 0
    rest = {**bn(4), "b": np.array([0, 2.5, 0, -1], np.float32)}
    for name, which in (("shift", ("b",)), ("weight", ("W",)), ("both", ("W", "b"))):
        # Shape inference calls any use of a sparse initializer a type error, so the full check refuses them.
        recipe = model(BODY, _sparse_initializers(*which), W=holed, **rest)
        yield folds(f"constants/sparse-{name}", recipe, valid=False)


def _shared() -> Iterator[Form]:
    two = "float y, float z"
    tail = "y = BatchNormalization(c, g, b, m, v)"
    cases: dict[str, tuple[str, dict[str, Weight]]] = {
        "weight-other-conv-plain": (f"{CONV} z = Conv<strides = [2,2]>(x, W) {tail}", {}),
        "weight-two-normalisations": (
            f"{CONV} d = Conv<strides = [2,2]>(x, W) {tail} z = BatchNormalization(d, m, g, b, v)",
            {},
        ),
        "weight-same-normalisation": (
            f"{CONV} d = Conv<strides = [2,2]>(x, W) {tail} z = BatchNormalization(d, g, b, m, v)",
            {},
        ),
        "bias-of-two-convs": (
            f"c = Conv(x, W, B) z = Conv(x, V, B) {tail}",
            {"B": rand(4), "V": rand(4, 3, 2, 2)},
        ),
        "bias-is-bn-shift": (f"c = Conv(x, W, b) {tail} z = Identity(x)", {}),
        "bn-parameters-elsewhere": (
            f"{CONV} {tail} i = Constant<value_ints = [1,4,1,1]>() h = Reshape(g, i) r = Relu(y) z = Mul(r, h)",
            {},
        ),
        "weight-is-output": (f"{CONV} {tail} z = Identity(W)", {}),
        "weight-is-data": (f"{CONV} {tail} z = Relu(W)", {}),
        "weight-is-kernel-and-mean": (f"{CONV} {tail} q = ReduceMean(W) z = Add(x, q)", {}),
        "scale-of-two-muls": (
            "c = Conv(x, W) y = Mul(c, k) d = Conv(x, V) z = Mul(d, k)",
            {"k": positive(4, 1, 1), "V": rand(4, 3, 2, 2)},
        ),
    }
    for name, (body, extra) in cases.items():
        weights = {} if "Batch" not in body else bn(4)
        remain = "Mul Add" if name in ("bn-parameters-elsewhere", "weight-is-kernel-and-mean") else ""
        yield folds(f"constants/shared-{name}", model(body, y=two, W=W, **weights, **extra), remain=remain)
    node = model(
        "W = Constant<value = float[4,3,1,1] {1,2,3,4,5,6,7,8,9,-1,-2,-3}>() "
        f"{CONV} {tail} z = Conv<strides = [2,2]>(x, W)",
        y=two,
        **bn(4),
    )
    yield folds("constants/shared-Constant-node", node)
    many = "".join(f"c{i} = Conv<pads = [1,1,1,1]>(c{i - 1}, W) d{i} = Relu(c{i}) " for i in range(1, 8))
    chain = many.replace("c0", "x") + "c = Conv(d7, W) y = BatchNormalization(c, g, b, m, v)"
    recipe = model(chain, x="float[2,4,6,6] x", W=(4, 4, 3, 3), **bn(4))
    yield folds("constants/shared-weight-eight-convs", recipe)
    output = model(f"{CONV} {tail}", y="float y, float[4,3,3,3] W", W=W, **bn(4))
    yield folds("constants/weight-is-graph-output", output)
    scale = model(f"{CONV} {tail}", y="float y, float[4] g", W=W, **bn(4))
    yield folds("constants/scale-is-graph-output", scale)
    in_branch = (
        f"{CONV} {tail} z = If (q) <then_branch = t () => (float[4,3,3,3] p) {{ p = Identity(W) }}, "
        "else_branch = e () => (float[4,3,3,3] r) { r = Neg(W) }>"
    )
    recipe = model(in_branch, x="float[2,3,6,6] x, bool q", y=two, W=W, **bn(4))
    yield folds("constants/shared-weight-captured-by-If", recipe)


def _overridable() -> Iterator[Form]:
    names = ("W", "g", "b", "m", "v")
    yield folds("constants/ir3-all-inputs", model(BODY, ir=3, opset=9, W=W, **bn(4)))
    for name in names:
        recipe = model(BODY, overridable(name), W=W, **bn(4))
        yield stays(f"constants/overridable-{name}", "overridable", recipe)
        yield folds(f"constants/overridable-{name}-frozen", recipe, freeze=True)
    everything = model(BODY, overridable(*names), ir=4, opset=9, W=W, **bn(4))
    yield stays("constants/overridable-all", "overridable", everything)
    yield folds("constants/overridable-all-frozen", everything, freeze=True)
    biased = model(BODY.replace("W)", "W, B)"), overridable("B"), W=W, B=rand(4), **bn(4))
    yield stays("constants/overridable-conv-bias", "overridable", biased)
    yield folds("constants/overridable-conv-bias-frozen", biased, freeze=True)
    line = model(f"{CONV} y = Mul(c, k)", overridable("k"), W=W, k=positive(4, 1, 1))
    yield stays("constants/overridable-mul", "overridable", line)
    yield folds("constants/overridable-mul-frozen", line, freeze=True)
    shaped = "i = Constant<value_ints = [4]>() g = Reshape(g0, i) " + BODY
    rest = {**bn(4), "g0": bn(4)["g"]}
    rest.pop("g")
    behind = model(shaped, overridable("g0"), W=W, **rest)
    yield stays("constants/overridable-behind-Reshape", "overridable", behind)
    gemm = model(BODY.replace("Conv", "Gemm"), overridable("W"), x="float[2,3] x", W=(3, 4), **bn(4))
    yield stays("constants/overridable-Gemm-weight", "overridable", gemm)
    other = model(f"{BODY} z = Mul(x, p)", overridable("p"), y="float y, float z", W=W, p=positive(), **bn(4))
    yield folds("constants/overridable-elsewhere", other, remain="Mul")
    chosen = (
        "f = Constant<value = bool {1}>() k = If (f) <then_branch = t () => (float[4,1,1] p) "
        "{ p = Constant<value = float[4,1,1] {1,2,3,4}>() }, else_branch = e () => (float[4,1,1] r) "
        "{ r = Constant<value = float[4,1,1] {5,6,7,8}>() }> " + f"{CONV} y = Mul(c, k)"
    )
    yield may("constants/behind-constant-If", "a constant, but behind control flow", model(chosen, W=W))
