"""Models that once were folded wrongly, made the package fail, or took it too long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_clp
from tests.forms.build import Form, bn, folds, may, model, positive, rand, reference, stays
from tests.forms.judge import judge

W = (4, 3, 3, 3)
BN = "y = BatchNormalization(c, g, b, m, v)"
CALL = "float[2,3,6,6] x"
FUNCTION = (
    '<domain: "local", opset_import: ["" : 17]> F <p> (x) => (y) {'
    " W = Constant<value = float[3,3,1,1] {1,2,3,4,5,6,7,8,9}>()"
    " k = Constant<value = float[1,3,1,1] {1,2,3}>() "
)


def called(body: str, value: str) -> ModelProto:
    """A model that calls a function whose body takes an attribute, `p`, from the call."""
    return model(f"y = local.F<p = {value}>(x)", functions=f"{FUNCTION}{body} }}", imports='"local" : 1')()


ROWS = (
    # A constant with more dimensions than the data.
    stays(
        "bias-adds-a-dimension-before-bn",
        "not_per_channel",
        model(f"d = MatMul(x, W) c = Add(d, a) {BN}", x="float[4,3] x", W=(3, 4), a=rand(1, 1, 4), **bn(4)),
    ),
    stays(
        "factor-adds-a-dimension-to-a-vector",
        "not_per_channel",
        model("c = MatMul(x, W) y = Mul(c, k)", x="float[3] x", W=(3, 4), k=positive(1, 4)),
    ),
    stays(
        "scalar-factor-makes-the-input-an-image",
        "not_per_channel",
        model("c = Mul(x, k) y = Conv(c, W)", x="float[5,5] x", W=(3, 1, 3, 3), k=positive(1, 1, 1, 1)),
    ),
    stays(
        "factor-makes-the-input-an-image",
        "not_per_channel",
        model("c = Mul(x, k) y = Conv(c, W)", x="float[5,3] x", W=W, k=positive(1, 3, 1, 1)),
    ),
    stays(
        "factor-makes-a-scalar-a-vector",
        "not_per_channel",
        model("s = ReduceSum<keepdims = 0>(x) c = Mul(s, k) y = MatMul(c, W)", W=(1, 4), k=positive(1)),
    ),
    # The Mul goes, and its shift would be lost on the second reader of d.
    folds(
        "bias-behind-a-value-read-twice",
        model(
            "c = MatMul(x, W) d = Sub(k, c) y = Add(d, k) z = Neg(d)",
            x="float[2,3] x",
            y="float y, float z",
            W=(3, 4),
            k=positive(1, 4),
        ),
        remain="Add Add",
        left="Add",
    ),
    folds(
        "cast-after-cast",
        model(f"d = Conv(x, W) e = Cast<to = 1>(d) c = Cast<to = 1>(e) {BN}", W=W, value_info=False, **bn(4)),
    ),
    folds(
        "input-affines-of-unrecorded-size",
        model(
            "c = Sub(x, k) d = Div(c, s) y = Conv(d, W)", W=W, k=rand(3, 1, 1), s=positive(3, 1, 1), value_info=False
        ),
    ),
    # A weight that the graph works out.
    folds(
        "standardised-weight",
        model(
            "a = ReduceMean<axes = [1,2,3]>(V) e = Sub(V, a) s = Mul(e, e) t = ReduceMean<axes = [1,2,3]>(s)"
            f" r = Sqrt(t) W = Div(e, r) c = Conv(x, W) {BN}",
            V=W,
            **bn(4),
        ),
        remain="Sub Mul Div",
    ),
    folds(
        "weight-norm",
        model(
            f"n = ReduceL2<axes = [1,2,3]>(V) u = Div(V, n) W = Mul(u, size) c = Conv(x, W) {BN}",
            V=W,
            size=positive(4, 1, 1, 1),
            **bn(4),
        ),
    ),
    folds(
        "spectral-norm",
        model(
            f"f = Reshape(V, flat) w = MatMul(f, v0) n = ReduceSum<keepdims = 0>(w) W = Div(V, n) c = Conv(x, W) {BN}",
            V=positive(*W),
            flat=np.array([4, -1]),
            v0=positive(27),
            **bn(4),
        ),
    ),
    # Types and sizes at the edge.
    may(
        "no-channels",
        "there is nothing to fold into",
        model(
            "c = Conv(x, W) y = Mul(c, k)", W=np.zeros((0, 3, 1, 1), np.float32), k=np.zeros((1, 0, 1, 1), np.float32)
        ),
        visible=False,
    ),
    reference(
        folds(
            "float32-scale-dequantised-to-float16",
            model(
                "w = DequantizeLinear<output_dtype = 10>(q, s) c = MatMul(x, w) y = Sub(c, k)",
                x="float16[2,3] x",
                dtype="float16",
                opset=23,
                ir=10,
                q=np.arange(12, dtype=np.int8).reshape(3, 4),
                s=np.array(0.1, np.float32),
                k=positive(4).astype(np.float16),
            ),
            remain="Add",
        )
    ),
    folds(
        "integer-matmul-scaled-in-float16",
        model(
            "i = MatMulInteger(x, q) f = Cast<to = 10>(i) c = Mul(f, s) y = Sub(c, k)",
            x="uint8[2,3] x",
            dtype="float16",
            q=np.arange(12, dtype=np.int8).reshape(3, 4),
            s=np.array(0.1, np.float16),
            k=positive(4).astype(np.float16),
        ),
        remain="Mul Add",
    ),
    folds(
        "dequantised-bias-before-opset-13",
        model(
            "B = DequantizeLinear(q, s) c = Conv(x, W, B) y = Mul(c, k)",
            opset=11,
            W=W,
            q=np.arange(4, dtype=np.int32),
            s=np.array(0.1, np.float32),
            k=positive(4, 1, 1),
        ),
    ),
)


@pytest.mark.parametrize("form", ROWS, ids=lambda form: form.id)
def test_forms(form: Form, tmp_path: Path) -> None:
    assert judge(form, onnx_clp.clean, tmp_path) == []


FOLD = onnx_clp.CleanConfig(prune=False, validate=False)
PRUNE = onnx_clp.CleanConfig(u=0.5, layers="all", validate=False)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("c = Conv(x, W) d = Transpose<perm: ints = @p>(c) y = Mul(d, k)", "[0,1,3,2]"),
        ("c = Conv(x, W) d = Concat<axis: int = @p>(c, c) y = Mul(d, k)", "2"),
        ("c = Conv(x, W) d, e = Split<axis: int = @p>(c) y = Mul(d, k)", "2"),
        ("c = Conv(x, W) d = Cast<to: int = @p>(c) y = Mul(d, k)", "1"),
        (
            "q = Constant<value = int8[3,3,1,1] {1,2,3,4,5,6,7,8,9}>() s = Constant<value = float[3] {1,2,3}>() "
            "w = DequantizeLinear<axis: int = @p>(q, s) c = Conv(x, w) y = Mul(c, k)",
            "0",
        ),
    ],
)
def test_an_attribute_of_the_call_is_not_guessed(body: str, value: str) -> None:
    made = called(body, value)
    result = onnx_clp.clean(made, FOLD)
    assert result.model == made
    assert [left.name for left in result.report.affines_left] == ["y"]


def test_used_statistics_stay() -> None:
    lines = "c = Conv(x, W) y, mm, vv = BatchNormalization<training_mode = 0>(c, g, b, m, v)"
    made = model(lines, y="float y, float[4] mm", W=W, **bn(4))()
    result = onnx_clp.clean(made, FOLD)
    assert [left.reason for left in result.report.affines_left] == ["training_mode"]


def test_values_at_the_end_of_the_range_are_not_folded_to_infinity() -> None:
    weights = {"W": np.full(W, 2e38, np.float32), "k": np.full((4, 1, 1), 3, np.float32)}
    result = onnx_clp.clean(model("d = Relu(x) c = Conv(d, W) y = Mul(c, k)", **weights)(), FOLD)
    assert [left.reason for left in result.report.affines_left] == ["out_of_range"]


@pytest.mark.parametrize(
    "line",
    [
        "huge = ConstantOfShape(shape) k = Neg(huge)",
        "huge = Expand(one, shape) k = Sqrt(huge)",
        "huge = ConstantOfShape(half) wide = Mul(one, huge) k = MatMul(wide, wide)",
    ],
)
def test_a_few_bytes_that_say_a_huge_constant_are_not_worked_out(line: str) -> None:
    weights = {"shape": np.array([1 << 18, 1 << 18]), "half": np.array([1 << 18, 1]), "one": positive(1, 1)}
    made = model(f"{line} c = Conv(x, W) y = Mul(c, k)", y="float[2,4,1,1] y", value_info=False, W=W, **weights)()
    assert [left.name for left in onnx_clp.clean(made, FOLD).report.affines_left][-1:] == ["y"]


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.COMPLEX64])
@pytest.mark.parametrize("line", [BN, "y = Add(c, g)", "y = Clip(c, g)"])
def test_constants_of_no_real_type_are_left_alone(kind: int, line: str) -> None:
    made = model(f"c = Conv(x, W) {line}", W=W, **bn(4))()
    values: Any = [b"a"] * 4 if kind == TensorProto.STRING else [1 + 1j] * 4
    held = next(t for t in made.graph.initializer if t.name == "g")
    held.CopyFrom(helper.make_tensor("g", kind, [4], values))
    assert onnx_clp.clean(made, FOLD).model == made
    onnx_clp.clean(made, PRUNE)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.COMPLEX64])
def test_limits_of_no_real_type_are_no_limits(kind: int) -> None:
    line = "d = Conv(x, W) n = BatchNormalization(d, g, b, m, v) y = Clip(n, low)"
    weights = rand(12, 3, 3, 3)
    weights[5] *= 50
    made = model(line, W=weights, low=np.zeros((), np.float32), **bn(12))()
    held = next(t for t in made.graph.initializer if t.name == "low")
    values: Any = [b"a"] if kind == TensorProto.STRING else [1 + 1j]
    held.CopyFrom(helper.make_tensor("low", kind, [], values))
    for caps in (None, 2.5):
        assert onnx_clp.clean(made, replace(PRUNE, u=2.0, bound_activations=caps)).report.summary.channels_pruned


def test_an_empty_limit_and_an_empty_weight_are_judged_in_words() -> None:
    lines = "c = Conv(x, W) d = Clip(c, none) e = Conv(d, V) y = Conv(e, U)"
    weights = {"none": np.zeros(0, np.float32), "V": np.zeros((3, 0, 1, 1), np.float32), "U": rand(2, 3, 1, 1)}
    made = model(lines, y="float[2,2,4,4] y", value_info=False, W=W, **weights)()
    statuses = {layer.name: layer.status for layer in onnx_clp.clean(made, PRUNE).report.layers}
    assert statuses == {"c": "judged", "e": "cannot be judged", "y": "head"}


def test_opset_6_broadcasting_survives_pruning() -> None:
    lines = "c = Conv(x, W) y = Mul<broadcast = 1, axis = 1>(c, k) z = Relu(c)"
    made = model(lines, opset=6, y="float[2,4,4,4] y, float[2,4,4,4] z", W=W, k=positive(4))()
    result = onnx_clp.clean(made, PRUNE)
    pruned = list(result.report.layers[0].pruned)
    held = next(t for t in result.model.graph.initializer if t.name == result.model.graph.node[1].input[1])
    assert pruned
    assert np.flatnonzero(numpy_helper.to_array(held) == 0).tolist() == pruned


def test_time_grows_with_the_number_of_layers_not_its_square() -> None:
    nodes, stored, records, value = [], [], [], "x"
    for i in range(2000):
        arrays = {f"W{i}": np.ones((2, 2, 1, 1), np.float32)} | {f"{n}{i}": np.ones(2, np.float32) for n in "gbmv"}
        stored += [numpy_helper.from_array(a, n) for n, a in arrays.items()]
        nodes.append(helper.make_node("Conv", [value, f"W{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("BatchNormalization", [f"c{i}", f"g{i}", f"b{i}", f"m{i}", f"v{i}"], [f"n{i}"]))
        records += [helper.make_tensor_value_info(f"{n}{i}", 1, [1, 2, 2, 2]) for n in "cn"]
        value = f"n{i}"
    ends = [helper.make_tensor_value_info(n, 1, [1, 2, 2, 2]) for n in ("x", value)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored, value_info=records)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert len(onnx_clp.clean(made, FOLD).model.graph.node) == 2000


def test_a_constant_that_thousands_share_is_no_slower() -> None:
    nodes, value = [], "x"
    for i in range(2000):
        nodes.append(helper.make_node("Conv", [value, "W"], [f"c{i}"]))
        nodes.append(helper.make_node("Mul", [f"c{i}", "k"], [f"d{i}"]))
        value = f"d{i}"
    ends = [helper.make_tensor_value_info(n, 1, [1, 2, 2, 2]) for n in ("x", value)]
    stored = [
        numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "W"),
        numpy_helper.from_array(np.full((2, 1, 1), 2, np.float32), "k"),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = [t.name for t in onnx_clp.clean(made, FOLD).model.graph.initializer]
    assert len(set(names)) == 2000
