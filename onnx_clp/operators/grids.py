"""The arithmetic of QuantizeLinear and DequantizeLinear on arrays (ONNX, opset 10 to 23).

q = saturate(round half to even(x / scale) + zero point),    x = (q - zero point)·scale
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.file.store import numpy_dtype
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.read import quantized_type

Array = NDArray[Any]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Scale and zero-point: scalars, one per index of `axis`, or blocks along it (`block` > 0)."""

    scale: Array
    zero: Array | None
    axis: int
    block: int

    def quantized(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """Floats on the grid, in the integer type."""
        steps, zero = self._spread(self.scale, values), self._zero(values)
        low, high = integer_limits(dtype)
        with np.errstate(all="ignore"):
            found: Array = np.clip(np.rint(as_float64(values) / steps) + zero, low, high).astype(dtype)
        return found

    def dequantized(self, values: Array) -> Float64:
        """Integers as real numbers."""
        real = (as_float64(values) - self._zero(values)) * self._spread(self.scale, values)
        return np.asarray(real, np.float64)

    def _zero(self, values: Array) -> Array:
        return np.zeros(()) if self.zero is None else self._spread(self.zero, values)

    def _spread(self, part: Array, values: Array) -> Array:
        size = values.shape[self.axis] if values.ndim and part.size > 1 else 1
        return along_axis(as_float64(part), values.ndim, self.axis, size, self.block)


def level_type(node: NodeProto, zero: Array | None) -> np.dtype[Any]:
    """The type of what QuantizeLinear gives: that of its zero point, else the one it states, else uint8.

    A type that is none comes out as `object`.
    """
    if zero is not None:
        return zero.dtype
    stated = quantized_type(node)
    try:
        return numpy_dtype(stated) if stated else np.dtype(np.uint8)
    except KeyError:
        return np.dtype(object)


def along_axis(values: Array, rank: int, axis: int, size: int, block: int) -> Array:
    """Scale or zero-point, shaped to broadcast over a tensor of `rank` dimensions.

    `values` is a scalar, one per index of `axis` (length `size`), or blocked along it (block > 0).
    """
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    if values.ndim == 1:
        return values.reshape([size if i == axis % rank else 1 for i in range(rank)])
    # More repeats than there are places come to the same, and the file sets the number.
    return np.take(np.repeat(values, min(block, size), axis=axis), np.arange(size), axis=axis)


def integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The smallest and the largest integer of a type, those of less than 8 bits included.

    Raises:
        ValueError: it is no integer type.
    """
    import ml_dtypes

    limits: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(limits.min), int(limits.max)
