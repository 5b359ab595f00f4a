"""Which channels no ordinary input fires: those that hardly leave their value at rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SILENT: Final = 0.1
"""A channel is dormant that moves by at most this much of what the site's median channel moves by."""
USUAL: Final = (0.75, 0.5)
"""What so many of the ordinary inputs keep a channel within is what it usually gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """What the channels of one site are like on ordinary inputs; float64 (channels,) but for `scale`.

    Attributes:
        rest: the median over inputs and over the largest and smallest value of each.
        low, high: the smallest and the largest value of each.
        scale: how far the median moving channel gets from its rest; 0 where none moves.
        dormant: which channels hardly move.
        least, most: what each usually keeps within, (usual shares, channels), by its smallest and its largest value of
            an input; the same for all entries of a map that was made flat.
    """

    rest: Float64
    low: Float64
    high: Float64
    scale: float
    dormant: Mask
    least: Float64
    most: Float64

    def beyond(self, most: Float64, least: Float64) -> Float64:
        """How far channels go beyond everything ordinary on every input of a run, in scales; (inputs, channels) in."""
        moved = np.maximum(most - self.high, self.low - least).min(axis=0)
        return np.asarray(moved / self.scale if self.scale > 0 else np.zeros(len(moved)))


def at_rest(most: Float64, least: Float64, places: int = 1, *, inner: bool = False) -> Rest:
    """Channels at rest, from the largest and smallest value of each on ordinary inputs, (inputs, channels).

    `places` of them are of one map that was made flat: one after the other, or, if they are `inner`, every so many.
    """
    with np.errstate(all="ignore"):
        rest, low, high = np.median(np.concatenate([most, least]), axis=0), least.min(axis=0), most.max(axis=0)
        moved = np.maximum(high - rest, rest - low)
        lowest, highest = -_of_maps(-least, places, inner=inner), _of_maps(most, places, inner=inner)
        usual = (
            np.quantile(lowest, [1 - share for share in USUAL], axis=0),
            np.quantile(highest, USUAL, axis=0),
        )
    moving = moved[moved > 0]
    scale = float(np.median(moving)) if moving.size else 0.0
    if not (np.isfinite(moved).all() and np.isfinite(scale)):
        return Rest(rest, low, high, 0.0, np.zeros(len(moved), bool), *usual)
    return Rest(rest, low, high, scale, np.asarray(moved <= SILENT * scale), *usual)


def _of_maps(most: Float64, places: int, *, inner: bool) -> Float64:
    """The largest of all entries of the map that each is of, (inputs, channels)."""
    if places == 1:
        return most
    shape = (len(most), places, -1) if inner else (len(most), -1, places)
    axis = 1 if inner else 2
    maps = most.reshape(shape)
    return np.broadcast_to(maps.max(axis=axis, keepdims=True), maps.shape).reshape(most.shape)
