"""Moments of a normal variable cut at two limits: what a channel is on average behind its Relu or Clip.

    E[clip(X, low, high)],  Var[clip(X, low, high)]        X ~ N(mean, std²)

In closed form, from the censored normal distribution's first two moments (Greene, Econometric Analysis, theorem 19.2,
for both ends). Exact for a normal X; a channel of a network is only nearly normal, so of a channel it is an estimate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_LEAST_STD = 1e-12


def clipped_moments(mean: Float64, std: Float64, low: float, high: float) -> tuple[Float64, Float64]:
    """Mean and variance of clip(X, low, high), both float64 of the shape of `mean`.

    Args:
        mean, std: of X, finite; a std of 0 stands for a constant.
        low, high: the limits, ascending; infinite where there is none.
    """
    spread = np.maximum(std, _LEAST_STD)
    below, above = _standing(low, mean, spread), _standing(high, mean, spread)
    inside = _share(above) - _share(below)
    first = mean * inside - spread * (_density(above) - _density(below))
    second = (mean**2 + spread**2) * inside
    second -= spread * (_edge(high, mean, above) - _edge(low, mean, below))
    for limit, share in ((low, _share(below)), (high, 1.0 - _share(above))):
        if math.isfinite(limit):
            first, second = first + limit * share, second + limit**2 * share
    first = np.clip(first, low, high)
    return first, np.maximum(second - first**2, 0.0)


def _standing(limit: float, mean: Float64, std: Float64) -> Float64:
    return (limit - mean) / std if math.isfinite(limit) else np.full(mean.shape, limit)


def _share(z: Float64) -> Float64:
    """The standard normal distribution function."""
    return np.asarray([0.5 * math.erfc(-one / math.sqrt(2)) for one in z.flat], np.float64).reshape(z.shape)


def _density(z: Float64) -> Float64:
    return np.asarray(np.exp(-0.5 * np.minimum(np.abs(z), 1e8) ** 2) / math.sqrt(2 * math.pi))


def _edge(limit: float, mean: Float64, z: Float64) -> Float64:
    return (mean + limit) * _density(z) if math.isfinite(limit) else np.zeros(mean.shape)
