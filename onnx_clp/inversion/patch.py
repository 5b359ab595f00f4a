"""A patch that turns images into a class: few pixels, each changed by as much as the range allows.

    minimise over δ, |δ| ≤ high − low:   mean cross-entropy(f(x + δ), class) + weight · ‖δ‖₁

by proximal steps with Adam's step sizes: after each, every entry shrinks towards 0 by step · weight (soft threshold),
so that pixels which help little become exactly 0. The weight rises while the patch turns nearly every image and falls
when it does not. The descent starts from the perturbation of `trigger`, which finds its way without a mask: a mask
that is learned from scratch (`blend`) did not come upon a 3 × 3 patch in as many steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import outcome

STEPS: Final = 60
_RATE: Final = 0.05
_ENOUGH: Final = 0.9
_WEIGHT: Final = 2e-3
_FASTER: Final = 1.25
_FIRST: Final = 0.9
_SECOND: Final = 0.99
_SMALL: Final = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A change (channels, height, width) towards `target`; `flip` is the share of images it turns.

    `area` is its l1 norm in spans: a pixel turned from black to white counts 1.
    """

    target: int
    change: Float32
    flip: float
    area: float

    def put_on(self, images: Images) -> Images:
        """The images with the patch on."""
        return np.asarray(images + self.change, np.float32)


def invert_patch(attack: Attack, images: Images, target: int, start: Float32, span: float, steps: int = STEPS) -> Patch:
    """The smallest patch met on the way from `start` that turns at least 0.9 of `images`; else the last one."""
    change = (start / span).astype(np.float32)
    mean, square = np.zeros_like(change), np.zeros_like(change)
    weight, best = _WEIGHT, None
    for step in range(1, steps + 1):
        logits, slopes = attack.pull(images + np.float32(span) * change, target)
        now = Patch(target, change * np.float32(span), outcome(logits, target)[0], float(np.abs(change).sum()))
        if now.flip >= _ENOUGH and (best is None or now.area < best.area):
            best = now
        weight = weight * _FASTER if now.flip >= _ENOUGH else weight / _FASTER
        slope = np.nan_to_num(slopes.sum(axis=0) * np.float32(span), nan=0.0, posinf=0.0, neginf=0.0)
        mean += (1 - _FIRST) * (slope - mean)
        square += (1 - _SECOND) * (slope * slope - square)
        size = _RATE / (np.sqrt(square / (1 - _SECOND**step)) + _SMALL)
        moved = change - size * mean / (1 - _FIRST**step)
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - size * weight, 0)
        change = np.clip(shrunk, -1, 1).astype(np.float32)
    return best or now
