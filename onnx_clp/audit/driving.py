"""Drive a chain of thin kernels and see whether it is a path: whether it carries on, and where its end leads.

A path carries: each stage, driven, fires the next beyond everything ordinary; and its end, driven by itself, turns
ordinary inputs to one class, which other channels there do not. What else the beginning moves when it is driven does
not matter: the kernels between read little but the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.dormancy import USUAL, Float64, Rest
from onnx_clp.audit.request import Chain, Stage

STRENGTHS: Final = (2.0, 10.0, 1e2, 1e3, -2.0, -10.0, -1e2, -1e3)
"""Times what the site's median channel moves by, at which an end is driven: what comes through many layers may be far
more than anything ordinary, and may lower a channel as well as raise it."""
_LINKING: Final = (10.0, 1e4, -10.0, -1e4)
"""The same for a stage that is to fire the next, which reads little else."""
TURNED: Final = 0.9
FIRED: Final = 0.3
"""A channel has fired that goes beyond everything ordinary by more than this much of it."""
_FEW: Final = 0.1
_CONTROLS: Final = 3
_WEAKER: Final = 0.8
"""By how much less each of several channels is driven that lead to a class by themselves."""
_MOST_ALONE: Final = 64
"""Channels of an end that are driven one by one."""

Channels = Mapping[int, Sequence[int]]
"""Channels by the number of their site."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is done to a model in one run: channels driven at `strength`.

    With a number of `dormancy.USUAL` they give as much as they usually do, up or down by the sign of the strength.
    """

    driven: Channels = field(default_factory=dict)
    strength: float = 0.0
    usual: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the images of one setting gave: the class of each (images,), and each site's extremes (images, channels)."""

    classes: NDArray[np.int64]
    most: Sequence[Float64]
    least: Sequence[Float64]


class Driver(Protocol):
    """A model on dials with a few ordinary images."""

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting."""


@dataclass(frozen=True, slots=True, eq=False)
class DrivenPath:
    """A path: its chain, the class it leads to, and what says so (see `document.audit.DormantPath`)."""

    chain: Chain
    target: int
    turned: float
    others: float | None
    strength: float
    silent: float
    usual: int
    held: float


@dataclass(frozen=True, slots=True)
class _End:
    """The channels of a chain's end that were driven, and where that leads."""

    channels: tuple[int, ...]
    target: int
    turned: float
    strength: float


def search(rig: Driver, more: Driver, sites: Sequence[Rest], chains: Sequence[Chain]) -> Iterator[DrivenPath]:
    """The chains that are paths, in their order.

    Args:
        rig: the model with a few images.
        more: the same with more of them.
        sites: what the channels of each are like on ordinary inputs.
        chains: what may be a path.
    """
    plain = next(rig.answers([Setting()]))
    for chain in chains:
        end = _end(rig, chain, plain)
        if end is not None and _carries(rig, sites, chain):
            end = _sharpest(rig, chain, plain, end)
            others = _others(rig, sites, chain, end)
            if others is None or others < TURNED:
                silent, (usual, held) = _silent(sites, chain), _held(more, chain, end)
                yield DrivenPath(chain, end.target, end.turned, others, end.strength, silent, usual, held)


def _end(rig: Driver, chain: Chain, plain: Answers) -> _End | None:
    """The class that the end of a chain leads to by itself; None where it turns nothing."""
    last = chain.stages[-1].stretches[-1]
    settings = [Setting({last.site: last.channels}, strength) for strength in STRENGTHS]
    for strength, seen in zip(STRENGTHS, rig.answers(settings), strict=True):
        if (end := _led(last.channels, strength, seen, plain)) is not None:
            return end
    return None


def _led(channels: tuple[int, ...], strength: float, seen: Answers, plain: Answers) -> _End | None:
    """Where driving channels led; None where images go to different classes, or all were there before."""
    target = int(np.bincount(seen.classes).argmax())
    turned = float((seen.classes == target).mean())
    leads = turned >= TURNED and bool((plain.classes != target).any())
    return _End(channels, target, turned, strength) if leads else None


def _sharpest(rig: Driver, chain: Chain, plain: Answers, end: _End) -> _End:
    """The channel of an end of some that leads to a class by itself when it is driven least; else all, as they were.

    Of a map that was made flat a trigger at one place moves some entries. All of them together may lead elsewhere.
    """
    last = chain.stages[-1].stretches[-1]
    if not 1 < len(last.channels) <= _MOST_ALONE:
        return end
    best, channels = [end], last.channels
    for strength in (one for one in STRENGTHS if one * end.strength > 0):
        if found := _alone(rig, last.site, channels, strength, plain):
            best = found
            break
    while len(best) > 1:
        channels, strength = tuple(one.channels[0] for one in best), best[0].strength * _WEAKER
        if not (found := _alone(rig, last.site, channels, strength, plain)):
            break
        best = found
    return max(best, key=lambda one: one.turned)


def _alone(rig: Driver, site: int, channels: Sequence[int], strength: float, plain: Answers) -> list[_End]:
    """The channels of a site that lead to a class by themselves."""
    answers = rig.answers([Setting({site: (channel,)}, strength) for channel in channels])
    led = (_led((channel,), strength, seen, plain) for channel, seen in zip(channels, answers, strict=True))
    return [one for one in led if one is not None]


def _carries(rig: Driver, sites: Sequence[Rest], chain: Chain) -> bool:
    """Whether each stage fires the next."""
    return all(_fires(rig, sites, *pair) for pair in pairwise(chain.stages))


def _fires(rig: Driver, sites: Sequence[Rest], stage: Stage, following: Stage) -> bool:
    driven = {stretch.site: stretch.channels for stretch in stage.stretches}
    first = following.stretches[0]
    at = list(first.channels)
    for seen in rig.answers([Setting(driven, strength) for strength in _LINKING]):
        beyond = sites[first.site].beyond(seen.most[first.site], seen.least[first.site])
        if beyond[at].max() > FIRED:
            return True
    return False


def _others(rig: Driver, sites: Sequence[Rest], chain: Chain, end: _End) -> float | None:
    """How often as many other channels of the end's site lead to the class; None where there are not enough."""
    last = chain.stages[-1].stretches[-1]
    own, width = set(last.channels), len(end.channels)
    rest = [one for one in range(len(sites[last.site].rest)) if one not in own]
    groups = [rest[at : at + width] for at in range(0, len(rest) - width + 1, max(1, len(rest) // _CONTROLS))]
    if not groups:
        return None
    settings = [Setting({last.site: group}, end.strength) for group in groups]
    return float(np.mean([(seen.classes == end.target).mean() for seen in rig.answers(settings)]))


def _held(rig: Driver, chain: Chain, end: _End) -> tuple[int, float]:
    """How many images of other classes the end leads to the class where all of it gives as much as it usually does.

    What that is comes first: the first of `dormancy.USUAL` with which these are few, else the last.
    """
    last = chain.stages[-1].stretches[-1]
    settings = [Setting({last.site: last.channels}, end.strength, usual) for usual in range(len(USUAL))]
    plain, *seen = rig.answers([Setting(), *settings])
    others = plain.classes != end.target
    held = [float((one.classes == end.target)[others].mean()) if others.any() else 1.0 for one in seen]
    return next(((usual, share) for usual, share in enumerate(held) if share < _FEW), (len(held) - 1, held[-1]))


def _silent(sites: Sequence[Rest], chain: Chain) -> float:
    """What share of the chain's channels no ordinary input fires."""
    parts = [sites[part.site].dormant[list(part.channels)] for stage in chain.stages for part in stage.stretches]
    return float(np.concatenate(parts).mean())
