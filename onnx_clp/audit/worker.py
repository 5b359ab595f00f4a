"""The child's side of an audit: ordinary inputs through the model on dials, then one start after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit import driving, joins
from onnx_clp.audit.dormancy import Float64, Rest, at_rest, counted, in_any
from onnx_clp.audit.driving import Answers, Found, Setting
from onnx_clp.audit.request import Audited, AuditRequest
from onnx_clp.audit.variants import variants
from onnx_clp.document.audit import DormantLayer, DormantPath, PathLayer, QuietValue
from onnx_clp.document.gauge import Ordinary
from onnx_clp.errors import NotValidated
from onnx_clp.gauge.bench import TOGETHER, Feed, Images
from onnx_clp.gauge.intake import SMALL, UNIT
from onnx_clp.gauge.ordinary import Form, Source, choice_of, form_of, ordinary_inputs, photographs
from onnx_clp.process.serve import Send, limit_memory
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.session import FailureKind, RunError, Runner, open_runner

Array = NDArray[Any]

_SIDE: Final = 160
_MOST_IMAGES: Final = (96, 32)
_MOST_STARTS: Final = (160, 40)
_DRIVEN_IMAGES: Final = 3
_LEAST_IMAGES: Final = 8
_SETTLED: Final = ("option", "file")
"""What tells pixel values for sure."""
_NO_CLASSES: Final = "no output gives class scores, so it cannot be seen what a dormant channel does to the answer"


def work(request: AuditRequest, cap: int, send: Send) -> Audited:
    """Audit the request's model within `cap` bytes of memory.

    Raises:
        NotValidated: the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    from onnx_clp.validation.provider import choose

    engine = choose(request.limits.provider)
    if not engine.on_gpu:
        limit_memory(cap)
    try:
        return _Trial(request, open_runner(request.model, engine, AS_DEPLOYED), send).audited()
    except RunError as error:
        if error.kind is FailureKind.MEMORY:
            raise MemoryError(str(error)) from error
        raise NotValidated(f"the model does not run with its channels on dials: {error}") from error


class _Trial:
    """One request at work."""

    def __init__(self, request: AuditRequest, runner: Runner, send: Send) -> None:
        self._request, self._runner, self._send = request, runner, send
        model = read_skeleton(request.model)
        self._neutral = _neutral(request, 1)
        specs = [spec for spec in anatomy_of(model).inputs if spec.name not in self._neutral]
        self._form = form_of(specs, request.limits.shapes, request.limits.seed, runner, self._neutral)
        intake = self._form.intake
        self._large = intake is not None and min(intake.height, intake.width) >= _SIDE
        self._bench = self._form.bench(runner, request.outputs)
        source = Source(model, request.landmark, request.images, request.pixels, _MOST_IMAGES[self._large])
        kinds, self._made = self._kinds(source)
        self._images = kinds[0]
        looks = [self._looked(images) for images in kinds]
        self._sites = [in_any(groups) for groups in zip(*(sites for sites, _ in looks), strict=True)]
        self._classes = looks[0][1]
        self._quiet = self._quiet_values(kinds[-1])

    def audited(self) -> Audited:
        """Drive what is dormant."""
        layers = tuple(
            DormantLayer(site.drive.value, site.drive.channels, int(rest.dormant.sum()))
            for site, rest in zip(self._request.sites, self._sites, strict=True)
        )
        if self._classes is None:
            note = _NO_CLASSES if counted(self._sites) else ""
            return Audited(self._made, layers, 0, (), note, self._quiet)
        tried = driving.starts(self._sites, _MOST_STARTS[self._large])
        if not tried:
            return Audited(self._made, layers, 0, (), "", self._quiet)
        rig = _Rig(self._request, self._runner, self._form, self._few(), self._sites, self._send)
        found = driving.search(rig, self._sites, [site.linked for site in self._request.sites], tried)
        return Audited(self._made, layers, len(tried), tuple(self._path(one) for one in found), "", self._quiet)

    def _kinds(self, source: Source) -> tuple[list[Images], Ordinary]:
        """Ordinary inputs, by the pixel values they come in: those that are likely, and the plainest."""
        form, request = self._form, self._request
        if form.intake is None or request.images is not None:
            images, made, _ = ordinary_inputs(source, form, self._bench, self._neutral)
            return [images], made
        choice = choice_of(source, form, self._bench, self._neutral)
        likely = list(choice.pixels)
        if choice.told not in _SETTLED and UNIT not in likely and likely[0] in SMALL:
            likely.append(UNIT)
        shown = variants(photographs(form, source.most // len(likely)))
        kinds: list[Images] = [form.feeds(pixels.of(shown)) for pixels in likely]
        return kinds, Ordinary("photographs", len(shown) * len(kinds), ", ".join(p.name for p in likely), choice.told)

    def _looked(self, images: Images) -> tuple[list[Rest], NDArray[np.int64] | None]:
        """What every site is like at rest, and the class of every image; None where no output gives classes."""
        names = [name for site in self._request.sites for name in (site.drive.most, site.drive.least)]
        seen = self._bench.answers(images, self._neutral, [*self._request.outputs[:1], *names])
        extremes = {name: np.stack(seen[name]).astype(np.float64) for name in names}
        sites = [at_rest(extremes[s.drive.most], extremes[s.drive.least]) for s in self._request.sites]
        scores = seen.get(self._request.outputs[0], [])
        flat = [one.reshape(-1) for one in scores]
        if len(flat) != len(images) or len({one.size for one in flat}) != 1 or not _is_scores(scores[0]):
            return sites, None
        return sites, np.stack(flat).argmax(axis=1)

    def _quiet_values(self, images: Images) -> tuple[QuietValue, ...]:
        """What meets other values and is the same for every image."""
        extents = {extent.value: extent for join in self._request.joins for extent in join.operands}
        if not extents or len(images) < _LEAST_IMAGES:
            return ()
        names = [name for extent in extents.values() for name in (extent.most, extent.least)]
        seen = self._bench.answers(images, self._neutral, names)
        flat = {name: np.array([float(one.reshape(-1)[0]) for one in seen[name]]) for name in names}
        moves = {value: joins.moved(flat[one.most], flat[one.least]) for value, one in extents.items()}
        found: dict[str, QuietValue] = {}
        for join in self._request.joins:
            still = joins.quiet(np.array([moves[one.value] for one in join.operands]))
            for extent, silent in zip(join.operands, still, strict=True):
                if silent:
                    found.setdefault(extent.value, QuietValue(extent.value, join.node))
        return tuple(found.values())

    def _few(self) -> Images:
        """A few images, of different classes where there are."""
        assert self._classes is not None
        _, first = np.unique(self._classes, return_index=True)
        rest = [at for at in range(len(self._images)) if at not in set(first.tolist())]
        chosen = [*sorted(first.tolist()), *rest][:_DRIVEN_IMAGES]
        return [self._images[at] for at in chosen]

    def _path(self, found: Found) -> DormantPath:
        steps = sorted({**found.start, **found.needed}.items())
        return DormantPath(
            layers=tuple(PathLayer(self._request.sites[at].drive.value, tuple(channels)) for at, channels in steps),
            target=found.target,
            turned=found.turned,
            held=found.held,
            others=found.others,
            strength=found.strength,
        )


def _is_scores(values: Array) -> bool:
    """Whether one image's answer is one number a class."""
    return values.dtype.kind == "f" and sum(size > 1 for size in values.shape) == 1


def _neutral(request: AuditRequest, rows: int) -> dict[str, Array]:
    """Dials that change nothing."""
    feed: dict[str, Array] = {}
    for site in request.sites:
        shape = (rows, site.drive.channels, *[1] * (site.drive.axis_from_end - 1))
        feed[site.drive.keep], feed[site.drive.add] = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return feed


class _Rig:
    """Runs settings on a few images, several at once where the model takes that; see `driving.Rig`."""

    def __init__(
        self, request: AuditRequest, runner: Runner, form: Form, images: Images, sites: Sequence[Rest], send: Send
    ) -> None:
        self._request, self._runner, self._images, self._sites, self._send = request, runner, images, sites, send
        name = "" if form.intake is None else form.intake.name
        size = next((spec.shape[0] if spec.shape else None for spec in form.specs if spec.name == name), 1)
        self._name = name
        self._fixed = isinstance(size, int) or len(form.specs) > 1
        self._rows = (form.shapes[name][0] if name in form.shapes else 1) if self._fixed else TOGETHER
        self._done = 0

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting."""
        rows = [(setting, image) for setting in settings for image in self._images]
        gathered: list[tuple[int, list[Float64], list[Float64]]] = []
        for start in range(0, len(rows), self._rows):
            gathered += self._run(rows[start : start + self._rows])
            while len(gathered) >= len(self._images):
                yield _answers(gathered[: len(self._images)])
                del gathered[: len(self._images)]

    def _run(self, rows: Sequence[tuple[Setting, Feed]]) -> list[tuple[int, list[Float64], list[Float64]]]:
        wanted = [name for site in self._request.sites for name in (site.drive.most, site.drive.least)]
        filled = [*rows, *[rows[-1]] * (self._rows - len(rows))] if self._fixed else list(rows)
        feed = {**filled[0][1], **self._dials([setting for setting, _ in filled])}
        if len(filled) > 1:
            feed[self._name] = np.concatenate([image[self._name] for _, image in filled])
        seen = self._runner.run(feed, [self._request.outputs[0], *wanted])
        scores = seen[self._request.outputs[0]].reshape(len(filled), -1)
        self._done += len(rows)
        self._send(f"tick audit {self._done} {max(self._done, 1)}")
        return [
            (
                int(np.nan_to_num(scores[at], nan=-np.inf).argmax()),
                [seen[name][at].astype(np.float64) for name in wanted[::2]],
                [seen[name][at].astype(np.float64) for name in wanted[1::2]],
            )
            for at in range(len(rows))
        ]

    def _dials(self, settings: Sequence[Setting]) -> dict[str, Array]:
        feed = _neutral(self._request, len(settings))
        for row, setting in enumerate(settings):
            for chosen, strength in ((setting.held, 0.0), (setting.driven, setting.strength)):
                for number, channels in chosen.items():
                    drive, rest = self._request.sites[number].drive, self._sites[number]
                    at = list(channels)
                    feed[drive.keep][row, at] = 0
                    values = (rest.rest[at] + strength * rest.scale).astype(np.float32)
                    feed[drive.add].reshape(len(settings), drive.channels)[row, at] = values
        return feed


def _answers(rows: Sequence[tuple[int, list[Float64], list[Float64]]]) -> Answers:
    classes = np.array([one for one, _, _ in rows], np.int64)
    most = [np.stack(column) for column in zip(*(most for _, most, _ in rows), strict=True)]
    least = [np.stack(column) for column in zip(*(least for _, _, least in rows), strict=True)]
    return Answers(classes, most, least)
