"""The five forms of a trigger that are looked for, and how far each class stands out by each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from onnx_clp.inversion import blend, finding, patch, warp, wave
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import Blend, invert_blend
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pace import fewer
from onnx_clp.inversion.patch import Patch, invert_patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import ENOUGH, JUDGING_BUDGET, STEPS, Trigger, invert
from onnx_clp.inversion.warp import Warp, invert_warp
from onnx_clp.inversion.wave import Wave, invert_wave

Form = Trigger | Patch | Blend | Warp | Wave
KINDS: Final = ("perturbation", "patch", "blend", "warp", "wave")
"""What the forms are called, in the order in which they are looked for."""
STEPS_OF: Final[Mapping[str, int]] = {
    "perturbation": 2 * STEPS,
    "patch": patch.STEPS,
    "blend": blend.STEPS,
    "warp": warp.STEPS,
    "wave": wave.STEPS,
}
"""Steps of descent that a form takes."""
LEAST_STEPS: Final = 12

_LEAST_FLIPS: Final = {"perturbation": 0.5}
"""A form that turns fewer images than this share (else 0.9) does not work, so a class cannot stand out by it."""
_LEAST_AREA: Final = 1e-3
_LEAST_LEAD: Final = 1e-6


@dataclass(slots=True, eq=False)
class Forms:
    """What has been found for one class by now, by kind; `start` is where patches and waves begin."""

    target: int
    start: Float32 | None = None
    by_kind: dict[str, Form] = field(default_factory=dict)

    @property
    def flip(self) -> float:
        """The largest share of images that any form turns; 0 where none was looked for."""
        return max((form.flip for form in self.by_kind.values()), default=0.0)

    @property
    def margin(self) -> float:
        """The mean of the target's logit less the largest other under the perturbation."""
        found = self.by_kind["perturbation"]
        assert isinstance(found, Trigger)
        return found.margin


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """Looks for forms.

    Attributes:
        pixels: the range of pixel values.
        seed: of where descents start.
        factor: by which steps of descent are fewer than usual, above 0 and at most 1.
    """

    pixels: Range
    seed: int
    factor: float = 1.0

    def steps(self, kind: str) -> int:
        """Steps of descent for a form of that kind."""
        return fewer(STEPS_OF[kind], self.factor, LEAST_STEPS)

    def find(self, kind: str, attack: Attack, images: Images, forms: Forms) -> None:
        """Add the form of that kind towards `forms`' class, looked for on `images` of other classes."""
        target, steps = forms.target, self.steps(kind)
        if forms.start is None:
            started = invert(attack, images, target, self.pixels, self.seed, self.steps("perturbation") // 2)
            forms.start = started.perturbation
        forms.by_kind[kind] = self._found(kind, attack, images, target, steps, forms.start)

    def _found(self, kind: str, attack: Attack, images: Images, target: int, steps: int, start: Float32) -> Form:
        if kind == "perturbation":
            return invert(attack, images, target, self.pixels, self.seed, steps // 2, JUDGING_BUDGET)
        if kind == "patch":
            return invert_patch(attack, images, target, start, self.pixels, steps)
        if kind == "blend":
            return invert_blend(attack, images, target, self.pixels, self.seed, steps)
        if kind == "warp":
            return invert_warp(attack, images, target, self.seed, steps)
        return invert_wave(attack, images, target, start, self.pixels, steps)


def measures(found: Sequence[Forms], lead: float, doubt: float = 1.0) -> finding.Float64:
    """How far each class stands out by each form, (5, classes), in robust standard deviations.

    −inf where a form was not looked for, and for all in the row of one that fewer than 4 of more classes have.

    Args:
        found: what was found for each class.
        lead: by how many logits the images' own class is ahead of the next, on average: what a margin is measured by.
        doubt: times the usual spread that is to be expected.
    """
    z = np.full((len(KINDS), len(found)), -np.inf)
    for row, kind in enumerate(KINDS):
        have = [at for at, forms in enumerate(found) if kind in forms.by_kind]
        if len(have) >= min(finding.LEAST_CLASSES, len(found)):
            z[row, have] = _far(kind, [found[at].by_kind[kind] for at in have], lead, doubt * finding.SPREADS[row])
    return z


def _far(kind: str, forms: Sequence[Form], lead: float, spread: float) -> finding.Float64:
    """How far each of some classes stands out among them by a form of one kind."""
    z = finding.robust_z([_ease(form, lead) for form in forms], spread)
    works = np.array([form.flip for form in forms]) >= _LEAST_FLIPS.get(kind, ENOUGH)
    return np.where(works, z, np.minimum(z, 0.0))


def _ease(form: Form, lead: float) -> float:
    """The higher, the easier the class is to reach."""
    if isinstance(form, Trigger):
        return form.margin / max(lead, _LEAST_LEAD)
    return -float(np.log(max(form.area, _LEAST_AREA)))
