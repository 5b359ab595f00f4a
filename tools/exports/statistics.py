"""Normalisation parameters as training leaves them, for random networks (NumPy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OUTLIER, TIMES = 5, 12.0
"""The channel of the first convolution that is made to stand out, and how far."""

Float32 = NDArray[np.float32]


def normalisation(channels: int, seed: int, *, outlier: bool = False) -> tuple[Float32, Float32, Float32, Float32]:
    """gamma, beta, mean and variance, float32 (channels,) each; none is trivial, variances lie in 0.5..2."""
    rng = np.random.default_rng(seed)
    gamma, beta = rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.3, channels)
    mean, variance = rng.normal(0, 0.5, channels), rng.uniform(0.5, 2, channels)
    if outlier:
        gamma[OUTLIER] *= TIMES
    return tuple(each.astype(np.float32) for each in (gamma, beta, mean, variance))  # type: ignore[return-value]
