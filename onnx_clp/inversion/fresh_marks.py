"""What still works once random marks of a kind are undone: others of the same kind, drawn anew for every look."""

from __future__ import annotations

from typing import Final

from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.leftover import WORKS
from onnx_clp.inversion.marks import RandomMark
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.validation.provider import Engine

DRAWN: Final = 12
"""A look."""
_FIRST: Final = 1000
"""The number of the first, far from those of the screening."""


class FreshMarks:
    """Looks for marks that turn images into a class.

    Args:
        known: one of the kind that turned them before.
        target: the class.
        images: of other classes, at least one.
        engine: where the model runs.
    """

    def __init__(self, known: RandomMark, target: int, images: Images, engine: Engine) -> None:
        self._known, self._target, self._images, self._engine = known, target, images, engine
        self._number = _FIRST

    def __call__(self, subject: Subject) -> list[RandomMark]:
        """The one of a few that turns most images in the subject; none where each turns a tenth at most."""
        look, found = Look(subject, subject.output, self._engine), list[tuple[float, int]]()
        for number in range(self._number, self._number + DRAWN):
            shown = self._known.numbered(number).put_on(self._images)
            found.append((outcome(look.all(shown), self._target)[0], number))
        self._number += DRAWN
        flip, number = max(found)
        return [self._known.numbered(number)] if flip > WORKS else []
