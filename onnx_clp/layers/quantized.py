"""Quantised weights: integers with scale and zero-point, and the form that goes through DequantizeLinear.

A weight is real = (q - zero_point)·scale. A factor goes into the scales, so no integer changes but for a sign
or a zero; a channel to zero gets the zero-point everywhere. What that cannot do exactly is refused in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import Scaling, float_type, overridable_sentence
from onnx_clp.numerics.affine import KernelLayout, channel_factor
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.grids import along_axis, integer_limits
from onnx_clp.operators.nodes import input_name, set_attribute
from onnx_clp.verdicts import Skipped, SkipReason

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Array = NDArray[Any]


def refusal(sentence: str) -> Skipped:
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

    @property
    def fits(self) -> bool:
        """Whether there is a scale and a zero-point for every value, and nothing beyond."""
        try:
            shapes = [self._spread(part).shape for part in (self.scale, self.zero) if part is not None]
            return np.broadcast_shapes(self.values.shape, *shapes) == self.values.shape
        except (ValueError, IndexError):
            return False

    def _spread(self, part: Array) -> Float64:
        size = self.values.shape[self.axis] if not self.per_tensor else 1
        wide = as_float64(part)
        return np.asarray(along_axis(wide, self.values.ndim, self.axis, size, self.block))

    @property
    def zero_points(self) -> Float64:
        """Zero-points, shaped to broadcast over the values."""
        return np.zeros(()) if self.zero is None else self._spread(self.zero)

    def real(self) -> Float64:
        """The weights as real numbers."""
        return np.asarray((as_float64(self.values) - self.zero_points) * self._spread(self.scale))

    def changed(self, flipped: Mask, zeroed: Mask, layout: KernelLayout) -> Array:
        """The integers with the sign of some output channels turned round the zero-point, others at it."""
        steps, zero = as_float64(self.values), np.broadcast_to(self.zero_points, self.values.shape)
        turn = _mask(flipped, self.values.shape, layout)
        steps = np.where(turn, 2 * zero - steps, steps)
        return np.where(_mask(zeroed, self.values.shape, layout), zero, steps)

    def can_flip(self, flipped: Mask, layout: KernelLayout) -> bool:
        """Whether the sign of these channels can be turned within the integer type."""
        if not flipped.any():
            return True
        low, high = integer_limits(self.values.dtype)
        turned = self.changed(flipped, np.zeros_like(flipped), layout)
        return bool(turned.min(initial=0) >= low and turned.max(initial=0) <= high)


def _mask(channels: Mask, shape: tuple[int, ...], layout: KernelLayout) -> NDArray[np.bool_]:
    return np.asarray(channel_factor(as_float64(channels), shape, layout, output=True) > 0)


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
        axis = read.axis_of_quantization(source, values.ndim)
        block = read.quantized_block(source)
        if scale.ndim > 1 and not block:
            return refusal("its weight's scales have more than one dimension and no block size")
        if scale.ndim == 1 and scale.size not in (1, values.shape[axis]):
            return refusal("its weight has another number of scales than channels")
        if values.dtype.name.startswith("float"):
            return refusal(f"its weight is stored as {values.dtype}")
        parts = Quantized(values, scale, zero, axis, block)
        if not parts.fits:
            return refusal("its weight's scales or zero-points do not fit its shape")
        return cls(scope, node, slot, source, parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's dimensions."""
        return self.parts.values.shape

    @property
    def data_type(self) -> int:
        """The type it is dequantised to."""
        stated = read.quantized_type(self.source)
        return stated or float_type(self.parts.scale.dtype) or 1

    def values(self) -> Array:
        """The dequantised weight."""
        return self.parts.real()

    def release(self) -> None:
        """The integers stay in memory; they are small."""

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:
        """Factors must go into the scales, one an output channel."""
        factor = single_factor(scaling)
        if isinstance(factor, Skipped):
            return factor
        if np.all(factor == factor[0]) and factor[0] > 0:
            return self._range_refusal(factor[:1])
        found = self._axis_refusal(layout)
        if found is not None:
            return found
        if not self.parts.can_flip(factor < 0, layout):
            return refusal("a negative factor would need an integer outside its weight's type")
        return self._range_refusal(factor)

    def _axis_refusal(self, layout: KernelLayout) -> Skipped | None:
        if layout.transposed and layout.groups > 1:
            return refusal("its weight's scales cannot tell the output channels of several groups apart")
        if self.parts.blocked:
            ok = self.parts.axis != layout.out_axis
            return None if ok else refusal("its weight's scales cover blocks of several output channels")
        if self.parts.per_tensor:
            ok = self.scope.opset >= 13
            return None if ok else refusal("its weight has one scale for all, and opset 13 brings one a channel")
        ok = self.parts.axis == layout.out_axis
        return None if ok else refusal("its weight's scales run along another axis than its output channels")

    def _range_refusal(self, factor: Float64) -> Skipped | None:
        kind = self.parts.scale.dtype
        smallest = np.abs(np.where(factor == 0, 1.0, factor)).min(initial=1.0)
        largest = np.abs(factor).max(initial=1.0)
        low = (as_float64(self.parts.scale).min() * smallest).astype(kind)
        high = (as_float64(self.parts.scale).max() * largest).astype(kind)
        if low > 0 and np.isfinite(as_float64(high)):
            return None
        return Skipped(SkipReason.OUT_OF_RANGE, f"the folded scale would leave the range of {kind}")

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store new scales, and new integers where a sign turned or a channel is silent."""
        factor = single_factor(scaling)
        assert not isinstance(factor, Skipped)
        source = self._own_source(edit)
        silent = scaling.zeroed | (factor == 0)
        flipped = (factor < 0) & ~silent
        if silent.any() or flipped.any():
            values = self.parts.changed(flipped, silent, layout).astype(self.parts.values.dtype)
            put(edit, self.scope, source, 0, values)
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
                    partial(edit.store.make, values=value, data_type=kind),
                )
        placed = edit.add_node(self.scope, copy)
        edit.set_input(self.scope, self.node, self.slot, copy.output[0])
        return placed

    def _write_scale(self, edit: GraphEdit, source: NodeProto, factor: Float64, layout: KernelLayout) -> None:
        scale = as_float64(self.parts.scale)
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
                    put(edit, self.scope, source, 2, wide)
        put(edit, self.scope, source, 1, new.astype(self.parts.scale.dtype))


def put(edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, value: Array) -> None:
    """Store a changed constant at an input slot, in the value's own type."""
    base = f"{node.input[slot]}_folded"
    kind = _data_type(value)
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, value, kind))


def single_factor(scaling: Scaling) -> Float64 | Skipped:
    """Output factors with a uniform input factor taken in."""
    if scaling.input is None:
        return scaling.output
    first = float(scaling.input[0]) if scaling.input.size else 1.0
    if np.any(scaling.input != first):
        return refusal("its quantised weight has no scale per input channel")
    return scaling.output * first
