"""A patch that turns images into a class: few pixels, each changed by as much as the range allows.

    minimise over δ, |δ| ≤ high − low:   mean cross-entropy(f(clip(x + δ)), class) + weight · ‖δ‖₁

by proximal steps (`descent.Shrinking`), so that pixels which help little become exactly 0. The weight rises while the
patch turns nearly every image and falls when it does not. The descent starts from the perturbation of `trigger`, which
finds its way without a mask: a mask that is learned from scratch (`blend`) did not come upon a 3 × 3 patch in as many
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion.addition import Addition
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import ENOUGH, outcome

STEPS: Final = 60
_RATE: Final = 0.05
_WEIGHT: Final = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Patch(Addition):
    """A change (channels, height, width) towards `target`; `flip` is the share of images it turns.

    `area` is its l1 norm in spans: a pixel turned from black to white counts 1.
    """


def invert_patch(
    attack: Attack, images: Images, target: int, start: Float32, pixels: Range, steps: int = STEPS
) -> Patch:
    """The smallest patch met on the way from `start` that turns at least 0.9 of `images`; else the last one."""
    span = np.float32(pixels.span)
    change = (start / span).astype(np.float32)
    descent = Shrinking(change, _RATE, _WEIGHT)
    best: Patch | None = None
    for _ in range(steps):
        moved = images + span * change
        logits, slopes = attack.pull(pixels.clipped(moved), target)
        now = Patch(target, change * span, outcome(logits, target)[0], float(np.abs(change).sum()), pixels)
        enough = now.flip >= ENOUGH
        if enough and (best is None or now.area < best.area):
            best = now
        descent.step(pixels.inward(moved, slopes).sum(axis=0) * span, enough)
        np.clip(change, -1, 1, out=change)
    return best or now
