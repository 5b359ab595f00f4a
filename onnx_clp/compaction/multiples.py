"""Counts of channels that fill whole blocks: runtimes take channels in blocks, and what fills none runs slower.

What a layer makes keeps a multiple of N channels, or all it had; so does each group of a grouped one. What a layer
reads stays as even as it was: a multiple of the largest number that divides both N and the count before, so that
whatever joins it need not be even alone. Of the channels that could go, the last ones stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnx_clp.compaction.atoms import Ids
from onnx_clp.compaction.removal import Removal
from onnx_clp.compaction.survey import Survey


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Atoms of which a multiple of `multiple` stays, or all; `whole` is what `multiple` is a part of."""

    ids: Ids
    multiple: int
    whole: int

    def surplus(self, removal: Removal) -> Ids:
        """Atoms that would go and must stay for that: the last ones."""
        gone = self.ids[~removal.keeps(self.ids)]
        kept = len(self.ids) - len(gone)
        missing = min(-(-kept // self.multiple) * self.multiple - kept, len(gone))
        if missing <= 0:
            return gone[:0]
        classes, times = np.unique(removal.roots[gone], return_counts=True)
        counts = dict(zip(classes.tolist(), times.tolist(), strict=True))
        picked: list[int] = []
        for atom in gone[::-1].tolist():
            if missing <= 0:
                break
            # A class that stands here several times stays with all of them.
            missing -= counts.pop(int(removal.roots[atom]), 0)
            picked.append(atom)
        return np.asarray(picked, np.int64)

    @property
    def reason(self) -> str:
        """Why the surplus stays."""
        return reason(self.whole)


def reason(multiple: int) -> str:
    """What the report says of a channel that stays to fill a multiple."""
    return f"kept to fill a multiple of {multiple:,}"


def runs(survey: Survey, multiple: int) -> list[Run]:
    """What must stay even, the shortest first, so that a part is settled before what holds it; none for 1."""
    if multiple == 1:
        return []
    return sorted(_runs(survey, multiple), key=lambda run: len(run.ids))


def _runs(survey: Survey, multiple: int) -> Iterator[Run]:
    for source in survey.sources:
        yield Run(source.ids, multiple, multiple)
    for grouping in survey.groupings:
        for table in (grouping.inputs, grouping.outputs):
            if table.shape[1] > 1:
                yield from (Run(row, multiple, multiple) for row in table)
    for demand in survey.demands:
        common = math.gcd(len(demand.inputs), multiple)
        if common > 1:
            yield Run(demand.inputs, common, multiple)
