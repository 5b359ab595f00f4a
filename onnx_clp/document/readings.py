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
    """The moments of values, by name, over so many `inputs`.

    `classes` is how many inputs the model gave each of its classes, where it has an output of class scores.
    """

    inputs: int
    moments: Mapping[str, Moments]
    classes: tuple[int, ...] = ()

    @property
    def narrow(self) -> bool:
        """Whether the inputs fall into so few classes that they hardly are what the model was made for.

        The effective number of classes, 1 / Σ share², lies below half of what as many inputs drawn evenly from all
        classes would have, about 1 / (1/classes + 1/inputs).
        """
        total = sum(self.classes)
        if total == 0:
            return False
        effective = total**2 / sum(count**2 for count in self.classes)
        return 2 * effective < 1 / (1 / len(self.classes) + 1 / total)
