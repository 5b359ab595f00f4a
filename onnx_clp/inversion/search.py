"""The order of a search: read > images > a trigger for every class > which stands out > undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.errors import UsageError
from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.patch import Patch, invert_patch
from onnx_clp.inversion.repair import repair
from onnx_clp.inversion.request import ClassResult, Found, Images, ImagesMade, Picture, Repair, SearchRequest
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.supplied import read_images
from onnx_clp.inversion.synthesis import Synthesiser
from onnx_clp.inversion.trigger import BUDGET, STEPS, Trigger, invert, others
from onnx_clp.validation.provider import Engine

Tick = Callable[[str, int, int], None]

_SHEET: Final = 40
_MANY_CLASSES: Final = 20
_FULL_CLASSES: Final = 10
_CHEAP_STEPS: Final = 8
_JUDGING_BUDGET: Final = 0.05
"""Of the perturbations that classes are compared by: so small that ordinary classes are out of reach."""
_FEWEST_OTHERS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """The images of a search and where they come from."""

    images: Images
    made: ImagesMade
    low: float
    high: float

    @property
    def span(self) -> float:
        """high − low of pixel values."""
        return self.high - self.low


def search(request: SearchRequest, engine: Engine, tick: Tick) -> Found:
    """Carry out one search.

    Raises:
        UsageError: the model, the images or an option do not fit.
        UnsupportedModelError: an operator has no gradient, or the runtime refuses the graph.
        NotValidated: there is not enough memory.
    """
    original = read_subject(request.original, request.shapes, request.output_name)
    folded = original
    if request.folded is not None:
        folded = read_subject(request.folded, request.shapes, request.output_name)
    attack = Attack(folded, engine, request.sites if request.repair else ())
    pictures = _images(request, original, attack, engine, tick)
    given = attack.logits(pictures.images).argmax(axis=1)
    classes = attack.logits(pictures.images[:1]).shape[1]
    if not request.invert:
        return Found(classes, attack.provider, pictures.made, (), None, "", None, "")
    triggers, patches = _each_class(request, attack, pictures, given, classes, tick)
    margin_z, patch_z = _measures(triggers, patches)
    flips = [max(t.flip, p.flip) for t, p in zip(triggers, patches, strict=True)]
    place = finding.likely(margin_z, patch_z, flips)
    best = int(np.argmax(np.maximum(margin_z, patch_z)))
    said = finding.sentence(classes, triggers[best].target, margin_z, patch_z, None)
    if place is not None:
        said = finding.sentence(classes, triggers[place].target, margin_z, patch_z, place)
    fixed, note = _repair(request, attack, pictures, given, None if place is None else triggers[place], tick)
    results = [
        _result(t, p, float(mz), float(pz), pictures)
        for t, p, mz, pz in zip(triggers, patches, margin_z, patch_z, strict=True)
    ]
    likely = None if place is None else triggers[place].target
    return Found(classes, attack.provider, pictures.made, tuple(results), likely, said, fixed, note)


def _images(
    request: SearchRequest, original: Subject, attack: Attack, engine: Engine, tick: Tick
) -> _Pictures:
    if request.images is not None:
        images = read_images(request.images, original.shape, request.count)
        low, high = min(request.low, float(images.min())), max(request.high, float(images.max()))
        return _Pictures(images, ImagesMade("data", len(images), 0, None, None, _sheet(images, low, high)), low, high)
    low, high = request.low, request.high
    maker = Synthesiser(original, engine)
    made = maker.make(request.count, maker.classes(), low, high, request.seed, tick)
    fit = float((attack.logits(made.images).argmax(axis=1) == made.classes).mean())
    source = "statistics" if made.statistics else "classes"
    facts = ImagesMade(
        source, len(made.images), made.statistics, made.mismatch, fit, _sheet(made.images, low, high)
    )
    return _Pictures(made.images, facts, low, high)


def _sheet(images: Images, low: float, high: float) -> tuple[Picture, ...]:
    return tuple(Picture.of(image, low, high) for image in images[:_SHEET])


def _each_class(
    request: SearchRequest,
    attack: Attack,
    pictures: _Pictures,
    given: NDArray[np.int64],
    classes: int,
    tick: Tick,
) -> tuple[list[Trigger], list[Patch]]:
    chosen = [c for c in range(classes) if len(others(pictures.images, given, c)) >= _FEWEST_OTHERS]
    if not chosen:
        raise UsageError("the model gives all images one class; no trigger can be told from that")
    if len(chosen) > _MANY_CLASSES:
        chosen = _nearest(request, attack, pictures, given, chosen, tick)
    triggers, patches = [], []
    for at, target in enumerate(chosen):
        images = others(pictures.images, given, target)
        triggers.append(
            invert(attack, images, target, pictures.span, request.seed, STEPS, _JUDGING_BUDGET)
        )
        patches.append(invert_patch(attack, images, target, pictures.low, pictures.high, request.seed))
        tick("invert", at + 1, len(chosen))
    return triggers, patches


def _nearest(
    request: SearchRequest,
    attack: Attack,
    pictures: _Pictures,
    given: NDArray[np.int64],
    classes: list[int],
    tick: Tick,
) -> list[int]:
    """Of many classes those that a short search brings nearest, and as many more, evenly spread, to compare with."""
    reached = []
    for at, target in enumerate(classes):
        images = others(pictures.images, given, target)
        found = invert(attack, images, target, pictures.span, request.seed, _CHEAP_STEPS, _JUDGING_BUDGET)
        reached.append(found.margin)
        tick("compare", at + 1, len(classes))
    order = [classes[at] for at in np.argsort(-np.asarray(reached), kind="stable")]
    rest = order[_FULL_CLASSES:]
    spread = [rest[at] for at in np.linspace(0, len(rest) - 1, min(_FULL_CLASSES, len(rest))).astype(int)]
    return sorted({*order[:_FULL_CLASSES], *spread})


def _measures(triggers: list[Trigger], patches: list[Patch]) -> tuple[finding.Float64, finding.Float64]:
    margin_z = finding.robust_z([t.margin for t in triggers])
    patch_z = -finding.robust_z([float(np.log(max(p.area, 1e-3))) for p in patches])
    return margin_z, np.where([p.flip >= 0.5 for p in patches], patch_z, 0.0)


def _repair(
    request: SearchRequest,
    attack: Attack,
    pictures: _Pictures,
    given: NDArray[np.int64],
    likely: Trigger | None,
    tick: Tick,
) -> tuple[Repair | None, str]:
    if not request.repair:
        return None, ""
    if likely is None:
        return None, "nothing stands out, so the weights stay as they are"
    images = others(pictures.images, given, likely.target)
    larger = invert(attack, images, likely.target, pictures.span, request.seed, STEPS, BUDGET)
    return repair(attack, pictures.images, larger, pictures.span, request.budget, request.seed, tick)


def _result(trigger: Trigger, patch: Patch, margin_z: float, patch_z: float, pictures: _Pictures) -> ClassResult:
    reach = max(float(np.abs(trigger.perturbation).max()), 1e-12)
    middle = (pictures.low + pictures.high) / 2
    shown: Any = patch.mask * patch.pattern + (1 - patch.mask) * middle
    return ClassResult(
        target=trigger.target,
        flip=trigger.flip,
        margin=trigger.margin,
        norm=trigger.norm,
        z=margin_z,
        patch_flip=patch.flip,
        patch_area=patch.area,
        patch_z=patch_z,
        perturbation=Picture.of(trigger.perturbation, -reach, reach),
        patch=Picture.of(shown, pictures.low, pictures.high),
    )
