"""Adam (Kingma and Ba, ICLR 2015, algorithm 1) on NumPy arrays, with a learning rate that falls like a cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_FIRST: Final = 0.9
_SECOND: Final = 0.999
_SMALL: Final = 1e-8


class Adam:
    """Minimises over `values`, float32 arrays that are changed in place.

    Args:
        values: the parameters.
        rate: the learning rate of the first step, above 0.
        steps: how many steps will be taken; with `falling` the rate ends at a twentieth of the first.
        falling: whether the rate falls.
    """

    def __init__(self, values: Sequence[Float32], rate: float, steps: int, *, falling: bool = False) -> None:
        self._values = values
        self._rate, self._steps, self._falling = rate, max(steps, 1), falling
        self._mean = [np.zeros_like(v) for v in values]
        self._square = [np.zeros_like(v) for v in values]
        self._taken = 0

    def step(self, gradients: Sequence[Float32]) -> None:
        """One step against `gradients`, shaped like the parameters; values that are not finite count as 0."""
        rate = self._now()
        self._taken += 1
        first, second = 1 - _FIRST**self._taken, 1 - _SECOND**self._taken
        for value, gradient, mean, square in zip(self._values, gradients, self._mean, self._square, strict=True):
            gradient = np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
            mean += (1 - _FIRST) * (gradient - mean)
            square += (1 - _SECOND) * (gradient * gradient - square)
            value -= (rate / first) * mean / (np.sqrt(square / second) + _SMALL)

    def _now(self) -> float:
        if not self._falling:
            return self._rate
        lowest = self._rate / 20
        return lowest + (self._rate - lowest) * (1 + math.cos(math.pi * self._taken / self._steps)) / 2
