"""Linear layers on integers: QLinearConv, and chains that start at ConvInteger (and their MatMul forms)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.biases import AddedBias, Bias
from onnx_clp.layers.layer import Finder, LinearLayer, read_geometry
from onnx_clp.layers.quantized import Quantized, put, read_constant, refusal, single_factor
from onnx_clp.layers.weights import Scaling, float_type
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import identity, input_name, is_op, operator
from onnx_clp.verdicts import Skipped, SkipReason

Float64 = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class IntegerBias:
    """The int32 bias input of QLinearConv, in steps of x_scale·w_scale."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    step: Float64

    def values(self) -> Float64 | None:
        """The bias as real numbers."""
        name = input_name(self.node, self.slot)
        if not name:
            return np.zeros(1)
        found = self.scope.constant(name)
        return None if found is None else as_float64(found) * self.step

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias as integers."""
        put(edit, self.scope, self.node, self.slot, np.rint(values / self.step).astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class IntegerWeight:
    """An integer weight whose scale is elsewhere: an input of QLinearConv, or a Mul after ConvInteger.

    `scaler` is the node (and slot) whose constant carries a factor on, None where the output is rounded.
    """

    scope: GraphIndex
    node: NodeProto
    slot: int
    parts: Quantized
    scaler: tuple[NodeProto, int] | None
    rank: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's dimensions."""
        return self.parts.values.shape

    @property
    def data_type(self) -> int:
        """The type of its scale, in which the layer's result is given."""
        return float_type(self.parts.scale.dtype) or 1

    def values(self) -> Array:
        """The dequantised weight."""
        return self.parts.real()

    def release(self) -> None:
        """The integers stay in memory; they are small."""

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:
        """Factors go into the scale where there is one that only this layer uses."""
        factor = single_factor(scaling)
        if isinstance(factor, Skipped):
            return factor
        if np.all(factor == 1):
            return None
        if self.scaler is None:
            return refusal("its output is rounded to integers")
        node, _ = self.scaler
        if self.scope.only_use(identity(node)) is None:
            return refusal("its scale is used by other layers too")
        return None

    def _makers(self, node: NodeProto) -> list[NodeProto]:
        made = (self.scope.producer(name) for name in node.input)
        return [m for m in made if m is not None]

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store a new scale, and zero-points where a channel is silent."""
        factor = single_factor(scaling)
        assert not isinstance(factor, Skipped)
        if scaling.zeroed.any():
            none = np.zeros_like(scaling.zeroed)
            values = self.parts.changed(none, scaling.zeroed, layout).astype(self.parts.values.dtype)
            put(edit, self.scope, self.node, self.slot, values)
        if (factor != 1).any() and self.scaler is not None:
            node, slot = self.scaler
            scale = as_float64(self.parts.scale).reshape(-1) * factor
            shape = (-1, *[1] * (self.rank - 2)) if self.rank > 2 else (-1,)
            put(edit, self.scope, node, slot, scale.reshape(shape).astype(self.parts.scale.dtype))
            if scale.size != self.parts.scale.size and not any(is_op(p, "Cast") for p in self._makers(node)):
                edit.forget_value_info(self.scope, node.output[0])


def finder(node: NodeProto) -> Finder:
    """The recogniser of a quantised linear node."""
    return _find_rounded if node.op_type.startswith("QLinear") else _find_integer


def _find_rounded(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    """QLinearConv and QLinearMatMul (ONNX opset 10 and 21): scale and zero-point are inputs, the output is rounded."""
    parts = _weight_parts(scope, node, 3, scope.constant(input_name(node, 4)), 5)
    if isinstance(parts, Skipped):
        return parts
    weight = IntegerWeight(scope, node, 3, parts, None, parts.values.ndim)
    step = scope.constant(input_name(node, 1))
    if step is None:
        return Skipped(SkipReason.NOT_CONSTANT, "its input scale is not a constant")
    bias = IntegerBias(scope, node, 8, as_float64(step) * as_float64(parts.scale).reshape(-1))
    return _layer(scope, node, weight, bias, [])


def _find_integer(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    """ConvInteger and MatMulInteger (ONNX opset 10): Cast and a Mul by x_scale·w_scale follow."""
    chain = _scaling_chain(scope, node)
    if chain is None:
        return refusal("no Cast and Mul with a constant weight scale follow it")
    cast, multiply, scaler = chain
    parts = _weight_parts(scope, node, 1, scope.constant(scaler[0].input[scaler[1]]), 3)
    if isinstance(parts, Skipped):
        return parts
    rank = parts.values.ndim
    weight = IntegerWeight(scope, node, 1, parts, scaler, rank)
    convolution = node.op_type == "ConvInteger"
    channels = parts.values.shape[0 if convolution else -1]
    made = rank if convolution else scope.ranks.of(node.output[0])
    bias = AddedBias.after(scope, multiply, channels, rank - 1 if convolution else 1, made)
    inside = [cast, multiply] + ([] if bias.adder is None else [bias.adder])
    layer = _layer(scope, node, weight, bias, inside)
    if isinstance(layer, LinearLayer) and scaler[0] is not multiply:
        layer.aside.append(scaler[0])
    return layer


def _scaling_chain(scope: GraphIndex, node: NodeProto) -> tuple[NodeProto, NodeProto, tuple[NodeProto, int]] | None:
    cast = _sole_user(scope, node.output[0], "Cast")
    multiply = None if cast is None else _sole_user(scope, cast.output[0], "Mul")
    if cast is None or multiply is None:
        return None
    slot = 1 if multiply.input[0] == cast.output[0] else 0
    other = multiply.input[slot]
    if scope.is_constant(other):
        return cast, multiply, (multiply, slot)
    maker = scope.producer(other)
    if maker is None or not is_op(maker, "Mul"):
        return None
    steady = [i for i, name in enumerate(maker.input) if scope.is_constant(name)]
    return (cast, multiply, (maker, steady[0])) if len(steady) == 1 else None


def _sole_user(scope: GraphIndex, name: str, op_type: str) -> NodeProto | None:
    use = scope.only_use(name)
    if use is None or use.node is None or use.scope is not scope or not is_op(use.node, op_type):
        return None
    return use.node


def _weight_parts(
    scope: GraphIndex, node: NodeProto, slot: int, scale: Array | None, zero_slot: int
) -> Quantized | Skipped:
    values = read_constant(scope, input_name(node, slot), "quantised weight")
    if isinstance(values, Skipped):
        return values
    if scale is None or float_type(scale.dtype) is None:
        return Skipped(SkipReason.NOT_CONSTANT, "its weight scale is not a constant")
    zero = scope.constant(input_name(node, zero_slot)) if input_name(node, zero_slot) else None
    if zero is None and input_name(node, zero_slot):
        return Skipped(SkipReason.NOT_CONSTANT, "its weight zero-point is not a constant")
    if not values.ndim or not values.size or not scale.size:
        return refusal("its weight or its scale holds nothing")
    axis = values.ndim - 1 if "MatMul" in node.op_type else 0
    flat = scale.reshape(-1) if scale.size > 1 else scale.reshape(())
    if flat.size not in (1, values.shape[axis]) or (zero is not None and zero.size not in (1, values.shape[axis])):
        return refusal("its weight has another number of scales than channels")
    if zero is not None:
        zero = np.broadcast_to(zero.reshape(-1), flat.shape if flat.size > 1 else zero.reshape(-1).shape)
        if zero.size > 1 and flat.size == 1:
            flat = np.broadcast_to(flat.reshape(1), zero.shape)
    return Quantized(values, flat, zero, axis, 0)


def _layer(
    scope: GraphIndex, node: NodeProto, weight: IntegerWeight, bias: Bias, inside: list[NodeProto]
) -> LinearLayer | Skipped:
    shape = weight.shape
    convolution = "Conv" in node.op_type
    groups = read.groups(node) if convolution else 1
    if len(shape) < (3 if convolution else 2) or (not convolution and len(shape) != 2):
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight has {len(shape)} dimensions")
    rank = len(shape) if convolution else scope.ranks.of(node.output[0])
    return LinearLayer(
        node=node,
        scope=scope,
        name=node.name or identity(node),
        operator=operator(node),
        layout=KernelLayout(0, 1, groups) if convolution else KernelLayout(1, 0),
        weight=weight,
        bias=bias,
        channels=shape[0] if convolution else shape[1],
        inputs=shape[1] * groups if convolution else shape[0],
        geometry=read_geometry(node, tuple(shape[2:])) if convolution else None,
        rank=rank,
        axis_from_end=len(shape) - 1 if convolution else 1,
        data_axis_from_end=len(shape) - 1 if convolution else 1,
        no_padding=False,
        inside=inside,
    )
