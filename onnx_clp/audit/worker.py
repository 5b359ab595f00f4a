"""The child's side of an audit: ordinary inputs through the model on dials, then one start after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit import driving, joins
from onnx_clp.audit.claims import contradicted
from onnx_clp.audit.dormancy import Rest, at_rest
from onnx_clp.audit.driving import DrivenPath
from onnx_clp.audit.request import AUDIT, AuditRequest, Chain
from onnx_clp.audit.rig import Rig, neutral
from onnx_clp.audit.slope import has_slope
from onnx_clp.audit.start import drive_of
from onnx_clp.audit.variants import variants
from onnx_clp.document.audit import Audit, DormantLayer, DormantPath, PathLayer, PathStart, QuietValue
from onnx_clp.document.gauge import Ordinary
from onnx_clp.gauge.bench import Images
from onnx_clp.gauge.intake import BYTES, SMALL, UNIT, Pixels
from onnx_clp.gauge.ordinary import Source, choice_of, form_of, ordinary_inputs, photographs
from onnx_clp.gauge.pixels import Choice
from onnx_clp.gauge.running import capped
from onnx_clp.process.serve import Send
from onnx_clp.validation import macs
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.session import Runner, open_runner

Array = NDArray[Any]

_SIDE: Final = 160
_MOST_IMAGES: Final = (64, 32)
"""For small images, and for those of this side and larger."""
_LEAST: Final = 4
_SETTINGS: Final = 32
"""Runs of a chain of some stages, about."""
_WORK: Final = 2.5e11
"""Multiply-accumulates that all runs together may take, about; images and chains are cut to it, not below `_LEAST`."""
_DRIVEN_IMAGES: Final = 3
_HELD_IMAGES: Final = 24
_LEAST_IMAGES: Final = 8
_SETTLED: Final = ("option", "file")
"""What tells pixel values for sure."""
_VAGUE: Final = ("guess", "scale")
"""What hardly does."""
_NO_IMAGES: Final = "it takes no images, and made-up signals do not show which channels no ordinary input fires"
_NO_NUMBER: Final = "it is not finite on any of a few images"
_NO_CLASSES: Final = "no output gives class scores, so it cannot be seen what a dormant channel does to the answer"


def work(request: AuditRequest, cap: int, send: Send) -> Audit:
    """Audit the request's model within `cap` bytes of memory.

    Raises:
        NotValidated: the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return capped(
        request,
        cap,
        AUDIT.instead,
        lambda engine: _Trial(request, open_runner(request.model, engine, AS_DEPLOYED), send).audited(engine),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """One kind of inputs: the images and their pixel values, what every site is like at rest, and their classes.

    Of the pixel values None says that nothing was guessed, of the classes that no output gives any.
    """

    images: Images
    pixels: Pixels | None
    sites: list[Rest]
    classes: NDArray[np.int64] | None

    def few(self, count: int) -> Images:
        """So many images at most, of different classes where there are."""
        assert self.classes is not None
        _, first = np.unique(self.classes, return_index=True)
        rest = [at for at in range(len(self.images)) if at not in set(first.tolist())]
        chosen = [*sorted(first.tolist()), *rest][:count]
        return [self.images[at] for at in chosen]


class _Trial:
    """One request at work."""

    def __init__(self, request: AuditRequest, runner: Runner, send: Send) -> None:
        self._request, self._runner, self._send = request, runner, send
        model = read_skeleton(request.model)
        self._neutral = neutral(request, 1)
        specs = [spec for spec in anatomy_of(model).inputs if spec.name not in self._neutral]
        self._form = form_of(specs, request.limits.shapes, request.limits.seed, runner, self._neutral)
        intake = self._form.intake
        self._large = intake is not None and min(intake.height, intake.width) >= _SIDE
        self._bench = self._form.bench(runner, request.outputs)
        work = macs.count(request.original, self._form.shapes)
        self._room = _WORK if not work else _WORK / work
        most = max(_LEAST, min(_MOST_IMAGES[self._large], int(self._room / 4)))
        source = Source(model, request.landmark, request.images, request.pixels, most)
        self._source = source
        kinds, self._made = self._kinds(source)
        self._looks = [self._looked(images, pixels) for images, pixels in kinds]
        quiet = [one for images, pixels in kinds for one in self._quiet_values(images, pixels)]
        self._quiet = joins.each_once(quiet)

    def audited(self, engine: Engine) -> Audit:
        """All that is asked."""
        told = [look.sites for look in self._looks] if self._made.source != "noise" else []
        low = contradicted(told, [site.claim for site in self._request.sites])
        return replace(
            self._driven(),
            contradicted=tuple(self._request.sites[at].drive.value for at in low),
            blocked=_NO_NUMBER if self._request.steep and self._slope(engine) is False else "",
        )

    def _slope(self, engine: Engine) -> bool | None:
        """Whether the scores have a gradient on some kind of inputs."""
        if self._form.intake is None:
            return None
        name, neutral = self._form.intake.name, self._neutral
        found = [has_slope(self._request, name, look.images, neutral, engine) for look in self._looks]
        return None if None in found else any(found)

    def _driven(self) -> Audit:
        """Drive what is watched, on each kind of inputs by itself: a path is still on the kind that the model takes."""
        layers = tuple(
            DormantLayer(site.drive.value, site.drive.channels, int(np.any(dormant, axis=0).sum()))
            for site, *dormant in zip(
                self._request.sites, *([rest.dormant for rest in look.sites] for look in self._looks), strict=True
            )
        )
        looks = [look for look in self._looks if look.classes is not None]
        if self._made.source == "noise" or not looks:
            note = _NO_IMAGES if self._made.source == "noise" else _NO_CLASSES
            return Audit(self._made, layers, 0, None, quiet=self._quiet, note=note if self._request.chains else "")
        most = max(_LEAST, int(self._room / 2 / (len(looks) * _DRIVEN_IMAGES * _SETTINGS)))
        chains = self._request.chains[:most]
        found = ((one, look) for look in looks for one in self._searched(look, chains))
        path = next((self._path(one, look) for one, look in found), None)
        return Audit(self._made, layers, len(chains), path, quiet=self._quiet)

    def _searched(self, look: _Look, chains: Sequence[Chain]) -> Iterator[DrivenPath]:
        if chains:
            few, more = (
                Rig(self._request, self._runner, self._form, look.few(count), look.sites, self._send)
                for count in (_DRIVEN_IMAGES, _HELD_IMAGES)
            )
            yield from driving.search(few, more, look.sites, chains)

    def _kinds(self, source: Source) -> tuple[list[tuple[Images, Pixels | None]], Ordinary]:
        """Ordinary inputs, by the pixel values they come in: those that are likely, and the plainest."""
        form, request = self._form, self._request
        if form.intake is None or request.images is not None:
            images, made, _ = ordinary_inputs(source, form, self._bench, self._neutral)
            return [(images, None)], made
        choice = self._choice
        likely = _likely(list(choice.pixels), choice.told)
        shown = variants(photographs(form, source.most // len(likely)))
        guessed = len(likely) > 1
        kinds: list[tuple[Images, Pixels | None]] = [
            (form.feeds(pixels.of(shown)), pixels if guessed else None) for pixels in likely
        ]
        return kinds, Ordinary("photographs", len(shown) * len(kinds), ", ".join(p.name for p in likely), choice.told)

    def _looked(self, images: Images, pixels: Pixels | None) -> _Look:
        """What every site is like at rest on these images, and what their classes are."""
        names = [name for site in self._request.sites for name in (site.drive.most, site.drive.least)]
        seen = self._bench.answers(images, self._neutral, [self._request.scores, *names])
        extremes = {name: np.stack(seen[name]).astype(np.float64) for name in names}
        sites = [
            at_rest(extremes[site.drive.most], extremes[site.drive.least], site.places, inner=site.inner)
            for site in self._request.sites
        ]
        scores = seen.get(self._request.scores, [])
        flat = [one.reshape(-1) for one in scores]
        if len(flat) != len(images) or len({one.size for one in flat}) != 1 or not _is_scores(scores[0]):
            return _Look(images, pixels, sites, None)
        return _Look(images, pixels, sites, np.stack(flat).argmax(axis=1))

    def _quiet_values(self, images: Images, pixels: Pixels | None) -> Iterator[QuietValue]:
        """What meets other values and is the same for every image."""
        extents = {extent.value: extent for join in self._request.joins for extent in join.operands}
        if not extents or len(images) < _LEAST_IMAGES or self._made.source == "noise":
            return
        names = [name for extent in extents.values() for name in (extent.most, extent.least, extent.mean)]
        seen = self._bench.answers(images, self._neutral, names)
        flat = {name: np.array([float(one.reshape(-1)[0]) for one in seen[name]]) for name in names}
        moves = {v: joins.moved(flat[one.most], flat[one.least], flat[one.mean]) for v, one in extents.items()}
        for value, found in joins.still(self._request.joins, moves).items():
            gives = self._constant(images, found) if found.everywhere else ()
            yield QuietValue(value, found.node, gives, None if pixels is None else pixels.ends)

    def _constant(self, images: Images, found: joins.Still) -> tuple[float, ...]:
        """What a quiet value gives for every image; () where that is no constant that could take its place."""
        names = [one.value for join in found.joins for one in join.operands]
        shapes = {name: seen[0].shape for name, seen in self._bench.answers(images[:1], self._neutral, names).items()}
        if not all(joins.is_carried(found.value, join, shapes) for join in found.joins):
            return ()
        seen = self._bench.answers(images, self._neutral, [found.value])[found.value]
        return joins.constant(np.stack(seen), found.tolerance)

    def _path(self, found: DrivenPath, look: _Look) -> DormantPath:
        steps = sorted(
            ((stretch.site, stretch.channels, one.share) for one in found.chain.stages for stretch in one.stretches),
            key=itemgetter(0, 1),
        )
        values = [site.drive.value for site in self._request.sites]
        return DormantPath(
            layers=tuple(
                PathLayer(values[at], own, share, _usual(look.sites[at], own, found.usual)) for at, own, share in steps
            ),
            target=found.target,
            turned=found.turned,
            others=found.others,
            strength=found.strength,
            silent=found.silent,
            pixels=None if look.pixels is None else look.pixels.ends,
            held=found.held,
            start=self._start(values[steps[0][0]], steps[0][1], look.sites[steps[0][0]]),
        )

    @cached_property
    def _choice(self) -> Choice:
        """The pixel values that are likely."""
        return choice_of(self._source, self._form, self._bench, self._neutral)

    def _start(self, value: str, channels: Sequence[int], rest: Rest) -> PathStart | None:
        """How small a patch drives channels of a value."""
        if self._form.intake is None:
            return None
        found = drive_of(self._request.original, self._form, self._choice.pixels, value, channels)
        return None if found is None else PathStart(*found, float(rest.high[list(channels)].max()))


def _usual(rest: Rest, channels: Sequence[int], usual: int) -> tuple[tuple[float, float], ...]:
    return tuple((float(rest.least[usual, one]), float(rest.most[usual, one])) for one in channels)


def _likely(pixels: list[Pixels], told: str) -> list[Pixels]:
    """The pixel values that are likely, and the plainest where nothing tells them for sure."""
    if told in _SETTLED:
        return pixels
    if pixels[0] in SMALL and UNIT not in pixels:
        pixels.append(UNIT)
    if told in _VAGUE and BYTES not in pixels:
        pixels.append(BYTES)
    return pixels


def _is_scores(values: Array) -> bool:
    """Whether one image's answer is one number a class: (classes,), or with axes of one entry for height and width."""
    return values.dtype.kind == "f" and values.ndim in (1, 3) and sum(size > 1 for size in values.shape) == 1
