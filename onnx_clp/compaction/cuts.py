"""Cutting entries out of constants: stored, computed, or behind DequantizeLinear, each in the type it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from onnx_clp.compaction.atoms import Ids, Mask
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.find import dequantized_further_up
from onnx_clp.layers.weights import overridable_sentence
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, input_name, is_op

Array = NDArray[Any]


class UnfitError(Exception):
    """A node or a constant cannot lose channels; the text says why."""


class Pick(Protocol):
    """What stays of a constant."""

    def take(self, values: Array) -> Array:
        """What stays of the values."""

    def along(self, axis: int) -> Ids | None:
        """The indices that stay along one axis, None where all do."""


@dataclass(frozen=True, slots=True)
class AxisPick:
    """Indices that stay, by axis."""

    kept: dict[int, Ids]

    def take(self, values: Array) -> Array:
        """What stays of the values."""
        for axis, places in self.kept.items():
            values = np.take(values, places, axis=axis)
        return values

    def along(self, axis: int) -> Ids | None:
        """The indices that stay along one axis, None where all do."""
        return self.kept.get(axis)


@dataclass(frozen=True, slots=True, eq=False)
class GroupPick:
    """What stays of a grouped convolution's weight: masks of shape (groups, channels of a group).

    `first` is counted over the weight's axis 0, which runs through the groups; `second` over axis 1, which counts
    within each. Groups with nothing left of `first` are gone.
    """

    first: Mask
    second: Mask

    def take(self, values: Array) -> Array:
        """What stays of the values."""
        groups, rows = self.first.shape
        parts = values.reshape(groups, rows, *values.shape[1:])
        staying = np.flatnonzero(self.first.any(axis=1)).tolist()
        return np.concatenate([parts[g][self.first[g]][:, self.second[g]] for g in staying])

    def along(self, axis: int) -> Ids | None:
        """The indices that stay along axis 0; axis 1 has none that hold for every group."""
        return np.flatnonzero(self.first.reshape(-1)) if axis == 0 else None


def check(scope: GraphIndex, node: NodeProto, slot: int, axis: int, what: str = "weight") -> None:
    """Raise UnfitError where the constant at an input slot cannot be cut along `axis`."""
    name = input_name(node, slot)
    home = scope.home(name)
    if scope.is_overridable(name):
        raise UnfitError(overridable_sentence(what))
    if home is None or not scope.is_constant(name):
        raise UnfitError(f"its {what} is not a constant")
    if name in home.inputs:
        raise UnfitError(f"its {what} is also a graph input, whose shape must not change")
    maker = home.producer(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        if home is not scope or has_reference(maker):
            raise UnfitError(f"its {what} is dequantised outside the graph it is in")
        _check_dequantizer(scope, maker, axis, what)
    elif dequantized_further_up(home, maker):
        raise UnfitError(f"its {what} is computed from a dequantised one")
    elif scope.stored(name) is None and scope.constant(name) is None:
        raise UnfitError(f"its {what} cannot be evaluated")


def _check_dequantizer(scope: GraphIndex, maker: NodeProto, axis: int, what: str) -> None:
    for slot, part in enumerate(("values", "scale", "zero point")):
        if input_name(maker, slot):
            check(scope, maker, slot, axis, f"{what}'s {part}")
    scale = scope.constant(maker.input[1])
    values = shape_of(scope, maker.input[0])
    if scale is not None and scale.ndim > 1 and axis == read.axis_of_quantization(maker, len(values)):
        raise UnfitError(f"its {what} has one scale for a block of channels")


def shape_of(scope: GraphIndex, name: str) -> tuple[int, ...]:
    """The dimensions of a constant; () where it is none."""
    stored = scope.stored(name)
    if stored is not None:
        return tuple(int(d) for d in stored.dims)
    home = scope.home(name)
    maker = None if home is None else home.producer(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        return shape_of(home or scope, maker.input[0])
    value = scope.constant(name)
    return () if value is None else value.shape


def cut(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, pick: Pick) -> None:
    """Leave of the constant at an input slot what `pick` takes; `check` must have agreed."""
    name = node.input[slot]
    maker = scope.producer(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        _cut_dequantizer(edit, scope, _own_dequantizer(edit, scope, node, slot, maker), pick)
    else:
        _cut_plain(edit, scope, node, slot, pick)


def _cut_dequantizer(edit: GraphEdit, scope: GraphIndex, maker: NodeProto, pick: Pick) -> None:
    rank = len(shape_of(scope, maker.input[0]))
    axis = read.axis_of_quantization(maker, rank)
    scale = scope.constant(maker.input[1])
    assert scale is not None
    along = pick.along(axis)
    for slot in (1, 2):
        if not input_name(maker, slot):
            continue
        if scale.ndim > 1:
            cut(edit, scope, maker, slot, pick)
        elif scale.size > 1 and along is not None:
            cut(edit, scope, maker, slot, AxisPick({0: along}))
    cut(edit, scope, maker, 0, pick)
    edit.forget_value_info(scope, maker.output[0])


def _own_dequantizer(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, maker: NodeProto) -> NodeProto:
    """The DequantizeLinear node, a copy of it where others use it too."""
    name = node.input[slot]
    if scope.only_use(name) is not None:
        return maker
    copy = NodeProto()
    copy.CopyFrom(maker)
    copy.ClearField("name")
    copy.output[0] = edit.names.fresh(f"{name}_compact")
    for at, source in enumerate(maker.input):
        if source:
            copy.input[at] = edit.add_constant(scope, f"{source}_compact", partial(_copied, edit, scope, source=source))
    placed = edit.add_node(scope, copy)
    edit.set_input(scope, node, slot, placed.output[0])
    return placed


def _copied(edit: GraphEdit, scope: GraphIndex, name: str, *, source: str) -> TensorProto:
    value = scope.constant(source)
    assert value is not None
    return edit.store.make(name, value, int(helper.np_dtype_to_tensor_dtype(value.dtype)))


def _cut_plain(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, pick: Pick) -> None:
    name = node.input[slot]
    stored = scope.stored(name)
    if stored is None:
        value = scope.constant(name)
        assert value is not None
        put(edit, scope, node, slot, pick.take(value))
        return
    source = TensorProto()
    source.CopyFrom(stored)
    store = edit.store
    shape = pick.take(np.broadcast_to(np.zeros((), np.int8), tuple(source.dims))).shape

    def make(fresh: str) -> TensorProto:
        if source.data_type in _SUB_BYTE:
            return store.make(fresh, pick.take(store.array(source)), source.data_type)
        return store.recipe(fresh, shape, source.data_type, lambda: _blocks(edit, source, pick))

    edit.put_constant(scope, node, slot, f"{name}_compact", make, resize=True)


def _blocks(edit: GraphEdit, source: TensorProto, pick: Pick) -> tuple[Array]:
    taken = pick.take(edit.store.array(source))
    edit.store.release(source)
    return (taken,)


def put(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, values: Array) -> None:
    """Give a node a small constant at an input slot, in the values' own type."""
    kind = int(helper.np_dtype_to_tensor_dtype(values.dtype))
    base = f"{input_name(node, slot) or node.output[0]}_compact"
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, values, kind), resize=True)


_SUB_BYTE = frozenset({TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1} | {25, 26})
