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
from onnx import NodeProto, TensorProto, helper

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.ranks import Ranks
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import STANDARD_DOMAINS, has_reference, input_name, set_attribute
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

Array = NDArray[Any]
Order = tuple[int, ...]
Rewrite = Callable[[GraphEdit, GraphIndex], None]

_MOST_ELEMENTS: Final = 1 << 20  # a larger constant that something else reads too would be stored twice


@dataclass(frozen=True, slots=True)
class Permuted:
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


def plan(scope: GraphIndex, ranks: Ranks, node: NodeProto, order: Order) -> Permuted | None:
    """How a node runs with its data in that order; None where it cannot."""
    rule = _rule(node)
    if rule is None or scope.opset < 7 or has_reference(node) or not all(node.output) or not node.input:
        return None
    found = rule(scope, node, order)
    if found is None or not found.data or any(ranks.of(node.input[slot]) != len(order) for slot in found.data):
        return None
    return None if any(scope.is_constant(node.input[slot]) for slot in found.data) else found


def _rule(node: NodeProto) -> Rule | None:
    """By the operator's name, else by what the table of operators says it is."""
    if node.domain not in STANDARD_DOMAINS:
        return None
    named = _BY_NAME.get(node.op_type)
    return named or next((rule for kinds, rule in _BY_KIND if is_a(node, *kinds)), None)


def _unary(_scope: GraphIndex, node: NodeProto, _order: Order) -> Permuted | None:
    return Permuted(node, (0,), (node.output[0],), _nothing) if len(node.output) == 1 else None


def _nothing(_edit: GraphEdit, _scope: GraphIndex) -> None:
    """Nothing has to be rewritten."""


def _broadcasting(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    constants = _constants(scope, node, order, padded=True)
    if constants is None:
        return None
    data = tuple(slot for slot, name in enumerate(node.input) if not scope.is_constant(name))

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        """Put the constants in that order."""
        _put(edit, scope, node, constants)

    return Permuted(node, data, tuple(node.output), rewrite)


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


def _along_one_axis(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    if is_a(node, Kind.SHARE) and scope.opset < 13:
        return None  # it flattens what follows the axis
    return Permuted(node, (0,), tuple(node.output), _axis_moved(node, order))


def _axis_moved(node: NodeProto, order: Order) -> Rewrite:
    def rewrite(_edit: GraphEdit, _scope: GraphIndex) -> None:
        """Name the axis by its new place."""
        set_attribute(node, "axis", order[read.axis(node)])

    return rewrite


def _concat(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    constants = _constants(scope, node, order, padded=False)
    if constants is None:
        return None
    data = tuple(slot for slot, name in enumerate(node.input) if not scope.is_constant(name))

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        """Name the axis by its new place, and put the constants in that order."""
        set_attribute(node, "axis", order[read.axis(node)])
        _put(edit, scope, node, constants)

    return Permuted(node, data, tuple(node.output), rewrite)


def _quantiser(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    scale = scope.constant(input_name(node, 1))
    if scale is None or read.quantized_block(node):
        return None
    if scale.size == 1:
        return Permuted(node, (0,), (node.output[0],), _nothing)
    return Permuted(node, (0,), (node.output[0],), _axis_moved(node, order)) if scope.opset >= 13 else None


def _reducing(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    axes = _axes(scope, node)
    if axes is None or (not axes and read.idle_without_axes(node)):
        return None
    keeps = read.keeps_dims(node)
    if not (keeps or _order_stays(order, axes or range(len(order)))):
        return None
    rewrite = _axes_moved(node, order, axes) if axes else _nothing
    return Permuted(node, (0,), (node.output[0],) if keeps else (), rewrite)


def _squeeze(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    axes = _axes(scope, node)
    return Permuted(node, (0,), (), _axes_moved(node, order, axes)) if axes and _order_stays(order, axes) else None


def _arg(_scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    keeps = read.keeps_dims(node)
    if not (keeps or _order_stays(order, [read.axis(node)])):
        return None
    return Permuted(node, (0,), (node.output[0],) if keeps else (), _axis_moved(node, order))


def _axes(scope: GraphIndex, node: NodeProto) -> tuple[int, ...] | None:
    """The axes a node names; none where it names none, None where they are unknown."""
    return () if read.AXES.left_out(node) else read.AXES.of(node, scope.constant)


def _axes_moved(node: NodeProto, order: Order, axes: Sequence[int]) -> Rewrite:
    moved = [order[axis] for axis in axes]

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        """Name the axes by their new places, where the node has them."""
        if read.AXES.listed(node) is not None:
            read.AXES.set(node, moved)
        else:
            put_constant(edit, scope, node, 1, np.asarray(moved, np.int64))

    return rewrite


def _order_stays(order: Order, gone: Sequence[int]) -> bool:
    """Whether the axes that are left stand in the same order either way."""
    out = {axis % len(order) for axis in gone}
    left = [order[axis] for axis in range(len(order)) if axis not in out]
    return left == sorted(left)


def _pad(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    if windows.pad_mode(node) not in ("constant", "reflect", "edge") or input_name(node, 3):
        return None
    pads = read.PADS.of(node, scope.constant)
    if pads is None or len(pads) != 2 * len(order):
        return None
    moved = np.asarray(pads, np.int64).reshape(2, -1)[:, inverse(order)].reshape(-1)

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        """Put the pads in that order, where the node has them."""
        if read.PADS.listed(node) is not None:
            read.PADS.set(node, moved.tolist())
        else:
            put_constant(edit, scope, node, 1, moved)

    return Permuted(node, (0,), (node.output[0],), rewrite)


def _slice(scope: GraphIndex, node: NodeProto, order: Order) -> Permuted | None:
    axes, starts = _axes(scope, node), read.STARTS.of(node, scope.constant)
    if axes is None or starts is None:
        return None
    moved = [order[axis] for axis in axes or range(len(starts))]

    def rewrite(edit: GraphEdit, scope: GraphIndex) -> None:
        """Name all axes by their new places, in the type of the starts."""
        if scope.opset < 10:
            read.AXES.set(node, moved)
        else:
            kind = np.int32 if scope.element_type(input_name(node, 1)) == TensorProto.INT32 else np.int64
            put_constant(edit, scope, node, 3, np.asarray(moved, kind))

    return Permuted(node, (0,), (node.output[0],), rewrite)


def inverse(order: Order) -> Order:
    """The order that undoes another."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


Rule = Callable[[GraphIndex, NodeProto, Order], Permuted | None]

_BY_NAME: Final[dict[str, Rule]] = {
    "Identity": _unary,
    "PRelu": _broadcasting,
    "Concat": _concat,
    "Split": _along_one_axis,
    "LpNormalization": _along_one_axis,
    "QuantizeLinear": _quantiser,
    "DequantizeLinear": _quantiser,
    "Squeeze": _squeeze,
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Pad": _pad,
    "Slice": _slice,
}
_BY_KIND: Final[tuple[tuple[tuple[Kind, ...], Rule], ...]] = (
    ((Kind.POINTWISE, Kind.RETYPE), _unary),
    ((Kind.JOINT, Kind.COMPARE), _broadcasting),
    ((Kind.SHARE,), _along_one_axis),
    ((Kind.REDUCE,), _reducing),
)
