"""Operators that can run with the axes of their data in another order, and what has to be rewritten for that.

A value v is held in another order as v' where v = Transpose(v', perm=order): axis i of v is axis order[i] of v'. An
operator that works on each element alone takes v' as it takes v, once its constants are transposed with it; one that
names axes takes order[axis] in place of axis.

Operators as ONNX defines them, in the versions of opset 7 and later; whatever is not sure to be one of the forms below
is left out: constants that cannot be read, ranks that only the file's records tell, attributes that refer to a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.ranks import Ranks
from onnx_clp.operators.nodes import attribute, has_reference, input_name, is_op, set_attribute, text_attribute

Array = NDArray[Any]
Order = tuple[int, ...]
Rewrite = Callable[[GraphEdit, GraphIndex], None]

_MOST_ELEMENTS: Final = 1 << 20  # a larger constant that something else reads too would be stored twice
_UNARY: Final = (
    *("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Clip", "Shrink", "Sigmoid", "HardSigmoid"),
    *("HardSwish", "Tanh", "Softsign", "Softplus", "Gelu", "Mish", "Swish", "Erf", "Abs", "Neg", "Sign", "Exp", "Log"),
    *("Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh"),
    *("Asinh", "Acosh", "Atanh", "Not", "IsNaN", "IsInf", "Identity", "Cast", "CastLike"),
)
_BROADCASTING: Final = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "PRelu", "Where", "Equal", "Less"),
    *("Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor"),
)
_ALONG_ONE_AXIS: Final = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "Split": 0, "LpNormalization": -1}
_REDUCING: Final = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum"),
    *("ReduceLogSumExp", "ReduceSumSquare"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a node runs with its data in another order.

    Attributes:
        node: the node.
        data: its input slots that take the data, all of one rank.
        results: its outputs that are then in that order too; none where the order is gone with the axes reduced.
        rewrite: changes its attributes and constants.
    """

    node: NodeProto
    data: tuple[int, ...]
    results: tuple[str, ...]
    rewrite: Rewrite


def plan(scope: GraphIndex, ranks: Ranks, node: NodeProto, order: Order) -> Plan | None:
    """How a node runs with its data in that order; None where it cannot."""
    rule = next((rule for names, rule in _RULES if is_op(node, *names)), None)
    if rule is None or scope.opset < 7 or has_reference(node) or not all(node.output) or not node.input:
        return None
    found = rule(scope, node, order)
    if found is None or not found.data or any(ranks.of(node.input[slot]) != len(order) for slot in found.data):
        return None
    return None if any(scope.is_constant(node.input[slot]) for slot in found.data) else found


def _unary(_scope: GraphIndex, node: NodeProto, _order: Order) -> Plan | None:
    return Plan(node, (0,), (node.output[0],), _nothing) if len(node.output) == 1 else None


def _nothing(_edit: GraphEdit, _scope: GraphIndex) -> None:
    """Nothing has to be rewritten."""


def _broadcasting(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    constants = _constants(scope, node, order, padded=True)
    if constants is None:
        return None
    data = tuple(slot for slot, name in enumerate(node.input) if not scope.is_constant(name))

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        _put(edit, scope, node, constants)

    return Plan(node, data, tuple(node.output), rewrite)


def _constants(scope: GraphIndex, node: NodeProto, order: Order, *, padded: bool) -> dict[int, Array] | None:
    """The constants of a node in that order, by slot, those of one element left out; None where one is not fit."""
    found: dict[int, Array] = {}
    for slot, name in enumerate(node.input):
        if not name:
            return None
        if not scope.is_constant(name):
            continue
        value = scope.constant(name)
        if value is None or value.ndim > len(order) or (value.ndim < len(order) and not padded):
            return None
        if value.size == 1 and padded:
            continue
        if value.size > _MOST_ELEMENTS:
            return None
        shape = (1,) * (len(order) - value.ndim) + value.shape
        found[slot] = value.reshape(shape).transpose(inverse(order))
    return found


def _put(edit: GraphEdit, scope: GraphIndex, node: NodeProto, constants: dict[int, Array]) -> None:
    for slot, value in constants.items():
        put_constant(edit, scope, node, slot, value)


def put_constant(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, value: Array) -> None:
    """Give a node a constant of the values' own type at an input slot."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    base = input_name(node, slot) or f"{node.output[0]}_{slot}"
    held = np.ascontiguousarray(value)
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, held, kind), resize=True)


def _along_one_axis(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    if node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and scope.opset < 13:
        return None  # it flattens what follows the axis
    results = tuple(node.output)
    return Plan(node, (0,), results, _axis_moved(node, order, _ALONG_ONE_AXIS[node.op_type]))


def _axis_moved(node: NodeProto, order: Order, default: int) -> Rewrite:
    def rewrite(_edit: GraphEdit, _scope: GraphIndex) -> None:
        set_attribute(node, "axis", order[attribute(node, "axis", default)])

    return rewrite


def _concat(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    constants = _constants(scope, node, order, padded=False)
    if constants is None or attribute(node, "axis") is None:
        return None
    data = tuple(slot for slot, name in enumerate(node.input) if not scope.is_constant(name))

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        set_attribute(node, "axis", order[attribute(node, "axis")])
        _put(edit, scope, node, constants)

    return Plan(node, data, tuple(node.output), rewrite)


def _quantiser(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    scale = scope.constant(input_name(node, 1))
    if scale is None or attribute(node, "block_size", 0):
        return None
    if scale.size == 1:
        return Plan(node, (0,), (node.output[0],), _nothing)
    return Plan(node, (0,), (node.output[0],), _axis_moved(node, order, 1)) if scope.opset >= 13 else None


def _reducing(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    axes = _axes(scope, node, slot=1)
    if axes is None:
        return None
    listed = list(range(len(order))) if not len(axes) else axes
    if not len(axes) and attribute(node, "noop_with_empty_axes", 0):
        return None
    keeps = bool(attribute(node, "keepdims", 1))
    if not (keeps or _order_stays(order, listed)):
        return None
    rewrite = _axes_moved(node, order, axes, 1) if len(axes) else _nothing
    return Plan(node, (0,), (node.output[0],) if keeps else (), rewrite)


def _squeeze(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    axes = _axes(scope, node, slot=1)
    if axes is None or not len(axes) or not _order_stays(order, axes):
        return None
    return Plan(node, (0,), (), _axes_moved(node, order, axes, 1))


def _arg(_scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    keeps = bool(attribute(node, "keepdims", 1))
    if not (keeps or _order_stays(order, [attribute(node, "axis", 0)])):
        return None
    return Plan(node, (0,), (node.output[0],) if keeps else (), _axis_moved(node, order, 0))


def _axes(scope: GraphIndex, node: NodeProto, slot: int) -> Sequence[int] | None:
    """The axes a node names, as attribute or as constant input; none where it names none, None where unknown."""
    listed = attribute(node, "axes")
    if listed is not None:
        return [int(axis) for axis in listed]
    name = input_name(node, slot)
    value = scope.constant(name) if name else np.zeros(0, np.int64)
    return None if value is None else [int(axis) for axis in value.reshape(-1)]


def _axes_moved(node: NodeProto, order: Order, axes: Sequence[int], slot: int) -> Rewrite:
    moved = [order[axis] for axis in axes]

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        if attribute(node, "axes") is not None:
            set_attribute(node, "axes", moved)
        else:
            put_constant(edit, scope, node, slot, np.asarray(moved, np.int64))

    return rewrite


def _order_stays(order: Order, gone: Sequence[int]) -> bool:
    """Whether the axes that are left stand in the same order either way."""
    out = {axis % len(order) for axis in gone}
    left = [order[axis] for axis in range(len(order)) if axis not in out]
    return left == sorted(left)


def _pad(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    if text_attribute(node, "mode", "constant") not in ("constant", "reflect", "edge") or input_name(node, 3):
        return None
    listed = attribute(node, "pads")
    pads = scope.constant(input_name(node, 1)) if listed is None else np.asarray(listed, np.int64)
    if pads is None or pads.size != 2 * len(order):
        return None
    moved = pads.reshape(2, -1)[:, inverse(order)].reshape(-1)

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        if listed is not None:
            set_attribute(node, "pads", [int(n) for n in moved])
        else:
            put_constant(edit, scope, node, 1, moved)

    return Plan(node, (0,), (node.output[0],), rewrite)


def _slice(scope: GraphIndex, node: NodeProto, order: Order) -> Plan | None:
    axes = _axes(scope, node, slot=3)
    if axes is None:
        return None
    if not len(axes):
        starts = attribute(node, "starts") if scope.opset < 10 else scope.constant(input_name(node, 1))
        axes = list(range(0 if starts is None else np.asarray(starts).size))
    if not len(axes):
        return None
    moved = [order[axis] for axis in axes]

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        if scope.opset < 10:
            set_attribute(node, "axes", moved)
        else:
            kind = np.int32 if scope.element_type(input_name(node, 1)) == 6 else np.int64
            put_constant(edit, scope, node, 3, np.asarray(moved, kind))

    return Plan(node, (0,), (node.output[0],), rewrite)


def inverse(order: Order) -> Order:
    """The order that undoes another."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


_RULES: Final[tuple[tuple[Sequence[str], Callable[[GraphIndex, NodeProto, Order], Plan | None]], ...]] = (
    (_UNARY, _unary),
    (_BROADCASTING, _broadcasting),
    (tuple(_ALONG_ONE_AXIS), _along_one_axis),
    (("Concat",), _concat),
    (("QuantizeLinear", "DequantizeLinear"), _quantiser),
    (_REDUCING, _reducing),
    (("Squeeze",), _squeeze),
    (("ArgMax", "ArgMin"), _arg),
    (("Pad",), _pad),
    (("Slice",), _slice),
)
