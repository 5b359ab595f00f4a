"""The forms of a trigger that are looked for, a row each, and how far each class stands out by each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from onnx_clp.document.search import Picture
from onnx_clp.inversion import blend, finding, patch, warp, wave
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import BlendDescent
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pace import fewer
from onnx_clp.inversion.patch import Patch, PatchDescent
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import SIZE, Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.screen import Lead, Turning
from onnx_clp.inversion.smallest import ENOUGH, Best, Descent, Sized, descended
from onnx_clp.inversion.trigger import BUDGET, JUDGING_BUDGET, STEPS, Trigger, TriggerDescent
from onnx_clp.inversion.warp import WarpDescent
from onnx_clp.inversion.wave import WaveDescent


class TriggerForm(Sized, Protocol):
    """What was found of a trigger."""

    @property
    def target(self) -> int:
        """The class that it leads to."""

    def put_on(self, images: Images) -> Images:
        """The images with it on."""

    def picture(self, pixels: Range) -> Picture:
        """What it looks like to people, where `pixels` is the range of pixel values."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a descent has: the model, images of other classes than the target, where to start, how many steps to take.

    `block` is where patches start as well, if a small block turns images by itself.
    """

    attack: Attack
    portions: Portions
    target: int
    start: Float32
    block: Float32 | None
    pixels: Range
    seed: int
    steps: int


@dataclass(frozen=True, slots=True)
class FormKind:
    """One row of the table of forms.

    Attributes:
        name: what it is called in reports.
        steps: of descent that it takes.
        spread: standard deviation, over classes that no trigger leads to, of how easy they are to reach by it
            (docs/inversion.md says of what).
        words: what of it is smaller towards a class that stands out.
        descent: begins one.
    """

    name: str
    steps: int
    spread: float
    words: str
    descent: Callable[[Scene], Descent[TriggerForm]]


def _trigger(scene: Scene, budget: float = JUDGING_BUDGET) -> TriggerDescent:
    return TriggerDescent(
        scene.attack, scene.portions, scene.target, scene.pixels, scene.seed, scene.steps // 2, budget
    )


def _patch(scene: Scene) -> Descent[Patch]:
    usual = PatchDescent(scene.attack, scene.portions, scene.target, scene.start, scene.pixels)
    if scene.block is None:
        return usual
    return Best(PatchDescent(scene.attack, scene.portions.again(), scene.target, scene.block, scene.pixels), usual)


def _blend(scene: Scene) -> BlendDescent:
    return BlendDescent(scene.attack, scene.portions, scene.target, scene.pixels, scene.seed, scene.steps)


def _warp(scene: Scene) -> WarpDescent:
    return WarpDescent(scene.attack, scene.portions, scene.target, scene.seed)


def _wave(scene: Scene) -> WaveDescent:
    return WaveDescent(scene.attack, scene.portions, scene.target, scene.start, scene.pixels)


FORMS: Final = (
    FormKind("perturbation", 2 * STEPS, 0.21, "a smaller perturbation", _trigger),
    FormKind("patch", patch.STEPS, 0.27, "a smaller patch", _patch),
    FormKind("blend", blend.STEPS, 0.45, "a fainter blend", _blend),
    FormKind("warp", warp.STEPS, 0.36, "a slighter warp", _warp),
    FormKind("wave", wave.STEPS, 0.65, "a fainter wave", _wave),
)
"""The forms in the order in which they are looked for; the first one's descent comes twice, as others start from it."""
KINDS: Final = tuple(one.name for one in FORMS)
STEPS_OF: Final[Mapping[str, int]] = {one.name: one.steps for one in FORMS}
WORDS: Final = tuple(one.words for one in FORMS)
LEAST_STEPS: Final = 12

_LEAST_FLIPS: Final = {"perturbation": 0.5}
"""A form that turns fewer images than this share (else 0.9) does not work, so a class cannot stand out by it."""
_LEAST_AREA: Final = 1e-3
_LEAST_LEAD: Final = 1e-6


@dataclass(slots=True, eq=False)
class Forms:
    """What has been found for one class by now, by kind; `start` is where patches and waves begin.

    `block` is where the patch begins as well, if a small block turns images by itself.
    `marks` are random ones that turn images by themselves, the best first; `lead` says that such name the class.
    `early` holds what had been found when the first heat was over, by kind.
    """

    target: int
    start: Float32 | None = None
    by_kind: dict[str, TriggerForm] = field(default_factory=dict)
    early: dict[str, TriggerForm] = field(default_factory=dict)
    block: Float32 | None = None
    marks: Sequence[Turning] = ()
    lead: Lead | None = None

    def whole(self, kind: str) -> bool:
        """Whether the form of that kind was looked for to the end."""
        return self.early.get(kind) is not self.by_kind[kind]

    def first(self, kind: str) -> TriggerForm:
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

    @property
    def share(self) -> float:
        """The share (0..1) of the usual work that it does for a form."""
        return self.factor * min(self.portion / SIZE, 1.0)

    def steps(self, kind: str) -> int:
        """Steps of descent for a form of that kind."""
        return fewer(STEPS_OF[kind], self.factor, LEAST_STEPS)

    def own_steps(self, kind: str) -> int:
        """Of these, those of the descent to the form itself, not to where it starts."""
        return self.steps(kind) // (2 if kind == KINDS[0] else 1)

    def find(self, kind: str, attack: Attack, images: Images, forms: Forms) -> None:
        """Add the form of that kind towards `forms`' class, looked for on `images` of other classes."""
        forms.by_kind[kind] = descended(self.descent(kind, attack, images, forms), self.own_steps(kind))

    def descent(self, kind: str, attack: Attack, images: Images, forms: Forms) -> Descent[TriggerForm]:
        """A descent towards the form of that kind; before the first of a class comes one to where others start."""
        steps = self.steps(KINDS[0])
        if forms.start is None:
            nowhere = np.zeros(0, np.float32)
            scene = self._scene(attack, images, forms, nowhere, steps)
            forms.start = descended(_trigger(scene, BUDGET), steps // 2).perturbation
        row = FORMS[KINDS.index(kind)]
        return row.descent(self._scene(attack, images, forms, forms.start, self.steps(kind)))

    def _scene(self, attack: Attack, images: Images, forms: Forms, start: Float32, steps: int) -> Scene:
        portions = self._portions(images)
        return Scene(attack, portions, forms.target, start, forms.block, self.pixels, self.seed, steps)

    def _portions(self, images: Images) -> Portions:
        return Portions(images, self.portion)


def measures(found: Sequence[Forms], lead: float, doubt: float = 1.0) -> finding.Float64:
    """How far each class stands out by each form, (forms, classes), in robust standard deviations.

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
            z[row, compared] = _far(kind, forms, lead, doubt * FORMS[row].spread)
    return z


def _far(kind: str, forms: Sequence[TriggerForm], lead: float, spread: float) -> finding.Float64:
    """How far each of some classes stands out among them by a form of one kind."""
    z = finding.robust_z([_ease(form, lead) for form in forms], spread)
    works = np.array([form.flip for form in forms]) >= _LEAST_FLIPS.get(kind, ENOUGH)
    return np.where(works, z, np.minimum(z, 0.0))


def _ease(form: TriggerForm, lead: float) -> float:
    """The higher, the easier the class is to reach."""
    if isinstance(form, Trigger):
        return form.margin / max(lead, _LEAST_LEAD)
    return -float(np.log(max(form.area, _LEAST_AREA)))


def backed(found: Sequence[Forms]) -> list[int]:
    """Positions of the classes that a small block turns images into by itself or marks lead to: no ordinary ones."""
    return [at for at, forms in enumerate(found) if forms.block is not None or forms.lead is not None]


def furthest(found: Sequence[Forms], z: finding.Float64, place: int) -> TriggerForm:
    """Of the class at `place` the form by which it stands out most."""
    return found[place].by_kind[KINDS[int(z[:, place].argmax())]]


def beyond(found: Sequence[Forms], z: finding.Float64, place: int) -> list[TriggerForm]:
    """Of the class at `place` the form by which it stands out most, and then the others beyond the limit."""
    rows = [int(row) for row in np.argsort(-z[:, place], kind="stable")]
    chosen = [row for at, row in enumerate(rows) if at == 0 or z[row, place] > finding.LIMIT]
    return [found[place].by_kind[KINDS[row]] for row in chosen]
