"""Undo a trigger without data: channel factors under which it no longer works and the images keep their classes.

A lesson is two batches: the images, and the same with the inverted perturbation. Both are to give the probabilities
that the model as it came gives the images without (distillation; Hinton et al., 2015). Adam changes a scale and a
shift a channel and nothing else, so the result folds into weights and biases. After each lesson the perturbation is
sought anew; all those found so far are taught (the minimax of Zeng et al., ICLR 2022, here without data).

Two gauges, measured on the images, decide how far to go: the share that a perturbation found anew still turns, and
the share that keeps its class. Of the states met, the one with the fewest turned that keeps at least 1 − budget wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.attack import Attack, Factors, soft
from onnx_clp.inversion.change import change_of
from onnx_clp.inversion.descent import Adam, Float32
from onnx_clp.inversion.request import Images, Repair
from onnx_clp.inversion.trigger import Trigger, invert, others, outcome

Tick = Callable[[str, int, int], None]

ROUNDS: Final = 3
STEPS: Final = 10
_RATE: Final = 0.005
_GAIN: Final = 0.5
"""A repair that leaves more than this share of the flips standing is no repair."""


@dataclass(slots=True, eq=False)
class _State:
    """Factors met on the way, with their gauges."""

    scales: list[Float32]
    shifts: list[Float32]
    flip: float
    agreement: float
    rounds: int


def repair(
    attack: Attack, images: Images, trigger: Trigger, span: float, budget: float, seed: int, tick: Tick
) -> tuple[Repair | None, str]:
    """Find the factors; `attack.factors` are neutral before and after.

    Returns:
        The repair and "", or None and why there is none.
    """
    taught = soft(attack.logits(images))
    given = taught.argmax(axis=1)
    rest = given != trigger.target
    changes = change_of(attack, images[rest], trigger.perturbation)
    before = outcome(attack.logits(images[rest] + trigger.perturbation), trigger.target)[0]
    found = [trigger.perturbation]
    met: list[_State] = []
    for turn in range(ROUNDS):
        _teach(attack, images, taught, rest, found)
        again = invert(attack, others(images, given, trigger.target), trigger.target, span, seed + turn + 1)
        found.append(again.perturbation)
        met.append(_measure(attack, images, given, again, turn + 1))
        tick("repair", turn + 1, ROUNDS)
    attack.factors = Factors.neutral(attack.sites.channels)
    kept = [state for state in met if state.agreement >= 1 - budget]
    if not kept:
        most = max(state.agreement for state in met)
        return None, f"no repair kept {1 - budget:.0%} of the images' classes (the best kept {most:.0%})"
    best = min(kept, key=lambda state: (state.flip, -state.agreement))
    if best.flip > _GAIN * before:
        return None, f"the trigger still turns {best.flip:.0%} of the images after every repair within the budget"
    plain = [[tuple(map(float, row)) for row in rows] for rows in (best.scales, best.shifts, changes)]
    return Repair(*map(tuple, plain), before, best.flip, best.agreement, best.rounds), ""


def _teach(
    attack: Attack, images: Images, taught: Float32, rest: NDArray[np.bool_], found: list[Float32]
) -> None:
    factors = attack.factors
    values = [*factors.scales, *factors.shifts]
    adam = Adam(values, _RATE, STEPS * len(found), falling=True)
    for step in range(STEPS * len(found)):
        one = attack.lesson(images, taught)
        other = attack.lesson(images[rest] + found[-1 - step % len(found)], taught[rest])
        adam.step([(a + b).reshape(-1) for a, b in zip(one, other, strict=True)])


def _measure(attack: Attack, images: Images, given: NDArray[np.int64], again: Trigger, turn: int) -> _State:
    now = attack.logits(images).argmax(axis=1)
    scales = [scale.copy() for scale in attack.factors.scales]
    shifts = [shift.copy() for shift in attack.factors.shifts]
    return _State(scales, shifts, again.flip, float((now == given).mean()), turn)
