"""Which pixel values a model takes: as the user says, as the file says, or as its own statistics tell.

In this order: the user's range; 8-bit inputs; the range of a QuantizeLinear that reads the input; where the
distribution of an early value is known (by a BatchNormalization), the values under which photographs give that
distribution; else all values, in turn, of the scale under which the first convolution gives numbers of ordinary size.
If photographs leave all classes alike in these, they show nothing: pixels up to 1 do that to a network for pixels up to
255. Then the values of the other scale count too, if a class is ahead in them as it usually is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_clp.gauge.crops import Float32
from onnx_clp.gauge.intake import BYTES, LARGE, SIGNED_BYTES, SMALL, UNIT, Intake, Pixels, given
from onnx_clp.gauge.request import Landmark

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Look = Callable[[Pixels], list[Array]]
"""The landmark's value under these pixel values, by image."""
Ahead = Callable[[Pixels], float | None]
"""By how many logits the likeliest class is ahead under these pixel values, on average; None where there are none."""

_ORDINARY_STD: Final = 0.3
_USUAL_LEAD: Final = 2.5
"""Logits by which a network's likeliest class is ahead on photographs, of anything, on average."""
_ALIKE: Final = 0.1
"""Logits by which no class is ahead of another."""
_FITS: Final = 1.0
_CLOSE: Final = 1.5
_NEARLY: Final = 3.0
"""Times the least mismatch up to which another counts as no worse: where the least is a fit, and where none is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Pixel values, one after the other in turn, and where they come from (as in `document.gauge.Ordinary`)."""

    pixels: tuple[Pixels, ...]
    told: str

    @property
    def name(self) -> str:
        """As shown to a user."""
        return ", ".join(one.name for one in self.pixels)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of the likeliest."""
        return self.pixels[0].ends

    def of(self, images: Float32) -> Float32:
        """Images (n, 3, height, width) in 0..1, in these values."""
        parts = [one.of(images[at :: len(self.pixels)]) for at, one in enumerate(self.pixels)]
        out = np.empty_like(images)
        for at, part in enumerate(parts):
            out[at :: len(parts)] = part
        return out


def settled(intake: Intake, asked: tuple[float, float] | None, quantised: tuple[float, float] | None) -> Choice | None:
    """The choice that needs no run of the model; None where only that can tell.

    Args:
        intake: the input.
        asked: the user's range.
        quantised: the smallest and the largest value that a quantiser at the input can hold.
    """
    if asked is not None:
        return Choice((given(*asked),), "option")
    if intake.data_type == TensorProto.UINT8:
        return Choice((BYTES,), "file")
    if intake.data_type == TensorProto.INT8:
        return Choice((SIGNED_BYTES,), "file")
    if quantised is not None:
        return Choice((min((*SMALL, *LARGE), key=lambda one: _apart(one.ends, quantised)),), "file")
    return None


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def found(landmark: Landmark | None, look: Look, *, normalises: bool, ahead: Ahead | None = None) -> Choice:
    """The choice that running the model tells; `normalises` says that its first operators do, so values come plain."""
    if landmark is None or not landmark.mean:
        scales = list(dict.fromkeys(_scales(None if landmark is None else look, ahead)))
        likely = [one for scale in scales or [UNIT] for one in _kinds(scale, normalises=normalises)]
        return Choice(tuple(likely), "scale" if scales else "guess")
    known = np.array(landmark.mean), np.array(landmark.std)
    apart = {pixels: mismatch(look(pixels), *known) for pixels in (*SMALL, *LARGE)}
    least = min(apart.values())
    # Of those that fit nearly as well the plainest is the likeliest. A network of unusual images fits none well.
    room = (_CLOSE if least < _FITS else _NEARLY) * least
    return Choice((next(pixels for pixels in apart if apart[pixels] <= room),), "statistics")


def _scales(look: Look | None, ahead: Ahead | None) -> Iterator[Pixels]:
    """What the first layer tells of the scale, and what the class scores tell where they are all alike in that."""
    apart = {} if look is None else {one: _strangeness(look(one)) for one in (UNIT, BYTES)}
    scale = min(apart, key=lambda one: apart[one], default=UNIT)
    known = bool(apart) and math.isfinite(apart[scale])
    if known:
        yield scale
    if ahead is None:
        return
    lead = ahead(scale) if known else 0.0
    if lead is not None and lead < _ALIKE and (other := by_lead(ahead)) is not None:
        yield other


def _kinds(scale: Pixels, *, normalises: bool) -> tuple[Pixels, ...]:
    return (scale,) if normalises else SMALL if scale == UNIT else LARGE


def by_lead(ahead: Ahead) -> Pixels | None:
    """Values up to 1 or up to 255, under which the lead of a class is more as usual; None where neither has one."""
    apart = {one: _unusual(lead) for one in (UNIT, BYTES) if (lead := ahead(one)) is not None}
    least = min(apart, key=lambda one: apart[one], default=None)
    return least if least is not None and math.isfinite(apart[least]) else None


def _unusual(lead: float) -> float:
    """How many times a lead is larger or smaller than usual, as a logarithm."""
    return abs(math.log(lead / _USUAL_LEAD)) if 0 < lead < math.inf else math.inf


def mismatch(values: Sequence[Array], mean: Float64, std: Float64) -> float:
    """How far values (channels on axis 0 of each image) are from their known distribution: the median channel.

    (difference of means)²/variance + ½ log²(ratio of variances); infinite where they are not finite. One channel that
    somebody wrote by hand, with statistics that are not its own, would decide a mean.
    """
    seen_mean, seen_std = _moments(values)
    usable = (std > 0) & (seen_std > 0)
    if not usable.any() or not np.isfinite([seen_mean, seen_std]).all():
        return float("inf")
    gap = (seen_mean - mean)[usable] ** 2 / std[usable] ** 2
    found = gap + 0.5 * np.log((seen_std[usable] / std[usable]) ** 2) ** 2
    return float(np.median(found))


def _moments(values: Sequence[Array]) -> tuple[Float64, Float64]:
    """Mean and std by channel over images and places."""
    flat = np.concatenate([v.reshape(len(v), -1) for v in values], axis=1).astype(np.float64)
    return flat.mean(axis=1), flat.std(axis=1)


def _strangeness(values: Sequence[Array]) -> float:
    """How many times the median std of the channels is larger or smaller than usual, as a logarithm."""
    spread = float(np.median(_moments(values)[1]))
    return abs(np.log(spread / _ORDINARY_STD)) if spread > 0 and np.isfinite(spread) else float("inf")
