"""The five forms of a trigger that are looked for, and how far each class stands out by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import Blend, invert_blend
from onnx_clp.inversion.patch import Patch, invert_patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import ENOUGH, JUDGING_BUDGET, STEPS, Trigger, invert
from onnx_clp.inversion.warp import Warp, invert_warp
from onnx_clp.inversion.wave import Wave, invert_wave

Form = Trigger | Patch | Blend | Warp | Wave
KINDS: Final = ("perturbation", "patch", "blend", "warp", "wave")
"""What the forms are called, in the order of `Forms.each`."""

_LEAST_FLIPS: Final = (0.5, ENOUGH, ENOUGH, ENOUGH, ENOUGH)
"""A form that turns fewer images than this share does not work, so a class cannot stand out by it."""
_LEAST_AREA: Final = 1e-3
_LEAST_LEAD: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """What was found for one class."""

    trigger: Trigger
    patch: Patch
    blend: Blend
    warp: Warp
    wave: Wave

    @property
    def target(self) -> int:
        """The class."""
        return self.trigger.target

    @property
    def flip(self) -> float:
        """The largest share of images that any form turns."""
        return max(form.flip for form in self.each)

    @property
    def each(self) -> Sequence[Form]:
        """In the order of `measures`' rows."""
        return self.trigger, self.patch, self.blend, self.warp, self.wave


def find_forms(attack: Attack, images: Images, target: int, pixels: Range, seed: int) -> Forms:
    """Look for every form of a trigger towards `target` on `images` of other classes."""
    start = invert(attack, images, target, pixels, seed).perturbation
    return Forms(
        invert(attack, images, target, pixels, seed, STEPS, JUDGING_BUDGET),
        invert_patch(attack, images, target, start, pixels),
        invert_blend(attack, images, target, pixels, seed),
        invert_warp(attack, images, target, seed),
        invert_wave(attack, images, target, start, pixels),
    )


def measures(found: list[Forms], lead: float, doubt: float = 1.0) -> finding.Float64:
    """How far each class stands out by each form, (5, classes), in robust standard deviations.

    Args:
        found: what was found for each class.
        lead: by how many logits the images' own class is ahead of the next, on average: what a margin is measured by.
        doubt: times the usual spread that is to be expected.
    """
    sizes = [[np.log(max(form.area, _LEAST_AREA)) for form in (f.patch, f.blend, f.warp, f.wave)] for f in found]
    ease = np.column_stack([[f.trigger.margin / max(lead, _LEAST_LEAD) for f in found], -np.array(sizes)]).T
    z = np.stack([finding.robust_z(row, doubt * spread) for row, spread in zip(ease, finding.SPREADS, strict=True)])
    flips = np.array([[form.flip for form in f.each] for f in found]).T
    works = flips >= np.array(_LEAST_FLIPS)[:, None]
    return np.where(works, z, np.minimum(z, 0.0))
