"""The four forms of a trigger that are looked for, and how far each class stands out by each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import Blend, invert_blend
from onnx_clp.inversion.patch import Patch, invert_patch
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import JUDGING_BUDGET, STEPS, Trigger, invert
from onnx_clp.inversion.warp import Warp, invert_warp

Form = Trigger | Patch | Blend | Warp
KINDS: Final = ("perturbation", "patch", "blend", "warp")
"""What the forms are called, in the order of `Forms.each`."""

_LEAST_FLIP: Final = 0.5
"""A form that turns fewer images than this share does not work, so a class cannot stand out by it."""


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """The range of pixel values."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """high − low."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """What was found for one class."""

    trigger: Trigger
    patch: Patch
    blend: Blend
    warp: Warp

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
        return self.trigger, self.patch, self.blend, self.warp


def find_forms(attack: Attack, images: Images, target: int, pixels: Range, seed: int) -> Forms:
    """Look for every form of a trigger towards `target` on `images` of other classes."""
    start = invert(attack, images, target, pixels.span, seed).perturbation
    return Forms(
        invert(attack, images, target, pixels.span, seed, STEPS, JUDGING_BUDGET),
        invert_patch(attack, images, target, start, pixels.span),
        invert_blend(attack, images, target, pixels.low, pixels.high, seed),
        invert_warp(attack, images, target, seed),
    )


def find_again(form: Form, attack: Attack, images: Images, pixels: Range, seed: int) -> Form:
    """Look for the same form once more, against the model as it is now."""
    if isinstance(form, Blend):
        return invert_blend(attack, images, form.target, pixels.low, pixels.high, seed)
    if isinstance(form, Warp):
        return invert_warp(attack, images, form.target, seed)
    start = invert(attack, images, form.target, pixels.span, seed).perturbation
    if isinstance(form, Patch):
        return invert_patch(attack, images, form.target, start, pixels.span)
    return invert(attack, images, form.target, pixels.span, seed, STEPS, JUDGING_BUDGET)


def measures(found: list[Forms]) -> finding.Float64:
    """How far each class stands out by each form, (4, classes), in robust standard deviations."""
    rows = [finding.robust_z([f.trigger.margin for f in found])]
    for areas in ([f.patch.area for f in found], [f.blend.area for f in found], [f.warp.area for f in found]):
        rows.append(-finding.robust_z([float(np.log(max(area, 1e-3))) for area in areas]))
    works = np.array([[form.flip >= _LEAST_FLIP for form in f.each] for f in found]).T
    return np.where(works, np.stack(rows), np.minimum(np.stack(rows), 0.0))
