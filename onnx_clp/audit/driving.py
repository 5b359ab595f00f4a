"""Drive channels, one after the other, and see what becomes of the later ones and of the class.

A path is what carries: a watched channel that is driven turns ordinary inputs to one class, fires watched channels
behind it, and loses its hold on the class when those are held at rest, at each of several later sites by itself.
Watched are channels that no ordinary input fires, and those whose kernels read next to nothing but each other.
Whatever dead channels of an ordinary network do when they are driven, they do through channels that are in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.dormancy import FIRED, Float64, Rest

STRENGTHS: Final = (2.0, 10.0)
"""Times what the site's median channel moves by, at which channels are driven."""
_HARD: Final = 100.0
"""The same for the end of a path, once one is found."""
TURNED: Final = 0.9
HELD: Final = 0.34
_MOST_PER_SITE: Final = 32
_MOST_THIN: Final = 8
_MOST_TRIED: Final = 8
_WIDTHS: Final = (1, 2, 4, 8)

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
    """What the images of one setting gave: scores (images, classes), and each site's extremes (images, channels).

    Scores are such that differences count, as those of logits or of logarithms of probabilities do.
    """

    scores: Float64
    most: Sequence[Float64]
    least: Sequence[Float64]

    @property
    def classes(self) -> NDArray[np.int64]:
        """The class of each image."""
        return np.asarray(self.scores.argmax(axis=1))

    def margins(self, target: int) -> Float64:
        """By how much the target's score is above all others; (images,)."""
        others = np.delete(self.scores, target, axis=1)
        return np.asarray(self.scores[:, target] - others.max(axis=1, initial=-np.inf))


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
    """A start with what it did: the class that won, its share and margins, the watched channels that fired, by site."""

    start: Channels
    target: int
    turned: float
    margins: Float64
    fired: Channels


def starts(sites: Sequence[Rest], thin: Sequence[Sequence[int]], most: int) -> list[Channels]:
    """Channels to drive in the first half of the sites: those on thin ways, then the dormant ones.

    The dormant ones of a site are driven all together and one by one.

    Args:
        sites: what the channels are like at rest.
        thin: the channels on thin ways of each site, the thinnest first.
        most: how many starts.
    """
    half = max(1, (len(sites) + 1) // 2)
    found: list[Channels] = [{number: [channel]} for number in range(half) for channel in thin[number][:_MOST_THIN]]
    for number, site in enumerate(sites[:half]):
        dormant = [int(c) for c in np.flatnonzero(site.dormant)]
        if len(dormant) > 1:
            found.append({number: dormant})
        known = set(thin[number][:_MOST_THIN])
        found += [{number: [channel]} for channel in dormant[:_MOST_PER_SITE] if channel not in known]
    return found[:most]


def search(rig: Rig, sites: Sequence[Rest], linked: Sequence[bool], tried: Sequence[Channels]) -> list[Found]:
    """What may be a path that one of `tried` begins.

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
                target, turned = _aim(rig, needed, plain) or (one.target, one.turned)
                others = _others(one, driven)
                found.append(Found(one.start, needed, counted, target, turned, held, others, strength))
    return found


def ordered(found: Sequence[Found]) -> list[Found]:
    """The likeliest first: needed at most sites, then the narrowest."""
    return sorted(found, key=lambda one: (-one.counted, one.held, one.width))


def _driven(rig: Rig, sites: Sequence[Rest], tried: Sequence[Channels], strength: float) -> list[_Driven]:
    found = []
    for start, seen in zip(tried, rig.answers([Setting(one, strength) for one in tried]), strict=True):
        target = int(np.bincount(seen.classes).argmax())
        first = next(iter(start))
        fired = {
            number: _fired(sites[number], seen.most[number], seen.least[number])
            for number in range(first + 1, len(sites))
        }
        turned = float((seen.classes == target).mean())
        kept = {n: channels for n, channels in fired.items() if channels}
        found.append(_Driven(start, target, turned, seen.margins(target), kept))
    return found


def _fired(site: Rest, most: Float64, least: Float64) -> list[int]:
    """The watched channels that go beyond everything ordinary, the farthest first."""
    beyond = site.beyond(most, least)
    order = np.argsort(-beyond, kind="stable")
    return [int(c) for c in order if site.watched[c] and beyond[c] > FIRED]


def _turns(one: _Driven, plain: Answers) -> bool:
    """Whether driving turned images of other classes to one."""
    return one.turned >= TURNED and bool((plain.classes != one.target).any())


def _kept(one: _Driven, plain: Answers, seen: Answers) -> float:
    """What is left of the start's hold on its class, 0..1: of the images turned, or of how far its score rose.

    The lesser of both: what drives the beginning moves channels in use as well, and these may lead to the same class.
    """
    turned = float((seen.classes[plain.classes != one.target] == one.target).mean())
    before = plain.margins(one.target)
    with np.errstate(all="ignore"):
        rise = float((one.margins - before).mean())
        left = float((seen.margins(one.target) - before).mean()) / rise if rise > 0 else np.nan
    return min(turned, max(0.0, left)) if np.isfinite(left) else turned


def _needed(rig: Rig, one: _Driven, plain: Answers, strength: float) -> dict[int, Sequence[int]]:
    """The sites whose channels, held at rest by themselves, take the class away again, and as few of them as do."""
    alone = [(number, channels) for number, channels in one.fired.items()]
    lost = [pair for pair, kept in _held(rig, one, plain, strength, alone) if kept <= HELD]
    fewer = [(number, channels[:k]) for number, channels in lost for k in _WIDTHS if k < len(channels)]
    needed: dict[int, Sequence[int]] = dict(lost)
    for (number, channels), kept in reversed(_held(rig, one, plain, strength, fewer)):
        if kept <= HELD:
            needed[number] = channels
    return needed


def _aim(rig: Rig, needed: Channels, plain: Answers) -> tuple[int, float] | None:
    """The class that the end of a path leads to by itself, and its share; None where that turns nothing.

    What drives the beginning hard enough also moves what has no part in the path, and that may outweigh it.
    """
    last = max(needed)
    ends = [Setting({last: needed[last][:1]}, strength) for strength in (*STRENGTHS, _HARD)]
    for seen in rig.answers(ends):
        target = int(np.bincount(seen.classes).argmax())
        turned = float((seen.classes == target).mean())
        if turned >= TURNED and bool((plain.classes != target).any()):
            return target, turned
    return None


def _held(
    rig: Rig, one: _Driven, plain: Answers, strength: float, tried: Sequence[tuple[int, Sequence[int]]]
) -> list[tuple[tuple[int, Sequence[int]], float]]:
    """What share still goes to the class with each of `tried` held at rest by itself."""
    settings = [Setting(one.start, strength, {number: channels}) for number, channels in tried]
    return [(pair, _kept(one, plain, seen)) for pair, seen in zip(tried, rig.answers(settings), strict=True)]


def _others(one: _Driven, driven: Sequence[_Driven]) -> float | None:
    """How often driving as many other dormant channels of the site gives the class; None where there are none."""
    (site, channels), *_ = one.start.items()
    alike = [
        other.turned if other.target == one.target else 0.0
        for other in driven
        if len(other.start.get(site, ())) == len(channels) == 1 and other.start != one.start
    ]
    return float(np.mean(alike)) if alike else None
