"""One model on the gauge's images: several at once where it takes that and keeps them apart, one answer an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.validation.session import FailureKind, RunError, Runner

Array = NDArray[Any]
Feed = Mapping[str, Array]
Images = Sequence[Feed]
"""What goes into the model, one feed an image, each with a batch axis of one entry (or of the model's own size)."""

TOGETHER: Final = 8
"""Images a run takes where the model leaves their number open."""


class Bench:
    """Runs images through one model, `together` at a time.

    `outputs` are those that count.
    """

    def __init__(self, runner: Runner, outputs: Sequence[str], together: int) -> None:
        self.outputs = tuple(outputs)
        self._runner, self._together = runner, together

    def answers(self, images: Images, dials: Feed, outputs: Sequence[str] = ()) -> dict[str, list[Array]]:
        """By output (those that count, or those named) one array an image.

        Raises:
            RunError: the model does not run them.
        """
        wanted = outputs or self.outputs
        try:
            return self._answers(images, dials, wanted)
        except RunError as error:
            if self._together == 1 or error.kind is not FailureKind.REFUSED:
                raise
        except _Mixed:
            pass
        self._together = 1
        return self._answers(images, dials, wanted)

    def _answers(self, images: Images, dials: Feed, wanted: Sequence[str]) -> dict[str, list[Array]]:
        found: dict[str, list[Array]] = {name: [] for name in wanted}
        for part in self._parts(images):
            given = self._runner.run({**_joined(part), **dials}, wanted)
            for name in wanted:
                found[name].extend(_apart(given[name], len(part)))
        return found

    def _parts(self, images: Images) -> Iterator[Images]:
        for start in range(0, len(images), self._together):
            yield images[start : start + self._together]


class _Mixed(Exception):
    """An output does not keep the images of a batch apart."""


def _joined(part: Images) -> dict[str, Array]:
    if len(part) == 1:
        return dict(part[0])
    return {name: np.concatenate([feed[name] for feed in part]) for name in part[0]}


def _apart(values: Array, count: int) -> list[Array]:
    """One array an image: along the first axis, where that is the batch."""
    if count == 1:
        return [values[0] if values.ndim and len(values) == 1 else values]
    if values.ndim == 0 or len(values) != count:
        raise _Mixed
    return list(values)
