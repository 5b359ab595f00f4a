"""Undo random marks of a kind that turn images, and look whether others of the kind, drawn anew, still do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.leftover import WORKS
from onnx_clp.inversion.marks import RandomMark
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.repair import GAIN, Climb, RepairBench, better, state_of, told
from onnx_clp.inversion.request import Images, Repair
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

DOSES: Final = (0.999, 0.997, 0.99, 0.97, 0.95)
"""Shares of the clean positions that a cap leaves as they are (docs/inversion.md says what each came to)."""
SLACK: Final = 0.05
"""The share of images that the mark may turn more under stronger caps: it is others of its kind that these are for."""
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


@dataclass(frozen=True, slots=True)
class Allowed:
    """The largest share of images whose class may change, and the largest predicted loss: at first, and for more."""

    mildest: float
    stronger: float


def unmarked(
    bench: RepairBench, mark: RandomMark, allowed: Allowed, tick: Tick, deadline: Deadline, climb: Climb
) -> Repair | None:
    """Caps against a mark as strong as the budget allows, and whatever `climb` adds; None where all cost more.

    The trigger is stronger than a mark that resembles it, so that the mark no longer turns images is not enough.

    Args:
        bench: the model and the images of the search.
        mark: that turns images.
        allowed: what the mildest caps may cost, and what stronger ones may.
        tick: called as the work goes on.
        deadline: nothing stronger is tried that would end after it.
        climb: undoes more than the mark.
    """
    before, best = bench.gauge({}, [mark]).flip, None
    for at, quantile in enumerate(DOSES):
        left = deadline.left
        state = state_of(bench, [mark], quantile)
        tick("repair", at + 1, len(DOSES))
        budget = allowed.mildest if best is None else allowed.stronger
        if not (state.gauged.within(budget) if best is None else better(bench, state, best, budget, SLACK)):
            break
        best = state
        if not deadline.again(left):
            break
    if best is None or best.gauged.flip > GAIN * before:
        return None
    return told(climb(best, []), before)
