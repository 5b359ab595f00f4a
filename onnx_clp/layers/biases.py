"""Where a linear layer's bias is, and how a new one gets there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import float_type
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import input_name, is_op, set_attribute

Float64 = NDArray[np.float64]
Array = NDArray[Any]


class Bias(Protocol):
    """What a layer adds to its output; channels on the last axis of `values`."""

    def values(self) -> Float64 | None:
        """The bias, zeros where there is none; None when it is not a constant."""

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store a new bias in the weight's TensorProto.DataType.

        `factor` (channels,) is what the weight's scales were multiplied by, for a bias whose scale follows them.
        """


@dataclass(slots=True, eq=False)
class InputBias:
    """The bias input of Conv and ConvTranspose, perhaps left out."""

    scope: GraphIndex
    node: NodeProto
    slot: int

    def values(self) -> Float64 | None:
        """The bias of shape (channels,), or a single 0."""
        name = input_name(self.node, self.slot)
        if not name:
            return np.zeros(1)
        found = self.scope.constant(name)
        return None if found is None or float_type(found.dtype) is None else as_float64(found)

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias, adding the input where it was left out."""
        base = input_name(self.node, self.slot) or f"{input_name(self.node, 1)}_bias"
        write_constant(edit, self.scope, self.node, self.slot, base, values, data_type)


@dataclass(slots=True, eq=False)
class GemmBias:
    """Input C of Gemm, scaled by `beta`: Y = alpha·A'·B' + beta·C (ONNX Gemm, opset 7 to 13)."""

    scope: GraphIndex
    node: NodeProto
    slot: int

    def values(self) -> Float64 | None:
        """beta·C, of any shape that broadcasts to (rows, channels)."""
        name, beta = input_name(self.node, self.slot), read.beta(self.node)
        if not name or beta == 0:
            return np.zeros(1)
        found = self.scope.constant(name)
        if found is None or float_type(found.dtype) is None:
            return None
        return np.asarray(beta * as_float64(found))

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store values/beta; a beta of 0 becomes 1, since it silenced the C that was there."""
        beta = read.beta(self.node)
        if beta == 0:
            set_attribute(self.node, "beta", 1.0)
            beta = 1.0
        base = input_name(self.node, self.slot) or f"{input_name(self.node, 1)}_bias"
        write_constant(edit, self.scope, self.node, self.slot, base, values / beta, data_type)


@dataclass(slots=True, eq=False)
class AddedBias:
    """A constant added after a MatMul or an integer layer; `adder` is None where there is none yet.

    `maker` gives the value that is added to; the channels are `axis_from_end` from its last axis (1), and it
    has `rank` dimensions (None where that is not known).
    """

    scope: GraphIndex
    maker: NodeProto
    channels: int
    axis_from_end: int = 1
    rank: int | None = None
    adder: NodeProto | None = None
    slot: int = 1

    @classmethod
    def after(
        cls, scope: GraphIndex, maker: NodeProto, channels: int, axis_from_end: int = 1, rank: int | None = None
    ) -> AddedBias:
        """The bias after a node; only a per-channel Add that is the one use of its output counts."""
        bias = cls(scope, maker, channels, axis_from_end, rank)
        use = scope.only_use(maker.output[0])
        if use is not None and use.node is not None and use.scope is scope:
            bias.adopt(use.node, maker.output[0])
        return bias

    def adopt(self, node: NodeProto, data: str) -> bool:
        """Take `node` as the adder if it adds one constant a channel to `data`."""
        if not is_op(node, "Add") or self.scope.opset < 7 or len(node.input) != 2:
            return False
        slot = 1 if node.input[0] == data else 0
        value = self.scope.constant(node.input[slot])
        if value is None or float_type(value.dtype) is None:
            return False
        if not _is_bias(value, self.channels, self.axis_from_end):
            return False
        if value.ndim > (self.axis_from_end if self.rank is None else self.rank):
            return False  # it would add a dimension, which no bias does
        self.adder, self.slot = node, slot
        return True

    @property
    def can_be_added(self) -> bool:
        """Whether there is an adder, or one can be put in (Add broadcasts from opset 7)."""
        return self.adder is not None or self.scope.opset >= 7

    def values(self) -> Float64 | None:
        """The added constant of shape (channels,), or zeros."""
        if self.adder is None:
            return np.zeros(1)
        found = self.scope.constant(self.adder.input[self.slot])
        return None if found is None else as_float64(found).reshape(-1)

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias, shaped to broadcast along the channel axis; puts an Add in where there is none."""
        shape: tuple[int, ...] = (self.channels, *[1] * (self.axis_from_end - 1))
        spread = np.broadcast_to(values, (self.channels,))
        if self.adder is None:
            base = f"{self.maker.output[0]}_bias"
            make = partial(edit.store.make, values=spread.reshape(shape), data_type=data_type)
            self.adder, self.slot = edit.add_after(self.scope, self.maker.output[0], "Add", base, make), 1
            return
        old = self.scope.constant(self.adder.input[self.slot])
        shape = shape if old is None else old.shape
        base = f"{self.adder.output[0]}_bias"
        write_constant(edit, self.scope, self.adder, self.slot, base, spread.reshape(shape), data_type)


def _is_bias(value: Array, channels: int, axis_from_end: int) -> bool:
    """Whether a constant holds one number a channel and broadcasts along the channel axis only."""
    if value.ndim < axis_from_end or value.size != channels:
        return False
    return bool(value.shape[value.ndim - axis_from_end] == channels)


def write_constant(
    edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, base: str, values: Float64, data_type: int
) -> None:
    """Put a small constant at an input slot of a node."""
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, values, data_type))
