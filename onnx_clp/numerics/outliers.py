"""Which channels stand out in their layer: the threshold rule of the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_ROUNDING: Final = 1e-12
"""A spread this small against the mean is rounding, not difference: equal channels score equal to ~1e-15."""


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """A layer's scores against their threshold; `z` and `outlying` have one entry a channel."""

    mean: float
    std: float
    threshold: float
    z: Float64
    outlying: NDArray[np.bool_]


def too_few(channels: int, u: float) -> bool:
    """Whether `u` standard deviations are out of reach: one outlier among n lies at most (n-1)/sqrt(n) away."""
    return channels < 2 or (channels - 1) / math.sqrt(channels) <= u


def find_outliers(scores: Float64, u: float) -> Outliers:
    """Channels whose score exceeds mean + u·std (Zheng et al., ECCV 2022, equation 7), strictly.

    The std is unbiased (ddof = 1). Where all scores are equal up to rounding the std is 0 and none stands out.

    Args:
        scores: float64 of shape (channels,), all finite, at least one.
        u: number of standard deviations, above 0.
    """
    peak = float(np.abs(scores).max(initial=0.0)) or 1.0
    unit = scores / peak
    mean = float(unit.mean())
    std = float(unit.std(ddof=1)) if len(scores) > 1 else 0.0
    if std <= _ROUNDING * abs(mean):
        std = 0.0
    z = np.zeros(len(scores)) if std == 0 else (unit - mean) / std
    outlying = (unit > mean + u * std) & (std > 0)
    return Outliers(mean * peak, std * peak, (mean + u * std) * peak, z, outlying)
