"""The order of a search: read > images > a trigger for every class > which stands out > what it moves > undo it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import numpy as np

from onnx_clp.document.search import Inversion, Picture, SearchImages
from onnx_clp.errors import UsageError
from onnx_clp.gauge.supplied import read_images
from onnx_clp.inversion import finding, marks, screen
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.drawing import drawn
from onnx_clp.inversion.forms import KINDS, WORDS, Forms
from onnx_clp.inversion.ground import Ground
from onnx_clp.inversion.hunt import Hunt
from onnx_clp.inversion.lineup import led
from onnx_clp.inversion.pace import Batches, Deadline, fewer, thinned
from onnx_clp.inversion.pictures import Pictures
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.precision import in_single
from onnx_clp.inversion.request import Found, Images, SearchRequest
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.synthesis import STEPS, Synthesiser
from onnx_clp.inversion.undoing import Undoing
from onnx_clp.inversion.values import in_its_values
from onnx_clp.process.progress import Tick
from onnx_clp.text import quoted
from onnx_clp.validation.provider import Engine

_SHEET: Final = 40
_MADE: Final = 0.35
_LEAST_COUNT: Final = 20
_LEAST_STEPS: Final = 30
_MEASURED: Final = 4


def search(request: SearchRequest, engine: Engine, tick: Tick) -> Found:
    """Carry out one search; it ends by itself after about `request.seconds`.

    Raises:
        UsageError: the model, the images or an option do not fit.
        UnsupportedModelError: an operator has no gradient, or the runtime refuses the graph.
        NotValidated: there is not enough memory for one image.
    """
    deadline = Deadline(request.seconds)
    request = replace(request, sites=tuple(map(in_single, request.sites)))
    original = read_subject(request.original, request.limits.shapes, request.output_name)
    folded = original
    if request.folded is not None:
        folded = read_subject(request.folded, request.limits.shapes, request.output_name)
    batches = Batches()
    attack = Attack(folded, engine, deadline, batches)
    _require_classes(attack, original, request)
    request = in_its_values(request, folded, attack, engine)
    seconds = attack.seconds(_plain(folded, request))
    maker = None if request.images is not None else Synthesiser(original, engine, batches)
    pictures = _supplied(request, original) if maker is None else _made(request, maker, attack, seconds, deadline, tick)
    del maker
    ground = Ground(request, folded, engine, attack, pictures, seconds, deadline, tick)
    hunt = Hunt(ground)
    if not request.invert:
        return Found(_nothing(ground.classes, attack, pictures, ""))
    found = hunt.each_class()
    short = hunt.hurried or len(found) < ground.classes
    unfinished = _unfinished(found, ground.classes, request.seconds, hunt.hurried) if short else ""
    unfinished = unfinished or _thinned(hunt.finder.share, request.seconds)
    if len(found) < finding.LEAST_CLASSES <= ground.classes:
        said = f"not judged: {unfinished}"
        return Found(replace(_nothing(ground.classes, attack, pictures, said), unfinished=unfinished))
    return _judged(ground, hunt, found, unfinished)


def _judged(ground: Ground, hunt: Hunt, found: list[Forms], unfinished: str) -> Found:
    request, pictures, z = ground.request, ground.pictures, hunt.judged(found)
    named = [at for at, forms in enumerate(found) if forms.target in request.suspects]
    by_forms = finding.likely(z, [f.flip for f in found], named, hunt.doubted(found, z))
    by_marks = led(found)
    place = by_forms if by_marks is None else by_marks
    place = hunt.led(found) if place is None else place
    best = finding.nearest(z) if place is None else place
    said = _sentence(found[best], z[:, best], place is not None, ground.classes, hunt.hasty)
    moved, undoing = hunt.changes(found, z, best), Undoing(ground, hunt.finder, hunt.most)
    fixed, note = undoing.repaired(found, z, place) if request.repair else (None, "")
    judged = Inversion(
        classes=ground.classes,
        provider=ground.attack.provider,
        images=pictures.made,
        results=tuple(drawn(f, z[:, at], pictures.pixels) for at, f in enumerate(found)),
        likely=None if place is None else found[place].target,
        sentence=said,
        repair=None if fixed is None else fixed.report,
        repair_note=note,
        nearest=found[best].target,
        changes=moved,
        unfinished=unfinished,
    )
    return Found(judged, {} if fixed is None else fixed.caps)


def _sentence(forms: Forms, z: finding.Float64, stands_out: bool, classes: int, hasty: Collection[int]) -> str:
    """What was found of the class that is named, else of the nearest."""
    lead = forms.lead
    if lead is None:
        return finding.sentence(forms.target, z, stands_out, classes, WORDS, hasty)
    return (
        f"class {forms.target} is the likely target of a hidden trigger: of marks drawn at random, each "
        f"{marks.WORDS[lead.kind]}, {100 * lead.share:.0f} % turn at least {100 * screen.NEARLY_ALL:.0f} % of the "
        "images into it"
    )


def _nothing(classes: int, attack: Attack, pictures: Pictures, sentence: str) -> Inversion:
    """A search that made images and judged no class."""
    return Inversion(attack.provider, classes, pictures.made, (), None, sentence, None, "")


def _unfinished(found: list[Forms], classes: int, seconds: float, hurried: bool) -> str:
    """What there was no time for; "" where every class has every form. Forms that nobody needed are not missed."""
    if sum(_whole(forms) for forms in found) == classes:
        return ""
    by = _by(found) if hurried else ""
    searched = f"{len(found):,} of {classes:,} classes were searched{by} in the {seconds:g} s given"
    return f"{searched}; --search-seconds allows more"


def _thinned(share: float, seconds: float) -> str:
    """What to say of a search that did this share (0..1) of its work; "" where that is all."""
    if round(100 * share) == 100:
        return ""
    return f"{100 * share:.0f} % of the usual work was done in the {seconds:g} s given; --search-seconds allows more"


def _by(found: list[Forms]) -> str:
    """For how many classes, or for which forms, a search was made."""
    whole, some = sum(map(_whole, found)), [kind for kind in KINDS if any(kind in forms.by_kind for forms in found)]
    if whole and whole < len(found):
        return f", {whole:,} of them for every form"
    return f", for {' and '.join(some)} alone," if some and len(some) < len(KINDS) else ""


def _whole(forms: Forms) -> bool:
    return len(forms.by_kind) == len(KINDS)


def _require_classes(attack: Attack, subject: Subject, request: SearchRequest) -> None:
    scores, name = attack.logits(np.zeros((1, *subject.shape), np.float32)), quoted(request.original)
    if scores.ndim != 2 or scores.shape[1] < 2:
        found = "x".join(map(str, scores.shape))
        raise UsageError(
            f"{name}: a search for triggers needs scores of at least two classes, (batch, classes); "
            f"output {quoted(subject.output, 60)} gives {found} for one image; name another with --output"
        )
    if scores.shape[1] < request.least_classes:
        raise UsageError(f"{name}: {finding.too_few(scores.shape[1])}")


def _plain(subject: Subject, request: SearchRequest) -> Images:
    """A few images of noise, to measure by how long one takes."""
    rng = np.random.default_rng(request.limits.seed)
    return rng.uniform(request.low, request.high, (_MEASURED, *subject.shape)).astype(np.float32)


def _supplied(request: SearchRequest, subject: Subject) -> Pictures:
    """The user's images."""
    assert request.images is not None
    images = read_images(request.images, subject.shape, request.count, request.low, request.high)
    pixels = Range(request.low, request.high).holding(images)
    sheet = _sheet(images, *pixels.ends)
    return Pictures(images, SearchImages("data", len(images), 0, None, None, sheet, pixels.ends), pixels)


def _made(
    request: SearchRequest, maker: Synthesiser, attack: Attack, seconds: float, deadline: Deadline, tick: Tick
) -> Pictures:
    """Images made from the model, fewer and in fewer steps where one takes long."""
    low, high = request.low, request.high
    deadline.until(_MADE)
    factor = thinned(deadline.left / seconds, request.count * STEPS)
    count, steps = fewer(request.count, factor, _LEAST_COUNT), fewer(STEPS, factor, _LEAST_STEPS)
    made = maker.make(count, maker.classes(), low, high, request.limits.seed, tick, steps, deadline)
    deadline.until(1.0)
    fit = float((attack.logits(made.images).argmax(axis=1) == made.classes).mean())
    source = "statistics" if made.statistics else "classes"
    sheet = _sheet(made.images, low, high)
    facts = SearchImages(source, len(made.images), made.statistics, made.mismatch, fit, sheet, (low, high))
    return Pictures(made.images, facts, Range(low, high))


def _sheet(images: Images, low: float, high: float) -> tuple[Picture, ...]:
    return tuple(Picture.of(image, low, high) for image in images[:_SHEET])
