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
"""What goes into the model, one feed an image; the image has a batch axis of one entry, other inputs have their own."""

TOGETHER: Final = 8
"""Images a run takes where the model leaves their number open."""


class Bench:
    """Runs images through one model, `together` at a time.

    `outputs` are those that count, `image` is the input that takes the images ("" where none does), and `rows` says how
    many it takes in any run; 0 leaves that open. What lacks of them is filled up with the last image.
    """

    def __init__(self, runner: Runner, outputs: Sequence[str], together: int, image: str = "", rows: int = 0) -> None:
        self.outputs = tuple(outputs)
        self._runner, self._together, self._image, self._rows = runner, together, image, rows

    def answers(self, images: Images, dials: Feed, outputs: Sequence[str] = ()) -> dict[str, list[Array]]:
        """By output (those that count, or those named; a sequence's members one by one) one array an image.

        Raises:
            RunError: the model does not run them.
        """
        wanted = outputs or self.outputs
        try:
            return self._answers(images, dials, wanted)
        except RunError as error:
            if self._together == 1 or error.kind not in (FailureKind.REFUSED, FailureKind.MEMORY):
                raise
        except _Mixed:
            pass
        self._together = 1
        return self._answers(images, dials, wanted)

    def _answers(self, images: Images, dials: Feed, wanted: Sequence[str]) -> dict[str, list[Array]]:
        found: dict[str, list[Array]] = {}
        for part in self._parts(images):
            given = self._runner.run({**self._joined(part), **dials}, wanted)
            for name, values in given.items():
                found.setdefault(name, []).extend(_apart(values, len(part), max(self._rows, len(part))))
        return found

    def _joined(self, part: Images) -> Feed:
        rows = [*part, *[part[-1]] * (self._rows - len(part))]
        if len(rows) == 1:
            return part[0]
        return {**part[0], self._image: np.concatenate([feed[self._image] for feed in rows])}

    def _parts(self, images: Images) -> Iterator[Images]:
        for start in range(0, len(images), self._together):
            yield images[start : start + self._together]


class _Mixed(Exception):
    """An output does not keep the images of a batch apart."""


def _apart(values: Array, count: int, rows: int) -> list[Array]:
    """One array an image, of `count` images among `rows`: along the first axis, where that is the batch."""
    if values.ndim and len(values) == rows:
        return list(values[:count])
    if count == 1:
        return [values[0] if values.ndim and len(values) == 1 else values]
    raise _Mixed
