"""How a linear layer's weight is stored, and how each storage takes a per-channel factor and zeroed channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.file.store import Array, numpy_dtype
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.numerics.affine import KernelLayout, scale_weight, scaled_blocks
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import input_name
from onnx_clp.verdicts import Skipped, SkipReason

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLOAT_TYPES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_MODERATE = 1e6  # of a factor; two of them (output and input) on a value in _LEAST.._MOST stay normal numbers
_LEAST, _MOST = 1e-24, 1e26
_SUMMED = 1e34  # above it a sum of products may overflow in float32 before the fold and not after, or the reverse
_LOST = 2.0**-8  # bfloat16's own rounding; float16 loses as much only among its subnormal numbers


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What is to be done to a weight: factors over all output and input channels, and channels to zero."""

    output: Float64
    input: Float64 | None
    zeroed: Mask

    @property
    def is_identity(self) -> bool:
        """Whether the weight stays as it is."""
        scaled = bool((self.output != 1).any()) or (self.input is not None and bool((self.input != 1).any()))
        return not scaled and not self.zeroed.any()


class Weight(Protocol):
    """A constant weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""

    @property
    def data_type(self) -> int:
        """The TensorProto.DataType of the layer's arithmetic, which a new bias takes."""

    def values(self) -> Array:
        """Its values as real numbers, in a float dtype."""

    def release(self) -> None:
        """Let the system drop the values from memory; they are read again when asked for again."""

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:
        """Why the scaling cannot be done exactly in this storage; None when it can."""

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Carry the scaling out."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatWeight:
    """A weight in float16, bfloat16, float32 or float64, stored or computed from constants."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    shape: tuple[int, ...]
    data_type: int
    source: TensorProto | None
    computed: Array | None
    _peak: list[float] = field(default_factory=list)

    @classmethod
    def find(cls, scope: GraphIndex, node: NodeProto, slot: int) -> FloatWeight | Skipped:
        """The weight at an input slot of a node."""
        name = input_name(node, slot)
        stored = scope.stored(name)
        if stored is not None:
            if stored.data_type not in FLOAT_TYPES:
                kind = TensorProto.DataType.Name(stored.data_type).lower()
                return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight is of type {kind}")
            copy = TensorProto()
            copy.CopyFrom(stored)
            return cls(scope, node, slot, tuple(stored.dims), stored.data_type, copy, None)
        if scope.is_overridable(name):
            return Skipped(SkipReason.OVERRIDABLE, overridable_sentence("weight"))
        value = scope.constant(name)
        if value is None:
            return Skipped(SkipReason.NOT_CONSTANT, _not_read(scope, name))
        data_type = float_type(value.dtype)
        if data_type is None:
            return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight is of type {value.dtype}")
        return cls(scope, node, slot, value.shape, data_type, None, value)

    def values(self) -> Array:
        """The weight in its own dtype."""
        if self.source is not None:
            return self.scope.store.array(self.source)
        assert self.computed is not None
        return self.computed

    def release(self) -> None:
        """Let the system drop the mapped pages."""
        if self.source is not None:
            self.scope.store.release(self.source)

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:
        """A fold may push no weight out of the dtype's range, up or down."""
        factors = [scaling.output] + ([] if scaling.input is None else [scaling.input])
        if self.data_type != TensorProto.FLOAT16 and all(_is_moderate(f) for f in factors) and self._is_moderate:
            return None
        dtype, values = numpy_dtype(self.data_type), self.values()
        wide = np.dtype(np.float64)
        exact = scale_weight(values, layout, scaling.output, scaling.input, scaling.zeroed, wide)
        if not np.isfinite(exact).all():
            with np.errstate(all="ignore"):  # a signalling NaN
                finite = np.isfinite(as_float64(values)).all()
            return _out_of_range(dtype) if finite else None
        wide_type = self.data_type in (TensorProto.FLOAT, TensorProto.BFLOAT16)
        if wide_type and max(self._largest, float(np.abs(exact).max(initial=0))) > _SUMMED:
            return _out_of_range(dtype)
        return None if survives(exact, dtype) else _out_of_range(dtype)

    @property
    def _largest(self) -> float:
        """The largest magnitude."""
        if not self._peak:
            values = self.values()
            self._peak.append(max(abs(float(values.min())), abs(float(values.max()))) if values.size else 0.0)
            self.release()
        return self._peak[0]

    @property
    def _is_moderate(self) -> bool:
        """Whether its largest value is far from both ends of float32's range, or all are 0."""
        return self._largest == 0 or _LEAST < self._largest < _MOST

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store the scaled weight as a recipe, computed when the file is written."""
        dtype = numpy_dtype(self.data_type)

        def blocks() -> Iterator[Array]:
            yield from scaled_blocks(self.values(), layout, scaling.output, scaling.input, scaling.zeroed, dtype)
            self.release()

        base = input_name(self.node, self.slot) or "weight"
        edit.put_constant(
            self.scope,
            self.node,
            self.slot,
            f"{base}_folded",
            lambda name: edit.store.recipe(name, self.shape, self.data_type, blocks),
        )


def _is_moderate(factor: Float64) -> bool:
    sizes = np.abs(factor[factor != 0])
    return bool(sizes.max(initial=1.0) < _MODERATE and sizes.min(initial=1.0) > 1 / _MODERATE)


def _out_of_range(dtype: np.dtype[Any]) -> Skipped:
    return Skipped(SkipReason.OUT_OF_RANGE, f"the folded values would leave the range of {dtype}")


def survives(exact: Float64, dtype: np.dtype[Any]) -> bool:
    """Whether float64 values keep their size in `dtype`: none overflows, and together they round little."""
    with np.errstate(all="ignore"):
        stored = as_float64(exact.astype(dtype))
        if not np.isfinite(stored).all():
            return False
        peak = float(np.abs(exact).max(initial=0.0))
        if peak == 0:
            return True
        lost = np.linalg.norm(((stored - exact) / peak).reshape(-1))
        return bool(lost <= _LOST * np.linalg.norm((exact / peak).reshape(-1)))


def float_type(dtype: np.dtype[Any]) -> int | None:
    """The TensorProto.DataType of a float dtype that the tool computes with; None for any other."""
    names = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
    return names.get(dtype.name)


def overridable_sentence(what: str) -> str:
    """Why an initializer that is also a graph input is left alone, and the cure."""
    return f"its {what} is a graph input that a caller may override (--freeze-inputs treats it as a constant)"


def _not_read(scope: GraphIndex, name: str) -> str:
    if scope.is_constant(name):
        return "its weight is computed in a way that is not known, or to many times the size of the file"
    return "its weight is not a constant"
