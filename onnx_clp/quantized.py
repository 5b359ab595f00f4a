"""Quantised linear layers: weights behind DequantizeLinear, QLinearConv, and chains that start at ConvInteger.

A weight is real = (q - zero_point)·scale. A factor goes into the scales, so no integer changes but for a sign
or a zero; a channel to zero gets the zero-point everywhere. What that cannot do exactly is refused in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx_clp import constants
from onnx_clp.biases import AddedBias, Bias
from onnx_clp.edit import GraphEdit
from onnx_clp.graph import GraphIndex
from onnx_clp.layers import Finder, LinearLayer, read_geometry
from onnx_clp.nodes import attribute, identity, input_name, is_op, operator, set_attribute
from onnx_clp.numerics.affine import KernelLayout, channel_factor
from onnx_clp.skipped import Skipped, SkipReason
from onnx_clp.weights import Scaling, float_type, overridable_sentence

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Array = NDArray[Any]


def quantized(sentence: str) -> Skipped:
    """A refusal for the sake of exact integers."""
    return Skipped(SkipReason.QUANTIZED, sentence)


def read_constant(scope: GraphIndex, name: str, what: str) -> Array | Skipped:
    """A constant input, or why it is none."""
    if scope.is_overridable(name):
        return Skipped(SkipReason.OVERRIDABLE, overridable_sentence(what))
    value = scope.constant(name)
    return Skipped(SkipReason.NOT_CONSTANT, f"its {what} is not a constant") if value is None else value


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Integers with scale and zero-point, each a scalar, one per index of `axis`, or in blocks along it."""

    values: Array
    scale: Array
    zero: Array | None
    axis: int
    block: int

    @property
    def blocked(self) -> bool:
        """Whether a scale covers a block of weights rather than a whole channel or tensor."""
        return self.scale.ndim > 1

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves all."""
        return self.scale.size == 1 and self.scale.ndim <= 1

    def _spread(self, part: Array) -> Float64:
        size = self.values.shape[self.axis] if not self.per_tensor else 1
        wide = part.astype(np.float64)
        return np.asarray(constants.along_axis(wide, self.values.ndim, self.axis, size, self.block))

    @property
    def zero_points(self) -> Float64:
        """Zero-points, shaped to broadcast over the values."""
        return np.zeros(()) if self.zero is None else self._spread(self.zero)

    def real(self) -> Float64:
        """The weights as real numbers."""
        return np.asarray((self.values.astype(np.float64) - self.zero_points) * self._spread(self.scale))

    def changed(self, flipped: Mask, zeroed: Mask, layout: KernelLayout) -> Array:
        """The integers with the sign of some output channels turned round the zero-point, others at it."""
        steps, zero = self.values.astype(np.float64), np.broadcast_to(self.zero_points, self.values.shape)
        turn = _mask(flipped, self.values.shape, layout)
        steps = np.where(turn, 2 * zero - steps, steps)
        return np.where(_mask(zeroed, self.values.shape, layout), zero, steps)

    def can_flip(self, flipped: Mask, layout: KernelLayout) -> bool:
        """Whether the sign of these channels can be turned within the integer type."""
        if not flipped.any():
            return True
        low, high = _range(self.values.dtype)
        turned = self.changed(flipped, np.zeros_like(flipped), layout)
        return bool(turned.min(initial=0) >= low and turned.max(initial=0) <= high)


def _mask(channels: Mask, shape: tuple[int, ...], layout: KernelLayout) -> NDArray[np.bool_]:
    return np.asarray(channel_factor(channels.astype(np.float64), shape, layout, output=True) > 0)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    from ml_dtypes import iinfo

    limits = iinfo(dtype)
    return int(limits.min), int(limits.max)


def _data_type(value: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(value.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class DequantizedWeight:
    """A weight behind a DequantizeLinear node (ONNX DequantizeLinear, opset 10 to 23)."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    source: NodeProto
    parts: Quantized

    @classmethod
    def find(cls, scope: GraphIndex, node: NodeProto, slot: int, source: NodeProto) -> DequantizedWeight | Skipped:
        """The weight at an input slot of `node`, made by `source`."""
        values = read_constant(scope, input_name(source, 0), "quantised weight")
        scale = read_constant(scope, input_name(source, 1), "weight scale")
        if isinstance(values, Skipped):
            return values
        if isinstance(scale, Skipped):
            return scale
        zero: Array | None = None
        if input_name(source, 2):
            found = read_constant(scope, source.input[2], "weight zero-point")
            if isinstance(found, Skipped):
                return found
            zero = found
        axis = int(attribute(source, "axis", 1)) % max(values.ndim, 1)
        block = int(attribute(source, "block_size", 0))
        if scale.ndim > 1 and not block:
            return quantized("its weight's scales have more than one dimension and no block size")
        if scale.ndim == 1 and scale.size not in (1, values.shape[axis]):
            return quantized("its weight has another number of scales than channels")
        if values.dtype.name.startswith("float"):
            return quantized(f"its weight is stored as {values.dtype}")
        return cls(scope, node, slot, source, Quantized(values, scale, zero, axis, block))

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's dimensions."""
        return self.parts.values.shape

    @property
    def data_type(self) -> int:
        """The type it is dequantised to."""
        stated = int(attribute(self.source, "output_dtype", 0))
        return stated or float_type(self.parts.scale.dtype) or 1

    def values(self) -> Array:
        """The dequantised weight."""
        return self.parts.real()

    def release(self) -> None:
        """The integers stay in memory; they are small."""

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:
        """Factors must go into the scales, one an output channel."""
        factor = _single_factor(scaling)
        if isinstance(factor, Skipped):
            return factor
        if np.all(factor == factor[0]) and factor[0] > 0:
            return self._range_refusal(factor[:1])
        refusal = self._axis_refusal(layout)
        if refusal is not None:
            return refusal
        if not self.parts.can_flip(factor < 0, layout):
            return quantized("a negative factor would need an integer outside its weight's type")
        return self._range_refusal(factor)

    def _axis_refusal(self, layout: KernelLayout) -> Skipped | None:
        if layout.transposed and layout.groups > 1:
            return quantized("its weight's scales cannot tell the output channels of several groups apart")
        if self.parts.blocked:
            ok = self.parts.axis != layout.out_axis
            return None if ok else quantized("its weight's scales cover blocks of several output channels")
        if self.parts.per_tensor:
            ok = self.scope.opset >= 13
            return None if ok else quantized("its weight has one scale for all, and opset 13 brings one a channel")
        ok = self.parts.axis == layout.out_axis
        return None if ok else quantized("its weight's scales run along another axis than its output channels")

    def _range_refusal(self, factor: Float64) -> Skipped | None:
        kind = self.parts.scale.dtype
        smallest = np.abs(np.where(factor == 0, 1.0, factor)).min(initial=1.0)
        largest = np.abs(factor).max(initial=1.0)
        low = (self.parts.scale.astype(np.float64).min() * smallest).astype(kind)
        high = (self.parts.scale.astype(np.float64).max() * largest).astype(kind)
        if low > 0 and np.isfinite(high.astype(np.float64)):
            return None
        return Skipped(SkipReason.OUT_OF_RANGE, f"the folded scale would leave the range of {kind}")

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store new scales, and new integers where a sign turned or a channel is silent."""
        factor = _single_factor(scaling)
        assert not isinstance(factor, Skipped)
        source = self._own_source(edit)
        silent = scaling.zeroed | (factor == 0)
        flipped = (factor < 0) & ~silent
        if silent.any() or flipped.any():
            values = self.parts.changed(flipped, silent, layout).astype(self.parts.values.dtype)
            _put(edit, self.scope, source, 0, values)
        weight_factor = np.where(factor == 0, 1.0, np.abs(factor))
        if (weight_factor != 1).any():
            self._write_scale(edit, source, weight_factor, layout)

    def _own_source(self, edit: GraphEdit) -> NodeProto:
        """The DequantizeLinear node, a copy of it where others use it too."""
        name = self.node.input[self.slot]
        if self.scope.only_use(name) is not None:
            return self.scope.producers[name]
        copy = NodeProto()
        copy.CopyFrom(self.source)
        copy.ClearField("name")
        copy.output[0] = edit.names.fresh(f"{name}_folded")
        for at, value in enumerate((self.parts.values, self.parts.scale, self.parts.zero)):
            if value is not None:
                kind = _data_type(value)
                copy.input[at] = edit.add_constant(
                    self.scope,
                    f"{self.source.input[at]}_folded",
                    lambda fresh, v=value, k=kind: edit.store.make(fresh, v, k),
                )
        placed = edit.add_node(self.scope, copy)
        edit.set_input(self.scope, self.node, self.slot, copy.output[0])
        return placed

    def _write_scale(self, edit: GraphEdit, source: NodeProto, factor: Float64, layout: KernelLayout) -> None:
        scale = self.parts.scale.astype(np.float64)
        if np.all(factor == factor[0]):
            new = scale * factor[0]
        elif self.parts.blocked:
            new = scale * channel_factor(
                factor, self.parts.values.shape, KernelLayout(layout.out_axis, layout.in_axis), output=True
            )
        else:
            new = scale.reshape(-1) * factor
            if self.parts.per_tensor:
                set_attribute(source, "axis", layout.out_axis)
                if self.parts.zero is not None:
                    wide = np.broadcast_to(self.parts.zero.reshape(-1), factor.shape)
                    _put(edit, self.scope, source, 2, wide)
        _put(edit, self.scope, source, 1, new.astype(self.parts.scale.dtype))


def _put(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, value: Array) -> None:
    base = f"{node.input[slot]}_folded"
    kind = _data_type(value)
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, value, kind))


def _single_factor(scaling: Scaling) -> Float64 | Skipped:
    """Output factors with a uniform input factor taken in."""
    if scaling.input is None:
        return scaling.output
    first = float(scaling.input[0]) if scaling.input.size else 1.0
    if np.any(scaling.input != first):
        return quantized("its quantised weight has no scale per input channel")
    return scaling.output * first


@dataclass(slots=True, eq=False)
class DequantizedBias:
    """An int32 bias behind DequantizeLinear, whose scale is the input's times the weight's."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    source: NodeProto
    scale: Array

    def values(self) -> Float64 | None:
        """The dequantised bias of shape (channels,)."""
        found = self.scope.constant(self.node.input[self.slot])
        return None if found is None else found.astype(np.float64)

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias in steps of a scale that follows the weight's `factor`."""
        scope, source = self.scope, self.scope.producers[self.node.input[self.slot]]
        scale = self.scale
        zero = scope.constant(input_name(source, 2)) if input_name(source, 2) else None
        steps = scope.constant(source.input[0])
        assert steps is not None
        new_scale = scale.astype(np.float64).reshape(-1) * (np.ones(1) if factor is None else factor)
        new_scale = new_scale.astype(scale.dtype)
        with np.errstate(all="ignore"):
            rounded = np.rint(values / new_scale.astype(np.float64))
        sole = scope.only_use(self.node.input[self.slot]) is not None
        fits = bool((np.abs(rounded) <= 2**31 - 1).all())
        widens = scale.size == 1 and new_scale.size > 1 and scope.opset < 13
        if not sole or not fits or widens or (zero is not None and zero.any()):
            name = edit.add_constant(
                scope, f"{self.node.input[self.slot]}_folded", lambda n: edit.store.make(n, values, data_type)
            )
            edit.set_input(scope, self.node, self.slot, name)
            return
        _put(edit, scope, source, 0, rounded.astype(steps.dtype))
        if factor is not None and (factor != 1).any():
            if scale.size == 1:
                set_attribute(source, "axis", 0)
                if zero is not None:
                    _put(edit, scope, source, 2, np.broadcast_to(zero.reshape(-1), new_scale.shape))
            _put(edit, scope, source, 1, new_scale)


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
        return None if found is None else found.astype(np.float64) * self.step

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias as integers."""
        _put(edit, self.scope, self.node, self.slot, np.rint(values / self.step).astype(np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class IntegerWeight:
    """An integer weight whose scale stands elsewhere: an input of QLinearConv, or a Mul after ConvInteger.

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
        factor = _single_factor(scaling)
        if isinstance(factor, Skipped):
            return factor
        if np.all(factor == 1):
            return None
        if self.scaler is None:
            return quantized("its output is rounded to integers")
        node, _ = self.scaler
        if self.scope.only_use(identity(node)) is None:
            return quantized("its scale is used by other layers too")
        return None

    def _makers(self, node: NodeProto) -> list[NodeProto]:
        made = (self.scope.producer(name) for name in node.input)
        return [m for m in made if m is not None]

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store a new scale, and zero-points where a channel is silent."""
        factor = _single_factor(scaling)
        assert not isinstance(factor, Skipped)
        if scaling.zeroed.any():
            none = np.zeros_like(scaling.zeroed)
            values = self.parts.changed(none, scaling.zeroed, layout).astype(self.parts.values.dtype)
            _put(edit, self.scope, self.node, self.slot, values)
        if (factor != 1).any() and self.scaler is not None:
            node, slot = self.scaler
            scale = self.parts.scale.astype(np.float64).reshape(-1) * factor
            shape = (-1, *[1] * (self.rank - 2)) if self.rank > 2 else (-1,)
            _put(edit, self.scope, node, slot, scale.reshape(shape).astype(self.parts.scale.dtype))
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
    bias = IntegerBias(scope, node, 8, step.astype(np.float64) * parts.scale.astype(np.float64).reshape(-1))
    return _layer(scope, node, weight, bias, [])


def _find_integer(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    """ConvInteger and MatMulInteger (ONNX opset 10): Cast and a Mul by x_scale·w_scale follow."""
    chain = _scaling_chain(scope, node)
    if chain is None:
        return quantized("no Cast and Mul with a constant weight scale follow it")
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
    axis = values.ndim - 1 if "MatMul" in node.op_type else 0
    flat = scale.reshape(-1) if scale.size > 1 else scale.reshape(())
    if flat.size not in (1, values.shape[axis]) or (zero is not None and zero.size not in (1, values.shape[axis])):
        return quantized("its weight has another number of scales than channels")
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
    groups = int(attribute(node, "group", 1)) if convolution else 1
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
