"""Channel affines, and folding them into a linear layer's weight and bias. All arithmetic is float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Array = NDArray[Any]

_BLOCK_ELEMENTS: Final = 1 << 17  # 1 MB of float64: stays in the processor's cache between its passes


@dataclass(frozen=True, slots=True, eq=False)
class ChannelAffine:
    """y[c] = scale[c]·x[c] + shift[c]; both float64 of shape (channels,)."""

    scale: Float64
    shift: Float64

    @property
    def is_finite(self) -> bool:
        """Whether every coefficient is a finite number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def then(self, outer: ChannelAffine) -> ChannelAffine:
        """This affine first, `outer` on its result."""
        return ChannelAffine(outer.scale * self.scale, outer.scale * self.shift + outer.shift)

    def part(self, start: int, count: int) -> ChannelAffine:
        """The affine of `count` channels from `start`."""
        return ChannelAffine(self.scale[start : start + count], self.shift[start : start + count])

    @classmethod
    def of_batchnorm(cls, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> ChannelAffine:
        """BatchNormalization at inference (ONNX operator, opset 1 to 15); arrays of shape (channels,).

        scale = gamma/sqrt(variance + epsilon), shift = beta - mean·scale. Not finite where variance ≤ -epsilon.
        """
        with np.errstate(all="ignore"):
            scale = _wide(gamma) / np.sqrt(_wide(variance) + epsilon)
            return cls(scale, _wide(beta) - _wide(mean) * scale)


def _wide(values: Array) -> Float64:
    return values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class KernelLayout:
    """How a weight's axes map to channels.

    Attributes:
        out_axis: axis that holds output channels (all of them, or those of one group).
        in_axis: the same for input channels.
        groups: number of groups; channels of axis `grouped_axis`' complement are counted per group.
        transposed: ConvTranspose order (in, out/groups, k...) rather than Conv's (out, in/groups, k...).
    """

    out_axis: int
    in_axis: int
    groups: int = 1
    transposed: bool = False


def kernels(weight: Array, layout: KernelLayout) -> Array:
    """The weight as (out_channels, in_channels/groups, prod(kernel)), the paper's reshaped kernels; a view or copy."""
    moved = np.moveaxis(weight, (layout.out_axis, layout.in_axis), (0, 1))
    flat = moved.reshape(moved.shape[0], moved.shape[1], math.prod(moved.shape[2:]))
    if layout.groups == 1 or not layout.transposed:
        return flat
    out_per_group, inputs, taps = flat.shape
    grouped = flat.reshape(out_per_group, layout.groups, inputs // layout.groups, taps)
    return grouped.transpose(1, 0, 2, 3).reshape(layout.groups * out_per_group, -1, taps)


def channel_factor(factor: Float64, shape: tuple[int, ...], layout: KernelLayout, *, output: bool) -> Float64:
    """A per-channel factor shaped to multiply a weight of `shape`.

    `factor` has one entry a channel, output channels (`output`) or input channels, over all groups.
    """
    axis, other = (layout.out_axis, layout.in_axis) if output else (layout.in_axis, layout.out_axis)
    per_group = layout.groups > 1 and output == layout.transposed
    if not per_group:
        return factor.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    # this axis counts channels of one group; the other axis runs through the groups
    table = np.repeat(factor.reshape(layout.groups, -1), shape[other] // layout.groups, axis=0)
    full = table if other < axis else table.T
    return full.reshape([shape[i] if i in (axis, other) else 1 for i in range(len(shape))])


def scale_weight(
    weight: Array,
    layout: KernelLayout,
    out_scale: Float64,
    in_scale: Float64 | None,
    zeroed: NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> Array:
    """W'[o,i] = out_scale[o]·in_scale[i]·W[o,i], exactly 0 where zeroed[o]; float64, cast once to `dtype`."""
    out = np.empty(weight.shape, dtype)
    start = 0
    for block in scaled_blocks(weight, layout, out_scale, in_scale, zeroed, dtype):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def scaled_blocks(
    weight: Array,
    layout: KernelLayout,
    out_scale: Float64,
    in_scale: Float64 | None,
    zeroed: NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> Iterator[Array]:
    """`scale_weight` in blocks along axis 0, in order; each is good until the next is asked for."""
    factors = [channel_factor(np.where(zeroed, 0.0, out_scale), weight.shape, layout, output=True)]
    if in_scale is not None:
        factors.append(channel_factor(in_scale, weight.shape, layout, output=False))
    silent = channel_factor(zeroed.astype(np.float64), weight.shape, layout, output=True) > 0
    rows = max(_BLOCK_ELEMENTS // max(math.prod(weight.shape[1:]), 1), 1)
    # Two buffers for all blocks: a page that is touched for the first time costs more than its arithmetic.
    wide = np.empty((min(rows, len(weight)), *weight.shape[1:]))
    narrow = np.empty(wide.shape, dtype)
    for start in range(0, len(weight), rows):
        here = slice(start, start + rows)
        count = len(weight[here])
        _scale_block(weight[here], [_rows(f, here) for f in factors], wide[:count])
        if zeroed.any():
            wide[:count][np.broadcast_to(_rows(silent, here), wide[:count].shape)] = 0.0
        with np.errstate(all="ignore"):
            narrow[:count] = wide[:count]
        yield narrow[:count]


def _rows(factor: Array, rows: slice) -> Array:
    return factor if len(factor) == 1 else factor[rows]


def _scale_block(values: Array, factors: list[Array], out: Float64) -> None:
    with np.errstate(all="ignore"):
        out[...] = values
        for factor in factors:
            out *= factor


def carry_shift(weight: Array, layout: KernelLayout, shift: Float64) -> Float64:
    """Σ_{i,k} W[o,i,k]·shift[i]: what a constant input of `shift[i]` on every position adds to output o.

    `shift` has one entry an input channel over all groups. Exact only where no input position is padding.
    """
    with np.errstate(all="ignore"):
        taps = kernels(weight, layout).astype(np.float64).sum(axis=2)
        outputs, per_group = taps.shape
        per_output = np.repeat(shift.reshape(layout.groups, per_group), outputs // layout.groups, axis=0)
        return np.asarray((taps * per_output).sum(axis=1))
