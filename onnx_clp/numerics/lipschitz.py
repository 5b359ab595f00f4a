"""Per-channel spectral norms: the paper's score, and what can be said for certain.

For one output channel, stride 1 and circular padding (Zheng et al., ECCV 2022, section 4, and the DFT of a
circular convolution):

    sigma ≤ ‖W‖_F ≤ exact ≤ sqrt(prod(kernel))·sigma

`sigma` is the paper's estimate, not a bound. `upper_bound` is a bound for any stride, dilation, zero padding
and for transposed convolutions. `exact_norm` is the norm of the circular operator on a grid of stated size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.numerics.eigenvalues import largest_eigenvalue
from onnx_clp.numerics.gram import fill_products, mirror

Float64 = NDArray[np.float64]
Array = NDArray[Any]

_CHUNK_ELEMENTS: Final = 1 << 21
_CACHED_ELEMENTS: Final = 1 << 18  # 2 MB of float64: stays in the processor's cache between its passes
_GRAM_ELEMENTS: Final = 1 << 16
_SQUARE_SAFE: Final = 1e100
GRID_POINTS: Final = {1: 256, 2: 32, 3: 16}
"""Smallest frequency grid of `exact_norm` per dimension, by number of spatial dimensions."""


def sigma(kernels: Array) -> Float64:
    """Largest singular value of each channel's kernel matrix; an estimate of its Lipschitz constant.

    Args:
        kernels: shape (out_channels, in_channels/groups, prod(kernel)), any float dtype.

    Returns:
        float64 of shape (out_channels,); NaN for a channel with a weight that is not finite.

    The Gram matrix of the smaller side gives sigma² as its largest eigenvalue, to about 1e-15 relative.
    """
    if 0 in kernels.shape:
        return np.zeros(len(kernels))
    out = np.empty(len(kernels))
    side = min(kernels.shape[1:])
    step = max(_GRAM_ELEMENTS // side**2, 1)
    grams = np.empty((min(step, len(kernels)), side, side))
    for start in range(0, len(kernels), step):
        part = kernels[start : start + step]
        out[start : start + step] = _sigma_part(part, grams[: len(part)])
    return out


def upper_bound(sigmas: Float64, taps: int) -> Float64:
    """sqrt(prod(kernel))·sigma: an upper bound of each channel's l2 gain, whatever stride, dilation or padding."""
    return np.asarray(math.sqrt(max(taps, 1)) * sigmas)


def _blocks(kernels: Array) -> Iterator[tuple[int, Float64]]:
    """The kernels in float64, a few channels at a time; each block is good until the next is asked for."""
    step = _channels_a_block(kernels)
    # One buffer for all blocks: a page that is touched for the first time costs more than its arithmetic.
    buffer = np.empty((min(step, len(kernels)), *kernels.shape[1:]))
    for start in range(0, len(kernels), step):
        block = buffer[: len(kernels) - start]
        block[...] = kernels[start : start + step]
        yield start, block


def _channels_a_block(kernels: Array) -> int:
    return max(_CACHED_ELEMENTS // math.prod(kernels.shape[1:]), 1)


def _sigma_part(kernels: Array, grams: Float64) -> Float64:
    with np.errstate(over="ignore", invalid="ignore"):
        for start, block in _blocks(kernels):
            fill_products(block, grams[start : start + len(block)])
        mirror(grams)
    energy = np.einsum("oii->o", grams)
    unsafe = np.flatnonzero(~((energy > 1 / _SQUARE_SAFE) & (energy < _SQUARE_SAFE)))
    units = np.ones(len(kernels))
    step = _channels_a_block(kernels)
    for start in range(0, len(unsafe), step):
        here = unsafe[start : start + step]
        grams[here], units[here] = _scaled_grams(kernels[here].astype(np.float64))
    return np.asarray(np.sqrt(np.maximum(largest_eigenvalue(grams), 0.0)) * units)


def _scaled_grams(block: Float64) -> tuple[Float64, Float64]:
    """Gram matrices of channels whose squares may leave float64's range, and the units they are divided by."""
    peak = np.abs(block).max(axis=(1, 2))
    finite = np.isfinite(peak)
    units = np.where(finite & (peak > 0), peak, 1.0)
    block[~finite] = 0.0
    block /= units[:, None, None]
    side = min(block.shape[1:])
    found = np.empty((len(block), side, side))
    fill_products(block, found)
    mirror(found)
    return found, np.where(finite, units, np.nan)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Spatial side of a convolution; every tuple has one entry a spatial dimension."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    transposed: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """Frequencies per dimension on which `exact_norm` looks; a multiple of the stride."""
        least = GRID_POINTS.get(len(self.kernel), 8)
        return tuple(
            -(-max(least, span) // stride) * stride for span, stride in zip(self.spans, self.strides, strict=True)
        )

    @property
    def spacing(self) -> tuple[int, ...]:
        """Dilations that matter: one coprime to the stride only permutes the frequencies."""
        pairs = zip(self.dilations, self.strides, strict=True)
        return tuple(1 if math.gcd(d, s) == 1 else d for d, s in pairs)

    @property
    def spans(self) -> tuple[int, ...]:
        """Extent of the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.spacing, strict=True))


def exact_norm(kernels: Array, geometry: Geometry) -> Float64:
    """Operator norm of each output channel with circular padding on `geometry.grid`.

    Exact on that grid; against the unbounded plane an estimate from below, closer the finer the grid.

    Args:
        kernels: shape (out_channels, in_channels/groups, prod(kernel)), any float dtype.
        geometry: kernel, strides, dilations; `transposed` for ConvTranspose.

    Returns:
        float64 of shape (out_channels,); NaN for a channel with a weight that is not finite.

    Convolution with stride s in d dimensions: exact² = max over the reduced grid of (1/s^d)·Σ over the s-fold
    aliases of ‖ŵ‖². Transposed: exact² = (1/s^d)·the largest eigenvalue, over input frequencies, of M*M with M
    the (s^d, inputs) matrix of ŵ at the aliases; with one input it is the convolution's, of which it is the adjoint.
    """
    if 0 in kernels.shape:
        return np.zeros(len(kernels))
    out = np.empty(len(kernels))
    budget = max(_CHUNK_ELEMENTS // (kernels.shape[1] * math.prod(geometry.grid)), 1)
    for start in range(0, len(kernels), budget):
        block = kernels[start : start + budget].astype(np.float64)
        peak = np.abs(block).max(axis=(1, 2))
        unit = np.where(np.isfinite(peak) & (peak > 0), peak, 1.0)
        block = np.nan_to_num(block / unit[:, None, None], nan=0.0, posinf=0.0, neginf=0.0)
        norms = _exact_block(block, geometry) * unit
        out[start : start + len(block)] = np.where(np.isfinite(peak), norms, np.nan)
    return out


def _exact_block(block: Float64, geometry: Geometry) -> Float64:
    from scipy import fft

    outputs, inputs = block.shape[:2]
    spatial = tuple(range(2, 2 + len(geometry.kernel)))
    dilated = np.zeros((outputs, inputs, *geometry.spans))
    dilated[(slice(None), slice(None), *(slice(None, None, d) for d in geometry.spacing))] = block.reshape(
        outputs, inputs, *geometry.kernel
    )
    spectrum = fft.fftn(dilated, geometry.grid, axes=spatial)
    aliases = _split_aliases(spectrum, geometry.strides)  # (outputs, inputs, aliases, reduced grid)
    if not geometry.transposed:
        energy = (aliases.real**2 + aliases.imag**2).sum(axis=(1, 2)) / math.prod(geometry.strides)
        return np.asarray(np.sqrt(energy.max(axis=1)))
    matrices = aliases.transpose(0, 3, 2, 1)  # (outputs, frequencies, aliases, inputs)
    adjoint = matrices.conj().swapaxes(-1, -2)
    tall = matrices.shape[-2] > matrices.shape[-1]
    squares = adjoint @ matrices if tall else matrices @ adjoint
    energies = np.maximum(largest_eigenvalue(squares).max(axis=1), 0.0)
    return np.asarray(np.sqrt(energies / math.prod(geometry.strides)))


def _split_aliases(spectrum: Array, strides: Sequence[int]) -> Array:
    """(o, i, n1…nd) as (o, i, s1·…·sd, (n1/s1)·…·(nd/sd)): frequencies a stride folds onto each other."""
    head = spectrum.shape[:2]
    split: list[int] = []
    for points, stride in zip(spectrum.shape[2:], strides, strict=True):
        split += [stride, points // stride]
    count = len(strides)
    order = [2 + 2 * i for i in range(count)] + [3 + 2 * i for i in range(count)]
    moved = spectrum.reshape(*head, *split).transpose(0, 1, *order)
    return moved.reshape(*head, math.prod(strides), -1)
