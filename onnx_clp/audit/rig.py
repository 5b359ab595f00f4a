"""A model on dials with a few ordinary images: what `driving` drives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.dormancy import Float64, Rest
from onnx_clp.audit.driving import Answers, Setting
from onnx_clp.audit.request import AuditRequest
from onnx_clp.gauge.bench import TOGETHER, Feed, Images
from onnx_clp.gauge.ordinary import Form
from onnx_clp.process.serve import Send
from onnx_clp.validation.session import Runner

Array = NDArray[Any]
_Row = tuple[int, list[Float64], list[Float64]]


def neutral(request: AuditRequest, rows: int) -> dict[str, Array]:
    """Dials that change nothing."""
    feed: dict[str, Array] = {}
    for site in request.sites:
        shape = (rows, site.drive.channels, *[1] * (site.drive.axis_from_end - 1))
        feed[site.drive.keep], feed[site.drive.add] = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return feed


class Rig:
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
        gathered: list[_Row] = []
        for start in range(0, len(rows), self._rows):
            gathered += self._run(rows[start : start + self._rows])
            while len(gathered) >= len(self._images):
                yield _answers(gathered[: len(self._images)])
                del gathered[: len(self._images)]

    def _run(self, rows: Sequence[tuple[Setting, Feed]]) -> list[_Row]:
        wanted = [name for site in self._request.sites for name in (site.drive.most, site.drive.least)]
        filled = [*rows, *[rows[-1]] * (self._rows - len(rows))] if self._fixed else list(rows)
        feed = {**filled[0][1], **self._dials([setting for setting, _ in filled])}
        if len(filled) > 1:
            feed[self._name] = np.concatenate([image[self._name] for _, image in filled])
        seen = self._runner.run(feed, [self._request.scores, *wanted])
        scores = seen[self._request.scores].reshape(len(filled), -1)
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
        feed = neutral(self._request, len(settings))
        for row, setting in enumerate(settings):
            for number, channels in setting.driven.items():
                drive, rest = self._request.sites[number].drive, self._sites[number]
                at = list(channels)
                feed[drive.keep][row, at] = 0
                feed[drive.add].reshape(len(settings), drive.channels)[row, at] = _driven(rest, setting)[at]
        return feed


def _driven(rest: Rest, setting: Setting) -> NDArray[np.float32]:
    """What the channels of a site give in a setting that drives them."""
    values = rest.rest + setting.strength * rest.scale
    if setting.usual is not None:
        values = (rest.most if setting.strength > 0 else rest.least)[setting.usual]
    return np.asarray(values, np.float32)


def _answers(rows: Sequence[_Row]) -> Answers:
    classes = np.array([one for one, _, _ in rows], np.int64)
    most = [np.stack(column) for column in zip(*(most for _, most, _ in rows), strict=True)]
    least = [np.stack(column) for column in zip(*(least for _, _, least in rows), strict=True)]
    return Answers(classes, most, least)
