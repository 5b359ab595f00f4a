"""Undo a trigger without data: channel factors under which it no longer works and the images keep their classes.

A lesson is two batches: the images, and the same with a form of the trigger on. Both are to give the probabilities
that the model as it came gives the images without (distillation; Hinton et al., 2015). Adam changes a scale and a
shift a channel and nothing else, so the result folds into weights and biases. Then the same forms are sought anew;
those found that are no larger than before are taught too (the minimax of Zeng et al., ICLR 2022, here without data).

Two gauges, measured on the images, decide how far to go: the share that the forms still turn, and the share that
keeps its class. Of the states met that keep at least 1 − budget, and stop the trigger, the one that keeps most wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnx_clp.inversion.attack import Attack, Factors, soft
from onnx_clp.inversion.change import change_of
from onnx_clp.inversion.descent import Adam, Float32
from onnx_clp.inversion.forms import Form, Range, find_again
from onnx_clp.inversion.request import Images, Repair
from onnx_clp.inversion.trigger import MOST_IMAGES, Trigger, outcome

Tick = Callable[[str, int, int], None]

ROUNDS: Final = 2
_GROWN: Final = 2.0
"""A patch this many times as large is what any class takes."""
STEPS: Final = 20
_LOOK: Final = 5
_RATE: Final = 0.005
_ENOUGH: Final = 0.1
"""A form that turns this share or less no longer works."""
_GAIN: Final = 0.5
"""A repair that leaves more than this share of the flips standing is no repair."""


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Factors met on the way, with their gauges."""

    scales: list[Float32]
    shifts: list[Float32]
    flip: float
    agreement: float
    rounds: int


class _Lesson:
    """A repair under way: what was found so far, and the states met."""

    def __init__(self, attack: Attack, images: Images, target: int) -> None:
        self._attack, self._images = attack, images
        self._taught = soft(attack.logits(images))
        self.given = self._taught.argmax(axis=1)
        self._rest = self.given != target
        self._target = target
        self.met: list[_State] = []

    def teach(self, found: Sequence[Form], turn: int) -> None:
        """Steps over all that was found, looking at the gauges now and then."""
        factors, steps = self._attack.factors, STEPS * len(found)
        adam = Adam([*factors.scales, *factors.shifts], _RATE, steps, falling=True)
        rest, wanted = self._images[self._rest], self._taught[self._rest]
        for step in range(steps):
            one = self._attack.lesson(self._images, self._taught)
            other = self._attack.lesson(found[-1 - step % len(found)].put_on(rest), wanted)
            adam.step([(a + b).reshape(-1) for a, b in zip(one, other, strict=True)])
            if step % _LOOK == _LOOK - 1 or step == steps - 1:
                self.look(found, turn)

    def look(self, found: Sequence[Form], turn: int) -> None:
        """Note the state as it is."""
        attack, rest = self._attack, self._images[self._rest]
        now = attack.logits(self._images).argmax(axis=1)
        flip = max(outcome(attack.logits(form.put_on(rest)), self._target)[0] for form in found)
        scales = [scale.copy() for scale in attack.factors.scales]
        shifts = [shift.copy() for shift in attack.factors.shifts]
        self.met.append(_State(scales, shifts, flip, float((now == self.given).mean()), turn))


def repair(
    attack: Attack, images: Images, forms: Sequence[Form], pixels: Range, budget: float, seed: int, tick: Tick
) -> tuple[Repair | None, str]:
    """Find the factors; `attack.factors` are neutral before and after.

    Args:
        attack: the model, its sites open to factors.
        images: those of the search.
        forms: what turns them into the likely target, at least one.
        pixels: the range of pixel values.
        budget: the largest share of images whose class may change.
        seed: of the searches.
        tick: hears of progress.

    Returns:
        The repair and "", or None and why there is none.
    """
    target = forms[0].target
    lesson = _Lesson(attack, images, target)
    rest = images[lesson.given != target]
    changes = change_of(attack, rest, forms[0].put_on(rest))
    found, before = list(forms), max(form.flip for form in forms)
    for turn in range(ROUNDS):
        lesson.teach(found, turn + 1)
        tick("repair", turn + 1, ROUNDS)
        again = [find_again(form, attack, rest[:MOST_IMAGES], pixels, seed + turn + 1) for form in forms]
        new = [now for now, then in zip(again, forms, strict=True) if _is_small(now, then)]
        if not new:
            break
        found += new
    attack.factors = Factors.neutral(attack.sites.channels)
    return _best(lesson.met, changes, before, budget)


def _is_small(now: Form, then: Form) -> bool:
    """Whether what was found anew still is a trigger, and not what any class takes."""
    if isinstance(now, Trigger) or isinstance(then, Trigger):
        return now.flip > _ENOUGH
    return now.flip > _ENOUGH and now.area <= _GROWN * then.area


def _best(met: Sequence[_State], changes: list[Float32], before: float, budget: float) -> tuple[Repair | None, str]:
    """Of the states within the budget, the one that keeps most classes among those that stop the trigger."""
    kept = [state for state in met if state.agreement >= 1 - budget]
    if not kept:
        most = max(state.agreement for state in met)
        return None, f"no repair kept {1 - budget:.0%} of the images' classes (the best kept {most:.0%})"
    lowest = min(state.flip for state in kept)
    if lowest > _GAIN * before:
        return None, f"the trigger still turns {lowest:.0%} of the images after every repair within the budget"
    stopped = [state for state in kept if state.flip <= max(lowest, _ENOUGH)]
    # A later round has stood up to more forms.
    best = max(stopped, key=lambda state: (state.rounds, state.agreement, -state.flip))
    rows = [tuple(tuple(map(float, row)) for row in rows) for rows in (best.scales, best.shifts, changes)]
    done = Repair(rows[0], rows[1], rows[2], before, best.flip, best.agreement, best.rounds)
    return done, ""
