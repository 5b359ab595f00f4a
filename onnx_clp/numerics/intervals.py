"""Intervals that hold for any input of a box: of values, and of how far they may move when a few entries change.

A `Spread` says, channel by channel, between which numbers all entries lie (`low`, `high`), how far any one entry may
move (`most`) and how far all entries of the channel may move together, added up in absolute terms (`total`). Changed
and unchanged input lie in the same box, so a move is never longer than `high - low`.

All are bounds of the function in real numbers. They are computed in float64 and rounded outwards: a sum of n products
is off by at most (n + 4)·2⁻⁵² of the sum of their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms,
3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]

_EPS: Final = 2.0**-52
_TINY: Final = 1e-280
"""What a function gives that is smaller may have been rounded to 0."""
_TOGETHER: Final = 1 << 22
"""Weights in float64 at once, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Bounds by channel, float64 of shape (channels,); `places`: how many entries of a channel may move."""

    low: Float64
    high: Float64
    most: Float64
    total: Float64
    places: int

    @property
    def size(self) -> Float64:
        """The largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def settled(low: Float64, high: Float64, most: Float64, total: Float64, places: int) -> Spread:
    """A spread whose bounds say no more than each other: a move fits the values, all moves fit the places."""
    most = np.minimum(most, _up(high - low, 1))
    total = np.minimum(total, _up(places * most, 1))
    return Spread(low, high, np.minimum(most, total), total, places)


def box(low: float, high: float, channels: int, places: int) -> Spread:
    """The input: `places` entries of each channel may take any value of the box."""
    ones = np.ones(channels)
    return settled(low * ones, high * ones, np.inf * ones, np.inf * ones, places)


def _up(values: Float64, terms: int) -> Float64:
    """Numbers that are not negative, rounded up as a sum of so many terms needs."""
    return np.asarray(values * (1 + (terms + 4) * _EPS))


def _outward(low: Float64, high: Float64, magnitude: Float64, terms: int) -> tuple[Float64, Float64]:
    room = (terms + 4) * _EPS * magnitude
    return low - room, high + room


def applied(spread: Spread, ends: Callable[[Float64, Float64], Sequence[Float64]], slope: Float64 | float) -> Spread:
    """A function of each entry.

    Args:
        spread: of its argument.
        ends: from `low` and `high` values among which its smallest and largest one on that interval are.
        slope: the largest absolute slope.
    """
    found = np.stack(ends(spread.low, spread.high))
    low, high = _outward(found.min(axis=0), found.max(axis=0), np.abs(found).max(axis=0) + _TINY, 4)
    return settled(low, high, _up(spread.most * slope, 1), _up(spread.total * slope, 1), spread.places)


def shifted(spread: Spread, least: Float64, largest: Float64) -> Spread:
    """Constants between `least` and `largest` added: they move nothing."""
    magnitude = spread.size + np.maximum(np.abs(least), np.abs(largest))
    low, high = _outward(spread.low + least, spread.high + largest, magnitude, 1)
    return settled(low, high, spread.most, spread.total, spread.places)


def scaled(spread: Spread, least: Float64, largest: Float64) -> Spread:
    """Times constants between `least` and `largest`."""
    corners = np.stack([end * factor for end in (spread.low, spread.high) for factor in (least, largest)])
    low, high = _outward(corners.min(axis=0), corners.max(axis=0), np.abs(corners).max(axis=0), 1)
    slope = np.maximum(np.abs(least), np.abs(largest))
    return settled(low, high, _up(spread.most * slope, 1), _up(spread.total * slope, 1), spread.places)


def added(one: Spread, other: Spread, places: int) -> Spread:
    """The sum of two values, entry by entry."""
    low, high = _outward(one.low + other.low, one.high + other.high, one.size + other.size, 1)
    return settled(low, high, _up(one.most + other.most, 1), _up(one.total + other.total, 1), places)


def multiplied(one: Spread, other: Spread, places: int) -> Spread:
    """The product of two values, entry by entry: a'b' - ab = a'(b' - b) + b(a' - a)."""
    corners = np.stack([a * b for a in (one.low, one.high) for b in (other.low, other.high)])
    low, high = _outward(corners.min(axis=0), corners.max(axis=0), np.abs(corners).max(axis=0), 1)
    most = one.size * other.most + other.size * one.most
    return settled(low, high, _up(most, 3), _up(one.size * other.total + other.size * one.total, 3), places)


def chosen(one: Spread, other: Spread, places: int, pick: Callable[[Float64, Float64], Float64]) -> Spread:
    """The larger or the smaller of two values, entry by entry; `pick` is np.maximum or np.minimum."""
    most, total = np.maximum(one.most, other.most), _up(one.total + other.total, 1)
    return settled(pick(one.low, other.low), pick(one.high, other.high), most, total, places)


def joined(spreads: Sequence[Spread], places: int) -> Spread:
    """Channels of several values one behind the other."""
    parts = [np.concatenate([getattr(one, name) for one in spreads]) for name in ("low", "high", "most", "total")]
    return settled(parts[0], parts[1], parts[2], parts[3], places)


def averaged(spread: Spread, count: int) -> Spread:
    """The mean over all `count` entries of a channel."""
    low, high = _outward(spread.low, spread.high, spread.size, count)
    total = _up(spread.total / count, 1)
    return settled(low, high, total, total, 1)


def pooled(spread: Spread, places: int, overlap: int, fewest: int) -> Spread:
    """The largest or the mean of each window: an entry lies in `overlap` windows at most.

    `fewest` is the least number of entries a mean is over, and 1 for a maximum.
    """
    total = spread.total
    most = np.minimum(spread.most, _up(total / fewest, 1))
    low, high = _outward(spread.low, spread.high, spread.size, 1 << 12)
    return settled(low, high, most, _up(total * overlap / fewest, 2), places)


def widened(spread: Spread, value: float) -> Spread:
    """A spread of values among which there is also this one, at places that do not move."""
    return replace(spread, low=np.minimum(spread.low, value), high=np.maximum(spread.high, value))


def linear(spread: Spread, weights: Array, bias: Float64, classes: Sequence[int], places: int) -> Spread:
    """A convolution, or a product with a matrix.

    Args:
        spread: of what it reads, padding included.
        weights: (groups, outputs, inputs, taps): outputs and inputs of a group, and the entries of a channel that one
            output reads.
        bias: (groups · outputs,).
        classes: for each tap a number; one entry of the input meets taps of one class only, as strides have it.
        places: entries of an output channel that may move.
    """
    groups, outputs, inputs, taps = weights.shape
    step = max(1, _TOGETHER // max(1, groups * inputs * taps))
    parts = [_linear(spread, weights[:, at : at + step], classes) for at in range(0, outputs, step)]
    low, high, magnitude, most, total = (
        np.concatenate([one[k] for one in parts], axis=1).reshape(-1) for k in range(5)
    )
    terms = inputs * taps + 1
    low, high = _outward(low + bias, high + bias, magnitude + np.abs(bias), terms)
    return settled(low, high, _up(most, 2 * terms), _up(total, terms), places)


def _linear(spread: Spread, weights: Array, classes: Sequence[int]) -> tuple[Float64, ...]:
    """Of some outputs, (groups, outputs) each: low and high less the bias, magnitude, most, total."""
    wide = weights.astype(np.float64)
    by_input = (wide.shape[0], wide.shape[2], 1)
    low, high, size, total = (one.reshape(by_input) for one in (spread.low, spread.high, spread.size, spread.total))
    above, below = np.maximum(wide, 0).sum(axis=3), np.minimum(wide, 0).sum(axis=3)
    kinds = np.asarray(classes)
    absolute = np.abs(wide)
    met = np.max([absolute[..., kinds == one].sum(axis=3) for one in np.unique(kinds)], axis=0)
    found = (
        above @ low + below @ high,
        above @ high + below @ low,
        (above - below) @ size,
        moved(absolute, spread)[..., None],
        met @ total,
    )
    return tuple(one[..., 0] for one in found)


def moved(absolute: Float64, spread: Spread) -> Float64:
    """How far one output may move, (groups, outputs), from absolute weights (groups, outputs, inputs, taps).

    The entries it reads of one channel move by `most` each and `total` together: the largest weights take as much of
    that as they can.
    """
    groups, _, inputs, taps = absolute.shape
    most, total = (one.reshape(groups, 1, inputs) for one in (spread.most, spread.total))
    if taps == 1:
        return np.asarray((absolute[..., 0] * most).sum(axis=2))
    ordered = -np.sort(-absolute, axis=3)
    ratio = np.divide(total, most, out=np.zeros_like(total), where=most > 0) * (1 + 4 * _EPS)
    share = np.clip(ratio[..., None] - np.arange(taps), 0.0, 1.0)
    return np.asarray(((ordered * share).sum(axis=3) * most).sum(axis=2))


def apart(spread: Spread, weights: Array) -> float:
    """How far any two outputs of a product with a matrix may move against each other.

    Args:
        spread: of what it reads.
        weights: (outputs, inputs, taps), two outputs or more.
    """
    wide = weights.astype(np.float64)
    _, inputs, taps = wide.shape
    found = [moved(np.abs(wide - row)[None], spread).max() for row in wide]
    return float(_up(np.max(found), 2 * inputs * taps))
