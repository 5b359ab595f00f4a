"""Largest eigenvalues of many small Hermitian matrices: a filter with a proof, LAPACK where the proof fails.

For a real batch the doubled Chebyshev polynomial C_p(x) = 2·T_p(x/2), p = 2^k, is applied to each matrix A, moved
and scaled so that [lower, upper], an interval guessed from trace and Frobenius norm, becomes [-2, 2]. There
|C_p| ≤ 2, above it C_p(2·cosh t) = 2·cosh(pt), and k squarings give it: C_2p = C_p² - 2. Where the largest
eigenvalue λ stands alone above the interval, the columns of B = C_p(A)² all but point along its eigenvector.

Proof, whatever the guess was. No eigenvalue of B is negative, so beside one of τ none exceeds tr B - τ. Let that be
at most τ/100 and τ at least 100·4. Then τ belongs to one eigenvalue of A; if that is above `upper` it is λ, C_p
being monotonic there, and all others stay below λ by at least half·(ln 10/p)²/2, as cosh grows by at least d²/2
over a step of d. A unit vector that lies by 99 % along λ's own, with Rayleigh quotient θ and residual r, then has
0 ≤ λ - θ ≤ r²/gap (Kato and Temple); accepted is a bound within the rounding of θ, n·1e-16. Wrong guesses and
clusters cost time, not accuracy.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Array = NDArray[Any]

_BATCHED_SIDE: Final = 96
_FILTERED_SIDES: Final = range(4, 65)
_FILTERED_ELEMENTS: Final = 2500  # in fewer the filter's two dozen calls cost more than LAPACK
_SHARE: Final = 0.01
_LEAST: Final = 1e-290  # a smaller sum of squares may have lost its digits
_ROUNDING: Final = float(np.finfo(np.float64).eps) / 2


def largest_eigenvalue(matrices: Array) -> Float64:
    """Largest eigenvalue of each Hermitian matrix of a batch.

    Args:
        matrices: shape (…, n, n), n ≥ 1, real or complex, finite.

    Returns:
        float64 of shape (…), to about n·1e-16 of the largest eigenvalue by size.
    """
    side = matrices.shape[-1]
    flat = matrices.reshape(-1, side, side)
    if side == 1:
        top = flat[:, 0, 0].real
    elif side > _BATCHED_SIDE:
        top = _one_by_one(flat)
    elif side in _FILTERED_SIDES and flat.size >= _FILTERED_ELEMENTS and flat.dtype == np.float64:
        top = _filtered(flat)
    else:
        top = np.linalg.eigvalsh(flat)[:, -1]
    return np.asarray(top, np.float64).reshape(matrices.shape[:-2])


def _one_by_one(matrices: Array) -> Float64:
    from scipy.linalg import eigh

    last = matrices.shape[-1] - 1
    return np.array([eigh(one, eigvals_only=True, subset_by_index=[last, last])[0] for one in matrices])


def _filtered(matrices: Float64) -> Float64:
    # Whatever overflows or is divided by zero is a number that proves nothing.
    with np.errstate(all="ignore"):
        top, proven = _by_filter(matrices)
    rest = np.flatnonzero(~proven)
    if len(rest):
        top[rest] = np.linalg.eigvalsh(matrices[rest])[:, -1]
    return top


def _by_filter(matrices: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """Rayleigh quotients, and where they are proven to be the largest eigenvalue."""
    side = matrices.shape[-1]
    doublings = _doublings(side)
    centre, half = _interval(matrices)
    vectors, alone = _dominant(_amplified(matrices, centre, half, doublings))
    images = np.matmul(matrices, vectors[:, :, None])[:, :, 0]
    lengths = np.vecdot(vectors, vectors)
    top = np.vecdot(vectors, images) / lengths
    images -= top[:, None] * vectors
    spacing = (math.log(_SHARE) / 2 ** (doublings + 1)) ** 2 / 2
    limit = (side * _ROUNDING * spacing) * half * top * lengths
    close = (np.vecdot(images, images) + _LEAST <= limit) & np.isfinite(limit)
    return top, alone & close & (top > centre + half)


def _doublings(side: int) -> int:
    """Squarings that prove most matrices: eigenvalues lie closer the more there are."""
    return min(side.bit_length() + 1, 6)


def _interval(matrices: Float64) -> tuple[Float64, Float64]:
    """Centre and half width of an interval meant to hold all eigenvalues but the largest.

    Mean and deviation of the eigenvalues come from the trace and the Frobenius norm; the factors suit Gram matrices
    of random and of trained kernels.
    """
    side = matrices.shape[-1]
    flat = matrices.reshape(len(matrices), -1)
    mean = np.einsum("oii->o", matrices) / side
    deviation = np.sqrt(np.vecdot(flat, flat) / side - mean * mean)
    upper = mean + min(0.42 * math.sqrt(side), 1.9) * deviation
    half = (upper - np.maximum(mean - 2 * deviation, 0.0)) / 2
    return upper - half, half


def _amplified(matrices: Float64, centre: Float64, half: Float64, doublings: int) -> Float64:
    """C_p² of each matrix, p = 2**doublings, its interval moved to [-2, 2]."""
    side = matrices.shape[-1]
    found, other = np.empty(matrices.shape), np.empty(matrices.shape)
    np.multiply(matrices, (2 / half)[:, None, None], out=found)
    diagonal, next_diagonal = (one.reshape(-1, side**2)[:, :: side + 1] for one in (found, other))
    diagonal -= (2 * centre / half)[:, None]
    for _ in range(doublings):
        np.matmul(found, found, out=other)
        next_diagonal -= 2
        found, other, diagonal, next_diagonal = other, found, next_diagonal, diagonal
    return np.matmul(found, found, out=other)


def _dominant(amplified: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """A vector near that of each matrix's largest eigenvalue τ, and whether τ dwarfs all others.

    Of Be, |Be|²/(e·Be) is a mean of eigenvalues and so no more than τ. Where it dwarfs all but one, the weight of
    that one in the mean, 99 %, is no more than its weight in Be.
    """
    count, side, _ = amplified.shape
    diagonal = amplified.reshape(count, -1)[:, :: side + 1]
    at = (np.arange(count), diagonal.argmax(axis=1))
    columns = amplified[at]
    top = np.vecdot(columns, columns) / diagonal[at]
    others = np.maximum(np.einsum("oii->o", amplified) - top, 4.0)
    vectors = np.matmul(amplified, columns[:, :, None] / top[:, None, None])
    return vectors[:, :, 0], others <= _SHARE * top
