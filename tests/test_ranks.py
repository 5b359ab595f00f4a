"""Ranks and sizes of values, recorded or worked out from the operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.forms.build import model, rand
from tests.test_graph import indexed

RANKED = {
    "Relu(x)": 4,
    "Transpose(x)": 4,
    "Conv(x, w)": 4,
    "Flatten(x)": 2,
    "Reshape(x, shape)": 3,
    "Reshape(x, moving)": None,
    "Unsqueeze(x, axes)": 6,
    "Squeeze(x, axes)": 2,
    "Unsqueeze(x, moving)": None,
    "Add(x, big)": 5,
    "Mul(big, x)": 5,
    "Add(w1, x)": 4,
    "Concat<axis=1>(x, x)": 4,
    "GlobalAveragePool(x)": 4,
    "NonZero(x)": None,
    "Softplus(x)": 4,
    "GlobalLpPool(x)": 4,
    "LpPool<kernel_shape=[2,2]>(x)": 4,
    "SpaceToDepth<blocksize=2>(x)": 4,
    "Sum(x, big)": 5,
    "Equal(x, big)": 5,
    "ReduceL2<axes=[2,3], keepdims=0>(x)": 2,
    "LayerNormalization(x, w1)": 4,
    "ReduceMax<axes=[2,3]>(x)": 4,
    "ReduceMean<axes=[2,3], keepdims=0>(x)": 2,
    "ReduceSum<keepdims=0>(x, axes)": 2,
    "ReduceSum<keepdims=0>(x, moving)": None,
    "ReduceMean<keepdims=0>(x)": None,
}


@pytest.mark.parametrize("expression", RANKED)
def test_the_rank_of_a_value(expression: str) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,4,4] x, int64[n] moving) => (float y) '
        f"{{ v = {expression} y = ReduceSum<keepdims=0>(v) }}"
    )
    for name, value in {
        "w": rand(4, 3, 1, 1),
        "w1": rand(4),
        "big": rand(2, 1, 1, 1, 1),
        "shape": np.array([1, 3, -1]),
        "axes": np.array([0, 2]),
    }.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    assert indexed(proto).main.ranks.of("v") == RANKED[expression]


def test_recorded_ranks_count_and_sizes_come_from_the_maker() -> None:
    proto = model("c = Conv(x, w) r = Relu(c) y = NonZero(r)", y="int64[4,n] y", w=rand(7, 3, 1, 1))()
    main = indexed(proto).main
    assert main.ranks.of("y") == 2
    assert main.ranks.of("x") == 4
    del proto.graph.value_info[:]
    bare = indexed(proto).main
    assert bare.ranks.of("r") == 4
    assert bare.ranks.size("r", 1) == 7
    assert bare.ranks.size("x", 2) == 6
    assert bare.ranks.size("r", 2) is None


def test_what_an_operator_says_is_of_its_first_output() -> None:
    body = "q, s, z = DynamicQuantizeLinear(x) p, i = MaxPool<kernel_shape=[2,2]>(x) y = ReduceSum<keepdims=0>(s)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[1,3,4,4] x) => (float y) {{ {body} }}'
    )
    ranks = indexed(proto).main.ranks
    assert [ranks.of(name) for name in ("q", "s", "z", "p", "i")] == [4, None, None, 4, None]
    assert ranks.size("q", 1) == 3
    assert ranks.size("s", 1) is None


def test_a_size_goes_through_what_keeps_a_shape_and_past_a_smaller_constant() -> None:
    proto = model(
        "c = Conv(x, w) m = Mish(c) n = Max(m, low) y = Neg(n)", w=rand(7, 3, 1, 1), low=np.zeros(1, np.float32)
    )()
    del proto.graph.value_info[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert indexed(proto).main.ranks.size("y", 1) == 7


def test_a_rank_goes_through_a_long_chain() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(5000)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("v0", 1, [1, 2, 3])], [])
    index = indexed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert index.main.ranks.of("v4999") == 3


def test_a_reshape_to_sizes_that_the_graph_computes_has_as_many_axes_as_there_are_sizes() -> None:
    body = "s = Shape(x) b = Slice(s, nought, one) c = Concat<axis = 0>(b, minus) y = Reshape(x, c) z = Reshape(x, s)"
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 4] x) => (float y, float z)
    <int64[1] nought = {{0}}, int64[1] one = {{1}}, int64[1] minus = {{-1}}> {{ {body} }}"""
    made = onnx.parser.parse_model(text)
    for value in made.graph.output:
        value.type.tensor_type.ClearField("shape")
    ranks = indexed(made).main.ranks
    assert ranks.of("y") == 2
    assert ranks.of("z") is None


@pytest.mark.parametrize(
    ("expression", "width"),
    [("MatMul(x, wide)", 7), ("Gemm(x, wide)", 7), ("Gemm<transB=1>(x, tall)", 5), ("MatMul(x, moving)", None)],
)
def test_a_matrix_says_how_wide_its_result_is(expression: str, width: int | None) -> None:
    text = f"g (float[n,k] x, float[k,m] moving) => (float y) {{ v = {expression} y = ReduceSum<keepdims=0>(v) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    for name, value in {"wide": rand(4, 7), "tall": rand(5, 4)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    ranks = indexed(proto).main.ranks
    assert ranks.size("v", 1) == width
    assert ranks.size("v", 0) is None
