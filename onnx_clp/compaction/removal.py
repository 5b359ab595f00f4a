"""Which atoms can go: the largest set that no pin, no consumer and no shape holds back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnx_clp.compaction.atoms import Atoms, Ids, Mask

AT_LEAST_ONE = "a layer keeps at least one channel"


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a consumer needs of its input.

    Index i may go where it adds nothing (`silent`), or where no output that stays reads it: `used` says which output
    reads which input, of shape (groups, outputs, inputs) counted within a group, `outputs` names the outputs' atoms
    (None: all of them stay). `used` None means that every index is read. `padded` says that zeros lie beside what
    it reads, so that a constant adds less at the border.
    """

    name: str
    inputs: Ids
    silent: Mask
    constant: Mask
    used: Mask | None = None
    outputs: Ids | None = None
    padded: bool = False

    def needed(self, removal: Removal) -> Mask:
        """Which inputs must stay."""
        if self.used is None:
            return ~self.silent
        used: Mask = self.used
        if self.outputs is not None:
            staying = removal.keeps(self.outputs).reshape(used.shape[0], used.shape[1], 1)
            used = np.asarray(used & staying)
        return np.asarray(used.any(axis=1).reshape(-1) & ~self.silent)

    def reason(self, at: int, removal: Removal) -> str:
        """Why index `at` stays."""
        if self.constant[at]:
            return (
                f"it is constant and not zero where {self.name} {'pads it with zeros' if self.padded else 'reads it'}"
            )
        if removal.is_tied(int(self.inputs[at])):
            return f"it is tied to other branches' channels that are not zero where {self.name} reads them"
        return f"what it becomes on the way is not known to be zero where {self.name} reads it"


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """A grouped convolution: `inputs` and `outputs` are atoms of shape (groups, channels of a group)."""

    name: str
    inputs: Ids
    outputs: Ids

    def surplus(self, removal: Removal) -> tuple[Ids, Ids]:
        """Input and output atoms that must stay for all groups that stay to be of one size."""
        inputs, outputs = ~removal.keeps(self.inputs), ~removal.keeps(self.outputs)
        staying: Mask = np.asarray(~(inputs.all(axis=1) & outputs.all(axis=1)))
        if not staying.any():
            staying[0] = True
        return _level(self.inputs[staying], inputs[staying]), _level(self.outputs[staying], outputs[staying])

    def reason(self, *, reading: bool) -> str:
        """Why the surplus among the inputs (`reading`) or the outputs stays."""
        if self.inputs.shape[1] > 1:
            return f"the groups of {self.name} must stay of one size"
        return f"what {self.name} makes of it stays" if reading else f"{self.name} makes it of a channel that stays"


def _level(ids: Ids, gone: Mask) -> Ids:
    """Those of `gone` beyond what every row can spare, one of each row left in any case."""
    spare = min(int(gone.sum(axis=1).min()), gone.shape[1] - 1)
    rank = np.cumsum(gone, axis=1)
    return np.asarray(ids[gone & (rank > spare)])


class Evenness(Protocol):
    """A run of atoms of which an even number stays (`compaction.multiples`)."""

    def surplus(self, removal: Removal) -> Ids:
        """Atoms that would go and must stay for that."""

    @property
    def reason(self) -> str:
        """Why they stay."""


class Removal:
    """The solved question: `reasons` says of every class that stays why, by its representative."""

    def __init__(self, atoms: Atoms) -> None:
        self.roots = atoms.roots()
        self.reasons: dict[int, str] = {}
        self._sizes = np.bincount(self.roots)
        self._kept = np.zeros(len(self.roots), dtype=bool)
        for atom, reason in atoms.pins().items():
            self._keep(int(self.roots[atom]), reason)

    def _keep(self, root: int, reason: str) -> bool:
        fresh = not self._kept[root]
        self._kept[root] = True
        self.reasons.setdefault(root, reason)
        return bool(fresh)

    def keeps(self, ids: Ids) -> Mask:
        """Which of these atoms stay."""
        return np.asarray(self._kept[self.roots[ids]])

    def reason(self, atom: int) -> str:
        """Why an atom stays; "" where it goes."""
        return self.reasons.get(int(self.roots[atom]), "")

    def is_tied(self, atom: int) -> bool:
        """Whether an atom goes only with others."""
        return bool(self._sizes[self.roots[atom]] > 1)

    def keep(self, ids: Ids, reason: str) -> bool:
        """Keep these atoms; whether any of them would have gone."""
        fresh = [self._keep(root, reason) for root in np.unique(self.roots[ids]).tolist()]
        return any(fresh)

    def settle(
        self, demands: list[Demand], groupings: list[Grouping], whole: Iterable[Ids], runs: Sequence[Evenness] = ()
    ) -> None:
        """Keep what is needed until nothing more is; `whole` are values that must keep an index, `runs` an even number.

        What is needed for its own sake is settled first, so that evenness adds the least.
        """
        values = list(whole)
        while True:
            while self._meet(demands):
                pass
            if not (self._level(groupings) or self._fill(values) or self._even_out(runs)):
                return

    def _meet(self, demands: list[Demand]) -> bool:
        changed = False
        for demand in reversed(demands):
            needed = demand.needed(self) & ~self.keeps(demand.inputs)
            for at in np.flatnonzero(needed).tolist():
                changed |= self.keep(demand.inputs[at : at + 1], demand.reason(at, self))
        return changed

    def _level(self, groupings: list[Grouping]) -> bool:
        changed = False
        for grouping in groupings:
            for reading, surplus in zip((True, False), grouping.surplus(self), strict=True):
                if surplus.size:
                    changed |= self.keep(surplus, grouping.reason(reading=reading))
        return changed

    def _fill(self, values: list[Ids]) -> bool:
        """Keep one index of the last value that would lose all."""
        for ids in reversed(values):
            if not self.keeps(ids).any():
                return self.keep(ids[:1], AT_LEAST_ONE)
        return False

    def _even_out(self, runs: Sequence[Evenness]) -> bool:
        changed = False
        for run in runs:
            surplus = run.surplus(self)
            if surplus.size:
                changed |= self.keep(surplus, run.reason)
        return changed
