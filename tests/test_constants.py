"""Every rule for constant nodes against onnx.reference, and what the rules refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_clp.operators import arrays
from onnx_clp.operators.compute import EVALUATORS, can_evaluate, constant_attribute, evaluate

Array = NDArray[Any]


def floats(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(floats(*shape)) + np.float32(0.1)


def ints(*given: int) -> Array:
    return np.array(given, np.int64)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


@dataclass(frozen=True)
class Row:
    op: str
    inputs: tuple[Array | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 21

    def __str__(self) -> str:
        shapes = ",".join("-" if i is None else f"{i.dtype}{i.shape}" for i in self.inputs)
        return f"{self.op}({shapes}){self.attributes or ''}"


def row(op: str, *inputs: Array | None, opset: int = 21, **attributes: Any) -> Row:
    return Row(op, inputs, attributes, opset)


TENSOR = numpy_helper.from_array(np.array([2.5], np.float32))
ROWS = [
    *(row(op, floats(2, 3, 4), positive(3, 1)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(row(op, floats(4), positive(2, 1, 4)) for op in ("Add", "Sub", "Mul", "Div")),
    row("Max", floats(3), floats(2, 3), floats(2, 1)),
    row("Min", floats(3)),
    row("Div", ints(-7, 7, 8, -8), ints(2, -2, 3, 3)),
    row("Div", floats(3).astype(np.float16), positive(3).astype(np.float16)),
    row("Pow", positive(3, 4), scalar(-0.5)),
    row("Pow", positive(3, 4), scalar(2, np.int64)),
    row("Where", floats(3) > 0, floats(3), floats(2, 3)),
    *(row(op, floats(3), floats(2, 3)) for op in ("Equal", "Greater", "Less")),
    row("Equal", ints(1, 2, 3), ints(1, 5, 3)),
    row("Not", floats(3) > 0),
    *(row(op, floats(3) > 0, floats(2, 3) > 0) for op in ("And", "Or")),
    *(row(op, floats(2, 3)) for op in ("Neg", "Abs", "Exp", "Floor", "Ceil", "Round", "Sign", "Identity", "Dropout")),
    *(row(op, positive(2, 3)) for op in ("Sqrt", "Log", "Reciprocal")),
    *(row(op, positive(2, 3).astype(np.float16)) for op in ("Sqrt", "Reciprocal", "Exp")),
    row("Neg", ints(1, -2)),
    row("Reshape", floats(2, 6), ints(3, -1)),
    row("Reshape", floats(2, 6), ints(0, 2, -1)),
    row("Reshape", np.zeros((0, 3), np.float32), ints(3, 0), allowzero=1),
    row("Reshape", floats(2, 6), ints(4, 3)),
    row("Transpose", floats(2, 3, 4)),
    row("Transpose", floats(2, 3, 4), perm=[1, 2, 0]),
    row("Unsqueeze", floats(3), ints(1, 2)),
    row("Unsqueeze", floats(3, 2), ints(-1, 0)),
    row("Unsqueeze", floats(3), axes=[0, 2], opset=11),
    row("Squeeze", floats(1, 3, 1), ints(0)),
    row("Squeeze", floats(1, 3, 1), ints(-1, 0)),
    row("Squeeze", floats(1, 3, 1)),
    row("Squeeze", floats(1, 3, 1), axes=[2], opset=11),
    *(row("Flatten", floats(2, 3, 4), axis=axis) for axis in (0, 1, 2, 3, -1)),
    row("Flatten", floats(2, 3, 4)),
    row("Cast", floats(3), to=TensorProto.FLOAT16),
    row("Cast", floats(3) * 10, to=TensorProto.INT32),
    row("Cast", ints(0, 1, 2), to=TensorProto.BOOL),
    row("Cast", floats(5), to=TensorProto.DOUBLE),
    row("CastLike", floats(3), scalar(0, np.float64)),
    row("CastLike", floats(3) * 10, ints(0)),
    row("Shape", floats(2, 3, 4)),
    row("Shape", floats(2, 3, 4), start=1),
    row("Shape", floats(2, 3, 4), start=-2, end=-1),
    row("Shape", scalar(1)),
    row("Size", floats(2, 3, 4)),
    row("Expand", floats(3, 1), ints(2, 1, 4)),
    row("Expand", floats(2, 3), ints(1)),
    row("ConstantOfShape", ints(2, 3)),
    row("ConstantOfShape", ints(2, 3), value=TENSOR),
    row("ConstantOfShape", np.zeros(0, np.int64), value=TENSOR),
    row("Concat", floats(2, 3), floats(2, 1), axis=1),
    row("Concat", floats(2, 3), floats(2, 3), floats(2, 3), axis=-2),
    row("Gather", floats(4, 3), ints(2, 0)),
    row("Gather", floats(4, 3), np.array([[-1, 1]], np.int64), axis=1),
    row("Gather", ints(5, 6, 7), scalar(1, np.int64)),
    row("Slice", floats(5, 4), ints(1), ints(4)),
    row("Slice", floats(5, 4), ints(0, -3), ints(5, 100), ints(0, 1)),
    row("Slice", floats(5, 4), ints(-1), ints(-100), ints(0), ints(-2)),
    row("Slice", floats(5, 4), ints(4), ints(0), ints(-2), ints(-1)),
    row("Slice", floats(5, 4), ints(-9), ints(3), ints(0), ints(1)),
    row("Slice", floats(5, 4), starts=[1], ends=[3], axes=[1], opset=9),
    row("Slice", floats(5, 4), starts=[1, 0], ends=[3, 2], opset=9),
    row("Clip", floats(5), scalar(-0.5), scalar(0.5)),
    row("Clip", floats(5), None, scalar(0.5)),
    row("Clip", floats(5), scalar(0.1)),
    row("Clip", floats(5), min=-0.2, max=0.3, opset=6),
    row("MatMul", floats(2, 3), floats(3, 4)),
    row("MatMul", floats(2, 2, 3), floats(3)),
    *(
        row(op, floats(2, 3, 4), ints(0, -1), keepdims=keep)
        for keep in (0, 1)
        for op in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin")
    ),
    *(row(op, floats(2, 3), ints(1)) for op in ("ReduceSumSquare", "ReduceL1", "ReduceL2")),
    row("ReduceMean", floats(2, 3), axes=[1], opset=13),
    row("ReduceSum", floats(2, 3)),
    row("DequantizeLinear", np.array([[0, 255], [7, 9]], np.uint8), scalar(0.5), scalar(128, np.uint8)),
    row("DequantizeLinear", np.array([[-128, 127], [7, 9]], np.int8), positive(2), axis=0),
    row("DequantizeLinear", np.array([[-128, 127, 3]], np.int8), positive(3), np.array([1, 2, 3], np.int8)),
    row("DequantizeLinear", np.array([[1, 2, 3]], np.int32), scalar(0.25)),
    row("DequantizeLinear", np.arange(8, dtype=np.int8).reshape(4, 2), positive(2, 2), axis=0, block_size=2),
    row("DequantizeLinear", np.array([1, 2], np.uint8), scalar(0.5, np.float16)),
    row("QuantizeLinear", floats(3, 4), scalar(0.1), scalar(3, np.uint8)),
    row("QuantizeLinear", floats(3, 4), positive(4), np.array([-3, 0, 3, 9], np.int8)),
    row("QuantizeLinear", 100 * floats(3, 4), positive(3), axis=0),
]


def node_of(row: Row) -> Any:
    names = ["" if value is None else f"i{slot}" for slot, value in enumerate(row.inputs)]
    return helper.make_node(row.op, names, ["y"], **row.attributes)


def reference(row: Row) -> Array:
    """The node's output by onnx.reference, in a model of the row's opset."""
    node = node_of(row)
    feeds = {f"i{slot}": value for slot, value in enumerate(row.inputs) if value is not None}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    output = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", row.opset)])
    found: Any = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(found[0])


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_rule_gives_what_onnx_says(row: Row) -> None:
    expected = reference(row)
    found = evaluate(node_of(row), row.inputs)
    assert found is not None
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=2e-6)


def test_every_rule_is_in_the_table() -> None:
    assert {row.op for row in ROWS} == set(EVALUATORS)
    assert all(can_evaluate(helper.make_node(op, ["x"], ["y"])) for op in EVALUATORS)


ELEMENTWISE: dict[str, Callable[..., Any]] = {"Add": np.add, "Mul": np.multiply, "Max": np.maximum}


@settings(max_examples=60, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_side=4), st.sampled_from(sorted(ELEMENTWISE)))
def test_operands_broadcast_in_every_way(shapes: Any, op: str) -> None:
    a, b = (np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate(shapes.input_shapes))
    found = evaluate(helper.make_node(op, ["a", "b"], ["y"]), [a, b])
    assert found is not None
    np.testing.assert_array_equal(found, ELEMENTWISE[op](a, b))


# --- what is refused ----------------------------------------------------------------------------------

HUGE = np.broadcast_to(np.float32(1), (1 << 14, 1 << 14))


@pytest.mark.parametrize(
    "row",
    [
        row("ConstantOfShape", ints(1 << 40)),
        row("ConstantOfShape", ints(1 << 20, 1 << 20, 1 << 20, 1 << 20)),
        row("Expand", scalar(1), ints(1 << 30)),
        row("Add", np.broadcast_to(np.float32(1), (1 << 15, 1)), np.broadcast_to(np.float32(1), (1, 1 << 15))),
        row("Where", np.array([True]), HUGE, HUGE),
        row("Cast", HUGE, to=TensorProto.DOUBLE),
        row("Concat", HUGE, HUGE, axis=0),
        row("Gather", floats(1, 1 << 10), np.zeros(1 << 20, np.int64)),
        row("DequantizeLinear", np.broadcast_to(np.int8(1), (1 << 14, 1 << 14)), scalar(1)),
    ],
    ids=str,
)
def test_a_result_too_large_is_not_made(row: Row) -> None:
    assert HUGE.nbytes > arrays.MAX_BYTES
    assert evaluate(node_of(row), row.inputs) is None


@pytest.mark.parametrize(
    "row",
    [
        row("Add", floats(3)[:0], None),
        row("Add", floats(3), floats(4)),
        row("Add", floats(3), floats(3), axis=1, broadcast=1),
        row("Reshape", floats(6), ints(4, -1)),
        row("Reshape", floats(6)),
        row("Reshape", floats(6), ints(1, 1, 0, 6)),
        row("Unsqueeze", floats(6)),
        row("Unsqueeze", floats(6), ints(0, 0)),
        row("Squeeze", floats(6), ints(0)),
        row("Transpose", floats(2, 3), perm=[0, 0]),
        row("Cast", floats(3)),
        row("Cast", floats(3), to=99),
        row("CastLike", floats(3), None),
        row("Concat", floats(2, 3), floats(3, 3), axis=1),
        row("Gather", floats(3), ints(3)),
        row("Gather", floats(3), ints(0), axis=4),
        row("Slice", floats(3), ints(0)),
        row("Slice", floats(3), ints(0), ints(1), ints(5)),
        row("Slice", floats(5, 4), ints(-9), ints(-100), ints(0), ints(-1)),  # read in two ways
        row("ConstantOfShape", ints(-1)),
        row("Expand", floats(3), ints(2)),
        row("Dropout", floats(3), scalar(0.5), np.array(True)),
        row("DequantizeLinear", np.array([1], np.uint8)),
        row("DequantizeLinear", np.array([[1, 2, 3]], np.uint8), positive(2)),
        row("Pow", positive(3), None),
        row("Max"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_gives_none(row: Row) -> None:
    assert evaluate(node_of(row), row.inputs) is None


def test_a_division_by_zero_is_silent_and_not_finite() -> None:
    found = evaluate(helper.make_node("Reciprocal", ["x"], ["y"]), [np.zeros(2, np.float32)])
    assert found is not None
    assert np.isinf(found).all()
    none = evaluate(helper.make_node("Div", ["x", "y"], ["z"]), [ints(1), ints(0)])
    assert none is None or none.dtype == np.int64


def test_a_fill_value_outside_the_file_is_not_read() -> None:
    tensor = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    node = helper.make_node("ConstantOfShape", ["s"], ["y"], value=tensor)
    assert evaluate(node, [ints(2)]) is None


def test_operators_without_a_rule_and_of_other_domains_are_not_evaluated() -> None:
    assert not can_evaluate(helper.make_node("Conv", ["x"], ["y"]))
    assert not can_evaluate(helper.make_node("RandomNormalLike", ["x"], ["y"]))
    assert not can_evaluate(helper.make_node("Add", ["x"], ["y"], domain="com.acme"))
    assert can_evaluate(helper.make_node("Add", ["x"], ["y"], domain="ai.onnx"))


# --- Constant nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "dtype", "expected"),
    [
        ({"value_float": 1.5}, np.float32, 1.5),
        ({"value_floats": [1.5, 2.5]}, np.float32, [1.5, 2.5]),
        ({"value_int": 3}, np.int64, 3),
        ({"value_ints": [3, 4]}, np.int64, [3, 4]),
        ({"value_ints": []}, np.int64, []),
    ],
)
def test_the_attributes_of_constant(attributes: dict[str, Any], dtype: Any, expected: Any) -> None:
    if attributes == {"value_ints": []}:
        node = helper.make_node("Constant", [], ["y"])
        node.attribute.add(name="value_ints", type=7)
    else:
        node = helper.make_node("Constant", [], ["y"], **attributes)
    found = constant_attribute(node)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    assert found.shape == np.shape(expected)


def test_a_tensor_attribute_is_given_as_it_stands() -> None:
    assert constant_attribute(helper.make_node("Constant", [], ["y"], value=TENSOR)) == TENSOR
    text = constant_attribute(helper.make_node("Constant", [], ["y"], value_string="a"))
    assert text.item() == "a"


def test_a_constant_of_no_or_several_values_is_none() -> None:
    assert constant_attribute(helper.make_node("Constant", [], ["y"])) is None
    assert constant_attribute(helper.make_node("Constant", [], ["y"], value_int=1, value_float=2.0)) is None
    assert constant_attribute(helper.make_node("Constant", [], ["y"], other=1)) is None
