"""Adam (Kingma and Ba, ICLR 2015, algorithm 1) on NumPy arrays, with a rate that falls or with an l1 norm to shrink."""

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
_SECOND_SHRINKING: Final = 0.99
_FASTER: Final = 1.25


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


class Shrinking:
    """Minimises a loss and the l1 norm of one array, changed in place, by proximal steps of Adam's sizes.

    After each step every entry shrinks towards 0 by step size · weight (soft threshold), so that entries which help
    little become exactly 0. The weight rises while the loss is low enough and falls while it is not.

    With `together` above 0 it is groups that shrink: the entries along that many last axes, by their l2 norm (the group
    lasso, Yuan and Lin, 2006), which also take steps of one size.

    Args:
        values: the parameters, float32.
        rate: the learning rate, above 0.
        weight: of the norm, at the start.
        together: how many of the last axes a group spans.
    """

    def __init__(self, values: Float32, rate: float, weight: float, together: int = 0) -> None:
        self._values, self._rate, self._weight = values, rate, weight
        self._axes = tuple(range(-together, 0))
        self._entries = math.prod(values.shape[axis] for axis in self._axes)
        self._mean, self._square = np.zeros_like(values), np.zeros_like(self._of_groups(values))
        self._taken = 0

    def step(self, gradient: Float32, enough: bool) -> None:
        """One step against `gradient`; `enough` says whether the loss is low enough. Not finite counts as 0."""
        self._taken += 1
        self._weight = self._weight * _FASTER if enough else self._weight / _FASTER
        gradient = np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        self._mean += (1 - _FIRST) * (gradient - self._mean)
        self._square += (1 - _SECOND_SHRINKING) * (self._of_groups(gradient) - self._square)
        size = self._rate / (np.sqrt(self._square / (1 - _SECOND_SHRINKING**self._taken)) + _SMALL)
        moved = self._values - size * self._mean / (1 - _FIRST**self._taken)
        far = np.sqrt(self._of_groups(moved) * self._entries)
        self._values[...] = moved * (np.maximum(far - size * self._weight, 0) / np.maximum(far, _SMALL))

    def _of_groups(self, values: Float32) -> Float32:
        """The mean square of every group's entries; of one entry alone where nothing is grouped."""
        return np.asarray((values * values).mean(axis=self._axes, keepdims=True) if self._axes else values * values)
