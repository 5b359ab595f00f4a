"""One perturbation for all images that turns them into a class.

    minimise over δ, ‖δ‖₂ ≤ 0.1·√d·(high − low):   mean over images of cross-entropy(f(clip(x + δ)), class)

by Adam, projected after every step; d is the number of values of an image, and clip keeps pixels in their range
(`pixels`). Only images the model gives another class take part. A class that a trigger leads to needs far less of a
push than the others (Neural Cleanse, S&P 2019, there with a mask; universal perturbations, Moosavi-Dezfooli et al.,
CVPR 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.document.search import Picture
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Adam, Float32
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import descended

BUDGET: Final = 0.1
JUDGING_BUDGET: Final = 0.05
"""Of the perturbations that classes are compared by: so small that ordinary classes are hardly in reach."""
STEPS: Final = 25
MOST_IMAGES: Final = 60
_RATE: Final = 0.1
_START: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """A perturbation (channels, height, width) towards `target`.

    `flip` is the share of images it turns, `margin` the mean of the target's logit less the largest other.
    """

    target: int
    perturbation: Float32
    flip: float
    margin: float
    pixels: Range

    @property
    def area(self) -> float:
        """l2 norm of the perturbation."""
        return float(np.linalg.norm(self.perturbation))

    def picture(self, _pixels: Range) -> Picture:
        """The perturbation, its largest entry black or white."""
        reach = max(float(np.abs(self.perturbation).max()), 1e-12)
        return Picture.of(self.perturbation, -reach, reach)

    def put_on(self, images: Images) -> Images:
        """The images with the perturbation added, within the range of pixels."""
        return self.pixels.clipped(images + self.perturbation)


def others(images: Images, given: NDArray[np.int64], target: int, most: int = MOST_IMAGES) -> Images:
    """The first `most` of the images whose class is not the target."""
    chosen = images[given != target]
    return np.asarray(chosen[:most], np.float32)


class TriggerDescent:
    """Grows a perturbation; arguments as for `invert`."""

    def __init__(
        self, attack: Attack, images: Portions, target: int, pixels: Range, seed: int, steps: int, budget: float
    ) -> None:
        self._attack, self._images, self._target, self._pixels = attack, images, target, pixels
        rng = np.random.default_rng([seed, target])
        self._unit = (_START * rng.standard_normal(images.shape)).astype(np.float32)
        self._limit = budget * math.sqrt(math.prod(images.shape))
        self._adam = Adam([self._unit], _RATE, steps)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        span, unit = np.float32(self._pixels.span), self._unit
        moved = self._images.following() + span * unit
        _, gradient = self._attack.pull(self._pixels.clipped(moved), self._target)
        self._adam.step([self._pixels.inward(moved, gradient).sum(axis=0) * span])
        unit *= np.float32(min(1.0, self._limit / max(float(np.linalg.norm(unit)), 1e-12)))

    @property
    def form(self) -> Trigger:
        """The perturbation now, with what it does to all images."""
        change = np.float32(self._pixels.span) * self._unit
        logits = self._attack.logits(self._pixels.clipped(self._images.all + change))
        return Trigger(self._target, change, *outcome(logits, self._target), self._pixels)


def invert(
    attack: Attack,
    images: Images,
    target: int,
    pixels: Range,
    seed: int,
    steps: int = STEPS,
    budget: float = BUDGET,
) -> Trigger:
    """Find the perturbation on `images`, none of which should be of the target class.

    Args:
        attack: the model.
        images: (n, channels, height, width), n ≥ 1.
        target: the class.
        pixels: the range of pixel values.
        seed: of where the descent starts.
        steps: of descent.
        budget: largest l2 norm, in spans times √d.
    """
    return descended(TriggerDescent(attack, Portions(images), target, pixels, seed, steps, budget), steps)


def outcome(logits: Float32, target: int) -> tuple[float, float]:
    """(share of rows whose largest score is the target's, mean of its score less the largest other)."""
    rest = np.delete(logits, target, axis=1).max(axis=1)
    margins = logits[:, target] - rest
    return float((margins > 0).mean()), float(margins.mean())


def lead(logits: Float32) -> float:
    """By how much the largest score of a row is ahead of the next, on average over the rows."""
    ordered = np.sort(logits, axis=1)
    return float((ordered[:, -1] - ordered[:, -2]).mean())
