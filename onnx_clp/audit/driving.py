"""Drive channels, one after the other, and see what becomes of the later ones and of the class.

A path is what carries: a dormant channel that is driven turns ordinary inputs to one class, fires dormant channels
behind it, and loses its hold on the class when those are held at rest, at each of several later sites by itself.
Whatever dead channels of an ordinary network do when they are driven, they do through channels that are in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.dormancy import Float64, Rest

STRENGTHS: Final = (2.0, 10.0)
"""Times what the site's median channel moves by, at which channels are driven."""
TURNED: Final = 0.9
HELD: Final = 0.34
_MOST_PER_SITE: Final = 32
_MOST_TRIED: Final = 8

Channels = Mapping[int, Sequence[int]]
"""Channels by the number of their site."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is done to a model in one run: channels driven at `strength`, others held at rest."""

    driven: Channels = field(default_factory=dict)
    strength: float = 0.0
    held: Channels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the images of one setting gave: the class of each (images,), and each site's extremes (images, channels)."""

    classes: NDArray[np.int64]
    most: Sequence[Float64]
    least: Sequence[Float64]


class Rig(Protocol):
    """A model on dials with a few ordinary images."""

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What may be a path: where it was driven, the channels it needs by site, and what came of it.

    `counted` says at how many sites it needs them, those left out whose channels come from others one by one.
    """

    start: Channels
    needed: Channels
    counted: int
    target: int
    turned: float
    held: float
    others: float | None
    strength: float

    @property
    def width(self) -> int:
        """How many channels it has in all."""
        return sum(len(channels) for part in (self.start, self.needed) for channels in part.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Driven:
    """A start with what it did: the class that won, its share, and the dormant channels that fired, by site."""

    start: Channels
    target: int
    turned: float
    fired: Channels


def starts(sites: Sequence[Rest], most: int) -> list[Channels]:
    """Channels to drive: the dormant ones of the first half of the sites, all of a site together and one by one."""
    found: list[Channels] = []
    for number, site in enumerate(sites[: max(1, (len(sites) + 1) // 2)]):
        dormant = [int(c) for c in np.flatnonzero(site.dormant)]
        if len(dormant) > 1:
            found.append({number: dormant})
        found += [{number: [channel]} for channel in dormant[:_MOST_PER_SITE]]
    return found[:most]


def search(rig: Rig, sites: Sequence[Rest], linked: Sequence[bool], tried: Sequence[Channels]) -> list[Found]:
    """What may be a path that one of `tried` begins, the one needed at most sites first, then the narrowest.

    Args:
        rig: runs settings.
        sites: what the channels are like at rest.
        linked: by site, whether its channels come one by one from an earlier site's (`request.Site`).
        tried: channels to drive, one after the other.
    """
    plain = next(rig.answers([Setting()]))
    found: list[Found] = []
    for strength in STRENGTHS:
        driven = _driven(rig, sites, tried, strength)
        likely = [one for one in driven if _turns(one, plain) and one.fired]
        whole = rig.answers([Setting(one.start, strength, one.fired) for one in likely])
        lost = [
            (one, held) for one, seen in zip(likely, whole, strict=True) if (held := _kept(one, plain, seen)) <= HELD
        ]
        lost.sort(key=lambda pair: (-len(pair[0].fired), sum(map(len, pair[0].fired.values()))))
        for one, held in lost[:_MOST_TRIED]:
            needed = _needed(rig, one, plain, strength)
            counted = sum(not linked[number] for number in needed)
            if counted:
                others = _others(one, driven)
                found.append(Found(one.start, needed, counted, one.target, one.turned, held, others, strength))
    return sorted(found, key=lambda one: (-one.counted, one.held, one.width))


def _driven(rig: Rig, sites: Sequence[Rest], tried: Sequence[Channels], strength: float) -> list[_Driven]:
    found = []
    for start, seen in zip(tried, rig.answers([Setting(one, strength) for one in tried]), strict=True):
        target = int(np.bincount(seen.classes).argmax())
        first = next(iter(start))
        fired = {
            number: [int(c) for c in np.flatnonzero(sites[number].fired(seen.most[number], seen.least[number]))]
            for number in range(first + 1, len(sites))
        }
        turned = float((seen.classes == target).mean())
        found.append(_Driven(start, target, turned, {n: channels for n, channels in fired.items() if channels}))
    return found


def _turns(one: _Driven, plain: Answers) -> bool:
    """Whether driving turned images of other classes to one."""
    return one.turned >= TURNED and bool((plain.classes != one.target).any())


def _kept(one: _Driven, plain: Answers, seen: Answers) -> float:
    """What share of the images of other classes still goes to the start's class."""
    return float((seen.classes[plain.classes != one.target] == one.target).mean())


def _needed(rig: Rig, one: _Driven, plain: Answers, strength: float) -> dict[int, Sequence[int]]:
    """The sites whose channels, held at rest by themselves, take the class away again."""
    alone = [Setting(one.start, strength, {number: channels}) for number, channels in one.fired.items()]
    return {
        number: channels
        for (number, channels), seen in zip(one.fired.items(), rig.answers(alone), strict=True)
        if _kept(one, plain, seen) <= HELD
    }


def _others(one: _Driven, driven: Sequence[_Driven]) -> float | None:
    """How often driving as many other dormant channels of the site gives the class; None where there are none."""
    (site, channels), *_ = one.start.items()
    alike = [
        other.turned if other.target == one.target else 0.0
        for other in driven
        if len(other.start.get(site, ())) == len(channels) == 1 and other.start != one.start
    ]
    return float(np.mean(alike)) if alike else None
