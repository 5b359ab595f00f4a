"""A patch that turns images into a class: few pixels, each changed by as much as the range allows.

    minimise over δ, |δ| ≤ high − low:   mean cross-entropy(f(clip(x + δ)), class) + weight · ‖δ‖₁

by proximal steps (`descent.Shrinking`), so that pixels which help little become exactly 0. The weight rises while the
patch turns nearly every image and falls when it does not. The descent starts from the perturbation of `trigger`, which
finds its way without a mask: a mask that is learned from scratch (`blend`) did not come upon a 3 × 3 patch in as many
steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from onnx_clp.inversion.addition import Addition
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import ENOUGH, Smallest, descended
from onnx_clp.inversion.trigger import outcome

STEPS: Final = 60
_RATE: Final = 0.05
_WEIGHT: Final = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Patch(Addition):
    """A change (channels, height, width) towards `target`; `flip` is the share of images it turns.

    `area` is its l1 norm in spans: a pixel turned from black to white counts 1.
    """

    def of(self, change: Float32) -> Patch:
        """Another patch of the same class and range, known to turn half of the images."""
        return replace(self, change=change, flip=0.5, area=float(np.abs(change).sum() / self.pixels.span))


class PatchDescent:
    """Shrinks a patch from `start` (channels, height, width) on; arguments as for `invert_patch`."""

    def __init__(self, attack: Attack, images: Portions, target: int, start: Float32, pixels: Range) -> None:
        self._attack, self._images, self._target, self._pixels = attack, images, target, pixels
        self._span = np.float32(pixels.span)
        self._change = (start / self._span).astype(np.float32)
        self._descent = Shrinking(self._change, _RATE, _WEIGHT)
        self._kept = Smallest[Patch](images)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        span, pixels, change = self._span, self._pixels, self._change
        moved = self._images.following() + span * change
        logits, slopes = self._attack.pull(pixels.clipped(moved), self._target)
        flip = self._images.turned(outcome(logits, self._target)[0])
        self._kept.meet(Patch(self._target, change * span, flip, float(np.abs(change).sum()), pixels))
        self._descent.step(pixels.inward(moved, slopes).sum(axis=0) * span, flip >= ENOUGH)
        np.clip(change, -1, 1, out=change)

    @property
    def form(self) -> Patch:
        """The smallest patch met by now that turns at least 0.9 of the images; where none did, the last one."""
        return self._kept.form


def invert_patch(
    attack: Attack, images: Images, target: int, start: Float32, pixels: Range, steps: int = STEPS
) -> Patch:
    """The smallest patch met on the way from `start` that turns at least 0.9 of `images`; else the last one."""
    return descended(PatchDescent(attack, Portions(images), target, start, pixels), steps)
