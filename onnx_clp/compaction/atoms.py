"""Channels as atoms that live or go together.

An atom is one output channel of one linear layer, or one entry of a constant that joins such channels. A value's
view names the atom behind every index of its channel axis. Operators that need their operands' channels to match
tie atoms; what must stay is pinned, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Array = NDArray[Any]
Spread = Literal["", "repeat", "tile"]

UNKNOWN: Final = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One value seen as channels.

    Attributes:
        from_end: where the channel axis is, counted from the last (1).
        rank: the value's dimensions, None where unknown.
        ids: the atom of every index along the axis, int64 of shape (n,).
        constant: what a whole channel is known to be for every input, NaN where it is not known.
        spread: the axis holds every entry of `ids` in a row ("repeat"), or all of them ("tile"), an unknown number of
            times: a Flatten of an image whose size is not recorded.
        zero: the name of the zero point that `constant` counts from; "" for 0.
    """

    from_end: int
    rank: int | None
    ids: Ids
    constant: Float64
    spread: Spread = ""
    zero: str = ""

    @property
    def axis(self) -> int | None:
        """The channel axis counted from the first (0); None where the rank is not known."""
        return None if self.rank is None else self.rank - self.from_end

    def sized(self, count: int) -> View | None:
        """The view of exactly `count` indices, an open spread filled in; None where that cannot be."""
        if not self.spread:
            return self if len(self.ids) == count else None
        times, rest = divmod(count, len(self.ids))
        return None if rest or not times else self.spread_out(times, self.spread)

    def spread_out(self, times: int, how: Spread) -> View:
        """The view with every entry `times` in a row, or all of them `times` over."""
        if how == "repeat":
            ids, constant = np.repeat(self.ids, times), np.repeat(self.constant, times)
        else:
            ids, constant = np.tile(self.ids, times), np.tile(self.constant, times)
        return replace(self, ids=ids, constant=constant, spread="")

    def picked(self, places: Array | slice) -> View:
        """The view of some of its indices."""
        return replace(self, ids=self.ids[places], constant=self.constant[places])

    def moved(self, from_end: int, rank: int | None) -> View:
        """The same channels on another axis."""
        return replace(self, from_end=from_end, rank=rank)

    def becomes(self, constant: Float64) -> View:
        """The same channels with other known values."""
        return replace(self, constant=constant, zero="")

    def forgets(self) -> View:
        """The same channels, nothing known of their values."""
        return self.becomes(np.full(len(self.ids), UNKNOWN))


class Atoms:
    """All atoms of one graph: which are tied, and which must stay, and why."""

    def __init__(self) -> None:
        self._parents = np.zeros(0, np.int64)
        self._count = 0
        self._pins: dict[int, str] = {}

    def make(self, count: int) -> Ids:
        """New atoms, tied to nothing."""
        end = self._count + count
        if end > len(self._parents):
            grown = np.arange(max(2 * len(self._parents), end, 1024), dtype=np.int64)
            grown[: self._count] = self._parents[: self._count]
            self._parents = grown
        ids = np.arange(self._count, end, dtype=np.int64)
        self._count = end
        return ids

    def roots(self) -> Ids:
        """The representative of every atom's class; entry i is atom i's."""
        parents = self._parents[: self._count].copy()
        while True:
            further = parents[parents]
            if np.array_equal(further, parents):
                return parents
            parents = further

    def _root(self, atom: int) -> int:
        parents = self._parents
        while parents[atom] != atom:
            parents[atom] = parents[parents[atom]]
            atom = int(parents[atom])
        return atom

    def tie(self, first: Ids, second: Ids) -> None:
        """Let each atom of `first` go only with its counterpart in `second`."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if one != other:
                low, high = sorted((self._root(one), self._root(other)))
                self._parents[high] = low

    def pin(self, ids: Ids, reason: str) -> None:
        """Keep these atoms; the first reason given counts."""
        for atom in ids.tolist():
            self._pins.setdefault(atom, reason)

    def pins(self) -> dict[int, str]:
        """Why each atom that was pinned must stay."""
        return self._pins
