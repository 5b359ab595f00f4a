"""From caps against what was found to caps against more: up the rungs of a ladder, then in rounds.

A round looks for what still works in the capped model and caps that as well, behind the caps before. Both go no further
than something still works, as far as there is something to look for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnx_clp.inversion.pace import Deadline, TimeUp
from onnx_clp.inversion.repair import Mark, RepairBench, State, better, state_of
from onnx_clp.inversion.subject import Subject

ROUNDS: Final = 8

Counter = Callable[[Subject], Sequence[Mark]]
"""Marks that still turn images in a model under caps; none where nothing is found. May raise `TimeUp`."""


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """The climb of a repair.

    Attributes:
        bench: the model and the images of the repair.
        forms: what turned images at first, and must not again.
        budget: the largest share of images whose class may change, and the largest predicted loss.
        deadline: when to stop.
        counter: finds what still works; without it all rungs are climbed that the budget allows, and no round follows.
        slack: the share of images that the forms may turn beyond what they turn by now.
        blind: whether the counter finds so little of what may still work that all rungs are climbed as well.
    """

    bench: RepairBench
    forms: Sequence[Mark]
    budget: float
    deadline: Deadline
    counter: Counter | None = None
    blind: bool = False
    slack: float = 0.0

    def __call__(self, best: State, rungs: Sequence[Sequence[Mark]]) -> State:
        """The highest rung within the budget that stops what is on it, else `best`, with up to `ROUNDS` behind."""
        found = self._found(best)
        for rung in rungs:
            if self.deadline.left <= 0 or (self.counter is not None and not found and not self.blind):
                break
            higher = self._higher(rung, best)
            if higher is not None:
                best, found = higher, self._found(higher)
        return self._on(best, found)

    def _higher(self, rung: Sequence[Mark], best: State) -> State | None:
        """Caps against the rung; None where they cost too much or stop too little."""
        return self._kept(state_of(self.bench, rung, best.quantile), best)

    def _on(self, best: State, found: Sequence[Mark]) -> State:
        """The rounds, until nothing is found, the next costs too much, or time is short."""
        for _ in range(ROUNDS):
            before = self.deadline.left
            more = self._against(found, best) if found else None
            if more is None:
                break
            best = more
            if not self.deadline.again(before):
                break
            found = self._found(best)
        return best

    def _found(self, best: State) -> Sequence[Mark]:
        """What still works under the caps; nothing where there is no time to look."""
        try:
            return () if self.counter is None else self.counter(self.bench.subject(best.caps))
        except TimeUp:
            return ()

    def _against(self, found: Sequence[Mark], best: State) -> State | None:
        """The caps of `best` and caps against `found`; None where those cost too much."""
        caps = self.bench.fit(found, best.quantile, best.caps)
        return self._kept(State(best.quantile, caps, self.bench.gauge(caps, self.forms)), best)

    def _kept(self, state: State, best: State) -> State | None:
        """The state, if it keeps within the budget and is no worse than `best`."""
        return state if better(self.bench, state, best, self.budget, self.slack) else None
