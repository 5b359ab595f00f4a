"""What still works once a patch is undone: patches in the same place, looked for in the capped model.

What was found of a trigger is undone by any caps fitted against it, so that says nothing of the attacker's own patch.
But that one lies where the found ones do. So a descent has all pixels around them at its disposal, with no weight on
how many it takes, once from noise and once from what was found. What it finds in the capped model are directions that
the caps leave open. Where it finds nothing, little is left for the attacker's patch; a proof that is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Adam, Float32
from onnx_clp.inversion.forms import Finder
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range, grain
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import descended
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.validation.provider import Engine

STEPS: Final = 16
WORKS: Final = 0.1
"""What turns this share of the images or less counts as nothing; the attacker's patch is one of many in its place."""
_LARGEST: Final = 0.25
_RATE: Final = 0.25
_START: Final = 0.5
_SHARE: Final = 0.4


def around(patches: Sequence[Patch]) -> NDArray[np.bool_]:
    """The pixels (height, width) that a patch changes by 0.4 of its largest change or more, and those next to them.

    Next means a pixel away, or a 32nd of the image's smaller side.
    """
    from scipy.ndimage import maximum_filter

    found = [np.abs(patch.change).max(axis=0) for patch in patches]
    strong = np.any([far >= _SHARE * max(float(far.max()), 1e-12) for far in found], axis=0)
    side = 2 * grain(*found[0].shape) + 1
    return np.asarray(maximum_filter(strong, size=side, mode="constant"), np.bool_)


def spread(patches: Sequence[Patch]) -> bool:
    """Whether patches take up more than a quarter of the image.

    A change that may take so many pixels turns the images of any network, so that it turns them says nothing.
    """
    return bool(around(patches).mean() > _LARGEST)


class PlaceDescent:
    """Grows a change of the pixels of one place as far as the range allows.

    Args:
        attack: the model.
        images: of other classes than the target.
        target: the class.
        place: the pixels (height, width).
        start: what to begin with (channels, height, width), in spans.
        pixels: the range of pixel values.
    """

    def __init__(
        self,
        attack: Attack,
        images: Portions,
        target: int,
        place: NDArray[np.bool_],
        start: Float32,
        pixels: Range,
    ) -> None:
        self._attack, self._images, self._target, self._pixels = attack, images, target, pixels
        self._place = place.astype(np.float32)
        self._change = np.asarray(np.clip(start, -1, 1) * self._place, np.float32)
        self._adam = Adam([self._change], _RATE, STEPS)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        span = np.float32(self._pixels.span)
        moved = self._images.following() + span * self._change
        _, slopes = self._attack.pull(self._pixels.clipped(moved), self._target)
        self._adam.step([self._pixels.inward(moved, slopes).sum(axis=0) * span * self._place])
        np.clip(self._change, -1, 1, out=self._change)

    @property
    def form(self) -> Patch:
        """The change now, with what it does to all images."""
        change = np.float32(self._pixels.span) * self._change
        logits = self._attack.logits(self._pixels.clipped(self._images.all + change))
        flip = outcome(logits, self._target)[0]
        return Patch(self._target, change, flip, float(np.abs(self._change).sum()), self._pixels)


class Countering:
    """Looks for patches where others were found.

    Args:
        patches: what was found, the first by which the class stands out; at least one.
        images: of other classes than the patches lead to, at least one.
        finder: how large a portion of the images a step takes, and the seed of the noise.
        engine: where the model runs.
        deadline: when to stop; None for never.
    """

    def __init__(
        self,
        patches: Sequence[Patch],
        images: Images,
        finder: Finder,
        engine: Engine,
        deadline: Deadline | None = None,
    ) -> None:
        self._first, self._place, self._images = patches[0], around(patches), images
        self._engine, self._deadline, self._portion = engine, deadline, finder.portion
        self._rng = np.random.default_rng([finder.seed, self._first.target, 4])

    def __call__(self, subject: Subject) -> list[Patch]:
        """Those found in the subject, from noise and from the first patch; none where neither turns enough.

        Raises:
            TimeUp: the deadline is over.
        """
        attack, pixels = Attack(subject, self._engine, self._deadline), self._first.pixels
        noise = self._rng.uniform(-_START, _START, self._first.change.shape).astype(np.float32)
        found = [self._found(attack, start) for start in (noise, self._first.change / np.float32(pixels.span))]
        return found if max(patch.flip for patch in found) > WORKS else []

    def _found(self, attack: Attack, start: Float32) -> Patch:
        images = Portions(self._images, self._portion)
        descent = PlaceDescent(attack, images, self._first.target, self._place, start, self._first.pixels)
        return descended(descent, STEPS)
