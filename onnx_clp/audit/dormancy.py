"""Which channels no ordinary input fires: those that hardly leave their value at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SILENT: Final = 0.1
"""A channel is dormant that moves by at most this much of what the site's median channel moves by."""
FIRED: Final = 0.3
"""A dormant channel has fired that moves by more than this much of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """What the channels of one site are like on ordinary inputs; float64 (channels,) but for `scale`.

    Attributes:
        rest: the median over inputs and over the largest and smallest value of each.
        scale: how far the median moving channel gets from its rest; 0 where none moves.
        dormant: which channels hardly move.
    """

    rest: Float64
    scale: float
    dormant: Mask

    def fired(self, most: Float64, least: Float64) -> Mask:
        """Which dormant channels fire on every input of a run: (inputs, channels) of their extremes."""
        moved = np.maximum(most - self.rest, self.rest - least).min(axis=0)
        return np.asarray(self.dormant & (moved > FIRED * self.scale) & (self.scale > 0))


def at_rest(most: Float64, least: Float64) -> Rest:
    """Channels at rest, from the largest and smallest value of each on ordinary inputs, (inputs, channels)."""
    with np.errstate(all="ignore"):
        rest = np.median(np.concatenate([most, least]), axis=0)
        moved = np.maximum(most.max(axis=0) - rest, rest - least.min(axis=0))
    moving = moved[moved > 0]
    scale = float(np.median(moving)) if moving.size else 0.0
    finite = np.isfinite(moved).all() and np.isfinite(scale)
    dormant = moved <= SILENT * scale if finite else np.zeros(len(moved), bool)
    return Rest(rest, scale if finite else 0.0, np.asarray(dormant))


def in_any(groups: Sequence[Rest]) -> Rest:
    """Channels that are dormant on one kind of inputs at least, at rest as they are there; the first kind's scale."""
    dormant, rest = groups[0].dormant.copy(), groups[0].rest.copy()
    for group in groups[1:]:
        more = group.dormant & ~dormant
        rest[more] = group.rest[more]
        dormant |= more
    return Rest(rest, groups[0].scale, dormant)


def counted(sites: Sequence[Rest]) -> int:
    """How many channels are dormant."""
    return int(sum(site.dormant.sum() for site in sites))
