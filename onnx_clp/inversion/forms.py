"""The five forms of a trigger that are looked for, and how far each class stands out by each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from onnx_clp.inversion import blend, finding, patch, warp, wave
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import Blend, BlendDescent
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pace import fewer
from onnx_clp.inversion.patch import Patch, PatchDescent
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import SIZE, Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import ENOUGH, Descent, descended
from onnx_clp.inversion.trigger import BUDGET, JUDGING_BUDGET, STEPS, Trigger, TriggerDescent
from onnx_clp.inversion.warp import Warp, WarpDescent
from onnx_clp.inversion.wave import Wave, WaveDescent

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
    """What has been found for one class by now, by kind; `start` is where patches and waves begin.

    `block` is where the patch begins instead, if a small block turns images by itself.
    `early` holds what had been found when the first heat was over, by kind.
    """

    target: int
    start: Float32 | None = None
    by_kind: dict[str, Form] = field(default_factory=dict)
    early: dict[str, Form] = field(default_factory=dict)
    block: Float32 | None = None

    def whole(self, kind: str) -> bool:
        """Whether the form of that kind was looked for to the end."""
        return self.early.get(kind) is not self.by_kind[kind]

    def first(self, kind: str) -> Form:
        """The form of that kind as it was after the first heat."""
        return self.early.get(kind, self.by_kind[kind])

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
        portion: images that a step takes.
    """

    pixels: Range
    seed: int
    factor: float = 1.0
    portion: int = SIZE

    def steps(self, kind: str) -> int:
        """Steps of descent for a form of that kind."""
        return fewer(STEPS_OF[kind], self.factor, LEAST_STEPS)

    def own_steps(self, kind: str) -> int:
        """Of these, those of the descent to the form itself, not to where it starts."""
        return self.steps(kind) // (2 if kind == KINDS[0] else 1)

    def find(self, kind: str, attack: Attack, images: Images, forms: Forms) -> None:
        """Add the form of that kind towards `forms`' class, looked for on `images` of other classes."""
        forms.by_kind[kind] = descended(self.descent(kind, attack, images, forms), self.own_steps(kind))

    def descent(self, kind: str, attack: Attack, images: Images, forms: Forms) -> Descent[Form]:
        """A descent towards the form of that kind; before the first of a class comes one to where others start."""
        target, half = forms.target, self.steps(KINDS[0]) // 2
        if forms.start is None:
            started = self._trigger(attack, images, target, half, BUDGET)
            forms.start = descended(started, half).perturbation
        if kind == "perturbation":
            return self._trigger(attack, images, target, half, JUDGING_BUDGET)
        portions = self._portions(images)
        if kind == "patch":
            start = forms.start if forms.block is None else forms.block
            return PatchDescent(attack, portions, target, start, self.pixels)
        if kind == "blend":
            return BlendDescent(attack, portions, target, self.pixels, self.seed, self.steps(kind))
        if kind == "warp":
            return WarpDescent(attack, portions, target, self.seed)
        return WaveDescent(attack, portions, target, forms.start, self.pixels)

    def _trigger(self, attack: Attack, images: Images, target: int, steps: int, budget: float) -> TriggerDescent:
        return TriggerDescent(attack, self._portions(images), target, self.pixels, self.seed, steps, budget)

    def _portions(self, images: Images) -> Portions:
        return Portions(images, self.portion)


def measures(found: Sequence[Forms], lead: float, doubt: float = 1.0) -> finding.Float64:
    """How far each class stands out by each form, (5, classes), in robust standard deviations.

    −inf where a form was not looked for, and for all in the row of one that fewer than 4 of more classes have. What is
    compared took as many steps: the forms of classes that went on after the first heat, or, if these are fewer than 4,
    all as they were then.

    Args:
        found: what was found for each class.
        lead: by how many logits the images' own class is ahead of the next, on average: what a margin is measured by.
        doubt: times the usual spread that is to be expected.
    """
    z = np.full((len(KINDS), len(found)), -np.inf)
    for row, kind in enumerate(KINDS):
        have = [at for at, forms in enumerate(found) if kind in forms.by_kind]
        whole = [at for at in have if found[at].whole(kind)]
        compared = whole if len(whole) >= min(finding.LEAST_CLASSES, len(found)) else have
        if len(compared) >= min(finding.LEAST_CLASSES, len(found)):
            forms = [found[at].by_kind[kind] if compared is whole else found[at].first(kind) for at in compared]
            z[row, compared] = _far(kind, forms, lead, doubt * finding.SPREADS[row])
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
