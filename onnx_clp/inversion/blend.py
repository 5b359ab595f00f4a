"""A picture blended into images that turns them into a class: x' = (1 − m)·x + m·p, the same m and p for all.

    minimise over m in 0..1 (height, width), p:   mean cross-entropy(f(x'), class) + weight · Σ m

by Adam on the logits of m and p. The weight rises while the blend turns nearly every image and falls when it does
not, so that the mask shrinks to what is needed (Neural Cleanse, Wang et al., S&P 2019). A mask that is faint all over
is a blend, one that is full in a corner a patch; small patches are found better by `patch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.document.search import Picture
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Adam, Float32
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import ENOUGH, Smallest, descended
from onnx_clp.inversion.trigger import outcome

STEPS: Final = 60
_RATE: Final = 0.3
_WEIGHT: Final = 1.0
_FASTER: Final = 1.2
_START: Final = -1.0


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """`mask` (height, width) in 0..1 and `pattern` (channels, height, width); `flip` is what it turns."""

    target: int
    mask: Float32
    pattern: Float32
    flip: float

    @property
    def area(self) -> float:
        """Sum of the mask, in pixels."""
        return float(self.mask.sum())

    def picture(self, pixels: Range) -> Picture:
        """The pattern on grey, as strong as the mask is against its largest entry."""
        middle = np.float32((pixels.low + pixels.high) / 2)
        shown = middle + self.mask / max(float(self.mask.max()), 1e-12) * (self.pattern - middle)
        return Picture.of(shown, pixels.low, pixels.high)

    def put_on(self, images: Images) -> Images:
        """The images with the picture blended in."""
        return np.asarray(images + self.mask * (self.pattern - images), np.float32)


class BlendDescent:
    """Shrinks the mask of a blend; arguments as for `invert_blend`."""

    def __init__(self, attack: Attack, images: Portions, target: int, pixels: Range, seed: int, steps: int) -> None:
        self._attack, self._images, self._target, self._pixels = attack, images, target, pixels
        rng = np.random.default_rng([seed, target, 1])
        channels, height, width = images.shape
        self._mask_logit = np.full((height, width), _START, np.float32)
        self._pattern_logit = rng.standard_normal((channels, height, width)).astype(np.float32)
        self._adam = Adam([self._mask_logit, self._pattern_logit], _RATE, steps)
        self._weight = _WEIGHT / (height * width)
        self._kept = Smallest[Blend](images)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        some, span = self._images.following(), np.float32(self._pixels.span)
        mask, unit = _sigmoid(self._mask_logit), _sigmoid(self._pattern_logit)
        pattern = np.float32(self._pixels.low) + span * unit
        logits, gradient = self._attack.pull(some + mask * (pattern - some), self._target)
        flip = self._images.turned(outcome(logits, self._target)[0])
        self._kept.meet(Blend(self._target, mask, pattern, flip))
        self._weight = self._weight * _FASTER if flip >= ENOUGH else self._weight / _FASTER
        by_mask = (gradient * (pattern - some)).sum(axis=(0, 1)) + np.float32(self._weight)
        by_pattern = (gradient * mask).sum(axis=0) * span
        self._adam.step([by_mask * mask * (1 - mask), by_pattern * unit * (1 - unit)])

    @property
    def form(self) -> Blend:
        """The smallest blend met by now that turns at least 0.9 of the images; where none did, the last one."""
        return self._kept.form


def invert_blend(attack: Attack, images: Images, target: int, pixels: Range, seed: int, steps: int = STEPS) -> Blend:
    """The smallest blend met on the way that turns at least 0.9 of `images`; where none does, the last one."""
    return descended(BlendDescent(attack, Portions(images), target, pixels, seed, steps), steps)


def _sigmoid(values: Float32) -> Float32:
    return np.asarray(1 / (1 + np.exp(-values)), np.float32)
