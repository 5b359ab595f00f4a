"""How much of an edit the budget allows: channels in order of what they show per what they cost, caps as low as may be.

A channel that lies far out and hardly varies on ordinary inputs is what a trigger drives and nothing else needs: it
goes first. One number, how many channels go, is then found by halving; the caps are the lowest of a fixed list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.document.gauge import Prediction
from onnx_clp.gauge.request import Dial

Array = NDArray[Any]
Float64 = NDArray[np.float64]

LADDER: Final = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
"""Times the std at which caps are tried."""

_LEAST_SPREAD: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel that may go: of which dial, its place among the dial's outlying ones, how far out it lies."""

    dial: int
    place: int
    z: float


@dataclass(frozen=True, slots=True)
class DialDose:
    """Which channels are off, and how many stds the caps are above the mean (None: no caps)."""

    off: tuple[Channel, ...]
    caps: float | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an edit may cost: the upper end of the predicted loss, and the share of answers that may change."""

    budget: float
    changed: float = 1.0

    def holds(self, prediction: Prediction) -> bool:
        """Whether a prediction stays within it; of answers, classes count and nothing else."""
        changed = (one.changed or 0.0 for one in prediction.outputs if one.kind == "classes")
        return prediction.loss.high <= self.budget and max(changed, default=0.0) <= self.changed

    def of_part(self, share: float) -> Allowance:
        """What a `share` of the images, above 0, may cost at most if all of them together are to stay within this.

        That is so if the others cost nothing: a mean over all is never below its part's, times the share.
        """
        return Allowance(self.budget / share, self.changed / share)


Measure = Callable[[DialDose], Prediction]


def ordered(dials: Sequence[Dial], spreads: Sequence[Float64]) -> list[Channel]:
    """All outlying channels, the one with most z per variance first.

    `spreads` are by dial the variances of its outlying channels on ordinary inputs, over the layer's mean.
    """
    keyed = []
    for number, (dial, spread) in enumerate(zip(dials, spreads, strict=True)):
        for place, z in enumerate(dial.switch.z):
            keyed.append((-abs(z) / max(float(spread[place]), _LEAST_SPREAD), Channel(number, place, z)))
    return [channel for _, channel in sorted(keyed, key=lambda pair: pair[0])]


def longest(
    channels: Sequence[Channel], caps: float | None, allowed: Allowance, measure: Measure
) -> tuple[DialDose, Prediction]:
    """The longest beginning of `channels` that surely costs no more than is `allowed`, with its prediction.

    Found by halving, so for losses that grow with the number of channels; in any case the prediction is that of the
    dose given. Where even no channel costs too much (caps do), no channel goes.
    """
    whole = DialDose(tuple(channels), caps)
    found = measure(whole)
    if allowed.holds(found) or not channels:
        return whole, found
    low, high = 0, len(channels)
    best, known = DialDose((), caps), None
    while high - low > 1:
        middle = (low + high) // 2
        tried = DialDose(tuple(channels[:middle]), caps)
        found = measure(tried)
        if allowed.holds(found):
            low, best, known = middle, tried, found
        else:
            high = middle
    return best, known or measure(best)


def lowest(least: float, allowed: Allowance, measure: Measure) -> tuple[float | None, Prediction]:
    """The lowest caps of the ladder, from `least` up, that surely cost no more than is `allowed`; None for no caps."""
    steps = [least, *(step for step in LADDER if step > least)] if least > 0 else list(LADDER)
    low, high = -1, len(steps)
    known: dict[int, Prediction] = {}
    while high - low > 1:
        middle = (low + high) // 2
        known[middle] = measure(DialDose((), steps[middle]))
        if allowed.holds(known[middle]):
            high = middle
        else:
            low = middle
    if high == len(steps):
        return None, measure(DialDose(()))
    return steps[high], known[high]


def feeds(
    dials: Sequence[Dial], fills: Sequence[Float64], dose: DialDose, dtypes: Mapping[str, np.dtype[Any]]
) -> dict[str, Array]:
    """What the inputs of the dials take for a dose."""
    given: dict[str, Array] = {}
    chosen: dict[int, list[int]] = {}
    for channel in dose.off:
        chosen.setdefault(channel.dial, []).append(channel.place)
    for number, (dial, fill) in enumerate(zip(dials, fills, strict=True)):
        switch = dial.switch
        off, values = np.zeros(switch.channels, bool), np.zeros(switch.channels)
        outlying = np.array(switch.outlying)
        off[outlying[chosen.get(number, [])]] = True
        values[outlying] = fill
        given[dial.off] = off.reshape(switch.shape)
        if dial.fill:
            given[dial.fill] = _stored(values, switch.quantum, dtypes[dial.fill]).reshape(switch.shape)
    return given


def _stored(values: Float64, quantum: tuple[float, float] | None, dtype: np.dtype[Any]) -> Array:
    """Numbers in the type of the value they go into."""
    if quantum is None:
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / quantum[0] + quantum[1]), limits.min, limits.max).astype(dtype)
