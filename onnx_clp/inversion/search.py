"""The order of a search: read > images > a trigger for every class > which stands out > what it moves > undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from onnx_clp.document.search import ClassInversion, FormFound, Picture, SearchImages
from onnx_clp.errors import UsageError
from onnx_clp.gauge.supplied import read_images
from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.capped import capped
from onnx_clp.inversion.changes import changes
from onnx_clp.inversion.forms import KINDS, Form, Forms, find_forms, measures
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.repair import Bench, repair
from onnx_clp.inversion.request import Found, Images, Repair, SearchRequest, SiteChanges
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.synthesis import Synthesiser
from onnx_clp.inversion.trigger import JUDGING_BUDGET, invert, lead, others
from onnx_clp.text import quoted
from onnx_clp.validation.provider import Engine

Tick = Callable[[str, int, int], None]

_SHEET: Final = 40
_LINES: Final = 8
_MANY_CLASSES: Final = 20
_FULL_CLASSES: Final = 10
_CHEAP_STEPS: Final = 8
_FEWEST_OTHERS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The images of a search and where they come from."""

    images: Images
    made: SearchImages
    pixels: Range

    @property
    def doubt(self) -> float:
        """Times the usual spread of classes that these images lead to."""
        return finding.UNMATCHED if self.made.source == "classes" else 1.0


def search(request: SearchRequest, engine: Engine, tick: Tick) -> Found:
    """Carry out one search.

    Raises:
        UsageError: the model, the images or an option do not fit.
        UnsupportedModelError: an operator has no gradient, or the runtime refuses the graph.
        NotValidated: there is not enough memory.
    """
    original = read_subject(request.original, request.limits.shapes, request.output_name)
    folded = original
    if request.folded is not None:
        folded = read_subject(request.folded, request.limits.shapes, request.output_name)
    attack = Attack(folded, engine)
    _require_classes(attack, original, request.original)
    pictures = _images(request, original, attack, engine, tick)
    hunt = _Hunt(request, folded, engine, tick, attack, pictures)
    if not request.invert:
        return Found(hunt.classes, attack.provider, pictures.made, (), None, "", None, "")
    found = hunt.each_class()
    z = hunt.judged(found)
    place = finding.likely(z, [f.flip for f in found])
    best = finding.nearest(z)
    said = finding.sentence(found[best].target, z[:, best], place is not None, hunt.classes)
    moved = hunt.changes(found, z, best)
    fixed, note = hunt.repaired(found, z, place) if request.repair else (None, "")
    results = tuple(_result(f, z[:, at], pictures.pixels) for at, f in enumerate(found))
    likely = None if place is None else found[place].target
    target = found[best].target
    return Found(hunt.classes, attack.provider, pictures.made, results, likely, said, fixed, note, target, moved)


def _require_classes(attack: Attack, subject: Subject, path: Path) -> None:
    scores = attack.logits(np.zeros((1, *subject.shape), np.float32))
    if scores.ndim != 2 or scores.shape[1] < 2:
        found = "x".join(map(str, scores.shape))
        raise UsageError(
            f"{quoted(path)}: a search for triggers needs scores of at least two classes, (batch, classes); "
            f"output {quoted(subject.output, 60)} gives {found} for one image; name another with --output"
        )


class _Hunt:
    """What one search has at hand once it has its images."""

    def __init__(
        self,
        request: SearchRequest,
        subject: Subject,
        engine: Engine,
        tick: Tick,
        attack: Attack,
        pictures: Pictures,
    ) -> None:
        self._request, self._subject, self._engine, self._tick = request, subject, engine, tick
        self._attack, self._pictures = attack, pictures
        logits = attack.logits(pictures.images)
        self._given, self._lead = logits.argmax(axis=1), lead(logits)
        self.classes = logits.shape[1]

    def each_class(self) -> list[Forms]:
        """Every form towards every class, or towards some of many."""
        chosen = [c for c in range(self.classes) if len(self._others(c)) >= _FEWEST_OTHERS]
        if not chosen:
            raise UsageError("the model gives all images one class; no trigger can be told from that")
        if len(chosen) > _MANY_CLASSES:
            chosen = self._nearest(chosen)
        found = []
        for at, target in enumerate(chosen):
            found.append(self._forms(self._attack, target))
            self._tick("invert", at + 1, len(chosen))
        return found

    def judged(self, found: list[Forms]) -> finding.Float64:
        """How far each class stands out by each form, (forms, classes)."""
        return measures(found, self._lead, self._pictures.doubt)

    def changes(self, found: list[Forms], z: finding.Float64, place: int) -> tuple[SiteChanges, ...]:
        """How far the form by which the class at `place` stands out most moves every channel of the sites."""
        images = self._pictures.images
        rest = others(images, self._given, found[place].target, len(images))
        form = _furthest(found, z, place)
        return changes(self._subject, self._engine, self._request.sites, rest, form, self._tick)

    def repaired(self, found: list[Forms], z: finding.Float64, place: int | None) -> tuple[Repair | None, str]:
        """Undo the form by which the likely target stands out most, and search for that class once more.

        Other forms towards it hold more of what any image of the class has, and undoing them costs the class.
        """
        if place is None:
            return None, "nothing stands out, so the model stays as it is"
        request, target = self._request, found[place].target
        bench = Bench(self._subject, self._engine, request.sites, self._pictures.images, target, request.limits.seed)
        done, why = repair(bench, [_furthest(found, z, place)], request.budget, self._tick)
        if done is None:
            return None, why
        again = list(found)
        again[place] = self._forms(Attack(self._capped(done), self._engine), target)
        far = float(self.judged(again)[:, place].max())
        return replace(done, z=far, stands_out=far > finding.LIMIT), ""

    def _others(self, target: int) -> Images:
        return others(self._pictures.images, self._given, target)

    def _forms(self, attack: Attack, target: int) -> Forms:
        return find_forms(attack, self._others(target), target, self._pictures.pixels, self._request.limits.seed)

    def _capped(self, done: Repair) -> Subject:
        by_value = {site.value: site for site in self._request.sites}
        return capped(self._subject, {by_value[site.value]: site.directions() for site in done.sites})

    def _nearest(self, classes: list[int]) -> list[int]:
        """Of many classes those that a short search brings nearest, and as many more, evenly spread, for comparison."""
        reached, pixels, seed = [], self._pictures.pixels, self._request.limits.seed
        for at, target in enumerate(classes):
            found = invert(self._attack, self._others(target), target, pixels, seed, _CHEAP_STEPS, JUDGING_BUDGET)
            reached.append(found.margin)
            self._tick("compare", at + 1, len(classes))
        order = [classes[at] for at in np.argsort(-np.asarray(reached), kind="stable")]
        rest = order[_FULL_CLASSES:]
        spread = [rest[at] for at in np.linspace(0, len(rest) - 1, min(_FULL_CLASSES, len(rest))).astype(int)]
        return sorted({*order[:_FULL_CLASSES], *spread})


def _furthest(found: list[Forms], z: finding.Float64, place: int) -> Form:
    """Of the class at `place` the form by which it stands out most."""
    return found[place].each[int(z[:, place].argmax())]


def _images(request: SearchRequest, original: Subject, attack: Attack, engine: Engine, tick: Tick) -> Pictures:
    low, high = request.low, request.high
    if request.images is not None:
        images = read_images(request.images, original.shape, request.count, low, high)
        pixels = Range(low, high).holding(images)
        sheet = _sheet(images, *pixels.ends)
        return Pictures(images, SearchImages("data", len(images), 0, None, None, sheet, pixels.ends), pixels)
    maker = Synthesiser(original, engine)
    made = maker.make(request.count, maker.classes(), low, high, request.limits.seed, tick)
    fit = float((attack.logits(made.images).argmax(axis=1) == made.classes).mean())
    source = "statistics" if made.statistics else "classes"
    sheet = _sheet(made.images, low, high)
    facts = SearchImages(source, len(made.images), made.statistics, made.mismatch, fit, sheet, (low, high))
    return Pictures(made.images, facts, Range(low, high))


def _sheet(images: Images, low: float, high: float) -> tuple[Picture, ...]:
    return tuple(Picture.of(image, low, high) for image in images[:_SHEET])


def _result(found: Forms, z: finding.Float64, pixels: Range) -> ClassInversion:
    forms = [
        FormFound(kind, form.flip, size, float(far), picture)
        for kind, form, (size, picture), far in zip(KINDS, list(found.each), _pictures(found, pixels), z, strict=True)
    ]
    return ClassInversion(found.target, found.trigger.margin, tuple(forms))


def _pictures(found: Forms, pixels: Range) -> list[tuple[float, Picture]]:
    """The size and the picture of every form, in their order."""
    trigger, patch, blend, warp, wave = found.trigger, found.patch, found.blend, found.warp, found.wave
    reach = max(float(np.abs(trigger.perturbation).max()), 1e-12)
    middle = np.float32((pixels.low + pixels.high) / 2)
    blended = middle + blend.mask / max(float(blend.mask.max()), 1e-12) * (blend.pattern - middle)
    moved = warp.put_on(_grid(trigger.perturbation.shape))
    return [
        (trigger.norm, Picture.of(trigger.perturbation, -reach, reach)),
        (patch.area, Picture.of(patch.change, -pixels.span, pixels.span)),
        (blend.area, Picture.of(blended, pixels.low, pixels.high)),
        (warp.area, Picture.of(moved[0], 0, 1)),
        (wave.area, Picture.of(wave.change, -pixels.span / 2, pixels.span / 2)),
    ]


def _grid(shape: tuple[int, ...]) -> Images:
    """Dark lines on white, one in every eighth of the image, (1, 1, height, width): what a warp is shown on."""
    height, width = shape[1:]
    drawn = np.ones((1, 1, height, width), np.float32)
    drawn[:, :, :: max(height // _LINES, 2)] = 0
    drawn[:, :, :, :: max(width // _LINES, 2)] = 0
    return drawn
