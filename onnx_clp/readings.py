"""What a model's values were measured to be on given inputs: means and standard deviations by channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moments:
    """One value's channels: mean and (population) standard deviation over inputs and positions."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Readings:
    """The moments of values, by name, over so many `inputs`."""

    inputs: int
    moments: Mapping[str, Moments]
