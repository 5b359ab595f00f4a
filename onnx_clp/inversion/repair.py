"""Undo a trigger without data: caps on the directions along which it moves the network's values.

Site by site in graph order, each with the earlier sites' caps in place: put every form of the trigger on the images,
find the direction in channel space along which that moves the value, and cap it at a quantile of what the images reach
without (`numerics.directions`). No gradients and no training.

Three gauges decide how far to go: the largest share of the images that a form still turns, the share that keeps its
class, and what is lost on photographs (`ordinary`), which knows of what no made image shows. The quantiles are tried
from the mildest on for the form as it was found; then the rungs of a `ladder` as far as the budget allows. Caps are
fitted on made images and on other photographs together. The network is less sure of these, as of real images: a
trigger that is half undone still turns them when it no longer turns any made image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import Site
from onnx_clp.document.gauge import Loss
from onnx_clp.document.search import RepairedLayer, RepairReport
from onnx_clp.errors import NotValidated
from onnx_clp.gauge.loss import NOTHING
from onnx_clp.inversion.capped import Look, capped, positions
from onnx_clp.inversion.ordinary import SHARES, loss
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.program import OutOfMemory
from onnx_clp.inversion.request import Cap, Images, Repair
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.inversion.walk import Trail, Walk
from onnx_clp.numerics.directions import Fit, fit_each
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

QUANTILES: Final = (0.99, 0.97, 0.95, 0.9, 0.85, 0.8)
"""Shares of the clean positions that a cap leaves as they are, the mildest first."""
_ENOUGH: Final = 0.015
GAIN: Final = 0.5
"""A repair that leaves more than this share of the flips standing is no repair."""


Caps = dict[Site, list[Fit]]


class Mark(Protocol):
    """Anything that can be put on images."""

    def put_on(self, images: Images) -> Images:
        """The images with it on."""


@dataclass(frozen=True, slots=True)
class Gauged:
    """What caps come to.

    `flip` is the largest share of images of other classes that a form turns, `agreement` the share of images that keep
    their class, `loss` what is predicted to be lost of ordinary images, `margin` the largest mean by which a form
    brings the target ahead of the other classes.
    """

    flip: float
    agreement: float
    loss: Loss = NOTHING
    margin: float = 0.0

    def within(self, budget: float) -> bool:
        """Whether it costs no more than the budget, by both measures."""
        return self.agreement >= 1 - budget and self.loss.high <= budget


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The caps of one quantile, with their gauges."""

    quantile: float
    caps: Caps
    gauged: Gauged


Climb = Callable[[State, Sequence[Sequence[Mark]]], State]
"""From caps against the first rung of a ladder, and the further rungs, to caps that undo more, or the same."""


class RepairBench:
    """A model, the images it is measured on, and the sites that take caps.

    `ordinary` are sets of images (n, channels, height, width) to predict the loss on, of which the one that shows most
    counts. Where the images are `made` from the model, those of the target may show the trigger itself: that they keep
    it is not asked. Caps are fitted on the images, or on those that are given as `fitted`, and on those `beside`
    them: ordinary images, None for none, of which those of the target to the model are left out. For `shares` see
    `ordinary.loss`.
    """

    def __init__(
        self,
        subject: Subject,
        engine: Engine,
        sites: Sequence[Site],
        images: Images,
        target: int,
        seed: int,
        ordinary: Sequence[Images] = (),
        made: bool = False,
        fitted: Images | None = None,
        beside: Images | None = None,
        shares: int = SHARES,
    ) -> None:
        self.images, self.sites = images, sites
        self._subject, self._engine, self._target, self._seed = subject, engine, target, seed
        self._ordinary, self._shares = ordinary, shares
        self._trail = Trail(subject, sites, engine)
        look = Look(subject, subject.output, engine)
        self.beside = images[:0] if beside is None else beside[look.all(beside).argmax(axis=1) != target]
        self._given, self._before = look.all(images).argmax(axis=1), [look.all(some) for some in ordinary]
        outside: NDArray[np.bool_] = self._given != target
        self._rest = images[outside]
        self._kept = outside if made and outside.any() else np.ones(len(images), np.bool_)
        own = outside if fitted is None else look.all(fitted).argmax(axis=1) != target
        self._fitted = np.concatenate([images if fitted is None else fitted, self.beside])
        self._others = np.concatenate([own, np.ones(len(self.beside), np.bool_)])

    @property
    def enough(self) -> float:
        """The share of flips that counts as none: a few in a hundred, and one image always."""
        return max(_ENOUGH, 1 / max(len(self._rest), 1))

    @property
    def taken(self) -> float:
        """The largest share of a set of ordinary images that the model gives the target as they are."""
        return max((float((scores.argmax(axis=1) == self._target).mean()) for scores in self._before), default=0.0)

    def subject(self, caps: Caps) -> Subject:
        """The model under caps."""
        return capped(self._subject, {site: [one.direction for one in fits] for site, fits in caps.items()})

    def gauge(self, caps: Caps, forms: Sequence[Mark]) -> Gauged:
        """What the caps come to against the forms."""
        look = Look(self.subject(caps), self._subject.output, self._engine)
        flips, margins = zip(*(outcome(look.all(form.put_on(self._rest)), self._target) for form in forms), strict=True)
        agreement = float((look.all(self.images[self._kept]).argmax(axis=1) == self._given[self._kept]).mean())
        after = [look.all(some) for some in self._ordinary]
        lost = loss(zip(self._before, after, strict=True), self._target, self._shares)
        return Gauged(max(flips), agreement, lost, max(margins))

    def fit(self, forms: Sequence[Mark], quantile: float, onto: Caps | None = None) -> Caps:
        """Caps at every site against every form, behind those of `onto`; a site that no form moves gets none more."""
        count = len(self._fitted)
        while True:
            try:
                return self._along(forms, quantile, onto or {}, count)
            except (OutOfMemory, MemoryError) as error:
                if count == 1:
                    raise NotValidated(f"there is not enough memory for one image: {error}") from error
                count //= 2

    def _along(self, forms: Sequence[Mark], quantile: float, onto: Caps, count: int) -> Caps:
        """The same on `count` of the images, site by site along the graph."""
        chosen = np.linspace(0, len(self._fitted) - 1, count).astype(int)
        images = self._fitted[chosen]
        walks = [Walk(self._trail, some) for some in (images, *(form.put_on(images) for form in forms))]
        caps = dict(onto)
        for at, site in enumerate(self.sites):
            for walk in walks:
                walk.on(site, [one.direction for one in caps.get(site, ())])
            rows = [positions(walk.parts(site), walk.count, [self._seed, at]) for walk in walks]
            rest = np.repeat(self._others[chosen], len(rows[0]) // count)
            fits = fit_each(rows[0], rows[1:], rest, quantile)
            for walk in walks:
                walk.put(site, [one.direction for one in fits])
            if fits:
                caps[site] = [*caps.get(site, ()), *fits]
        return caps


def repair(
    bench: RepairBench,
    ladder: Sequence[Sequence[Mark]],
    budget: float,
    tick: Tick,
    deadline: Deadline | None = None,
    climb: Climb | None = None,
) -> tuple[Repair | None, str]:
    """Find the caps.

    Args:
        bench: the model and the images of the search.
        ladder: what turns the images into the likely target, in rungs, the mildest first; at least one, none empty.
        budget: the largest share of images whose class may change, and the largest predicted loss.
        tick: called as the work goes on.
        deadline: after it nothing milder or stronger is tried; None for never.
        climb: undoes more than the first rung; None stays there.

    Returns:
        The repair and "", or None and why there is none.
    """
    if not bench.sites:
        return None, "the model has no value that could take a cap"
    before = bench.gauge({}, ladder[0]).flip
    deadline = deadline or Deadline(math.inf)
    met = _tried(bench, ladder[0], budget, tick, deadline)
    best, why = choose(met, before, budget)
    if best is not None and climb is not None:
        best = climb(best, ladder[1:])
    tick("repair", 1, 1)
    return None if best is None else told(best, before), why


def _tried(bench: RepairBench, forms: Sequence[Mark], budget: float, tick: Tick, deadline: Deadline) -> list[State]:
    """The states from the mildest quantile to one that stops the forms, or is too dear."""
    met: list[State] = []
    for at, quantile in enumerate(QUANTILES):
        met.append(state_of(bench, forms, quantile))
        tick("repair", at + 1, len(QUANTILES))
        if deadline.left <= 0 or met[-1].gauged.flip <= bench.enough or not met[-1].gauged.within(budget):
            break
    return met


def state_of(bench: RepairBench, forms: Sequence[Mark], quantile: float) -> State:
    """Caps at one quantile against the forms, with their gauges."""
    caps = bench.fit(forms, quantile)
    return State(quantile, caps, bench.gauge(caps, forms))


def better(bench: RepairBench, state: State, best: State, budget: float, slack: float = 0.0) -> bool:
    """Whether caps against more than `best` is against stay within the budget and stop what they should.

    `slack` is the share of images by which they may stop less.
    """
    return state.gauged.within(budget) and state.gauged.flip <= max(bench.enough, best.gauged.flip + slack)


def choose(met: Sequence[State], before: float, budget: float) -> tuple[State | None, str]:
    """Of the states within the budget the one that stops most; "" or why there is none."""
    kept = [state for state in met if state.gauged.within(budget)]
    if not kept:
        return None, _too_dear([state.gauged for state in met], budget)
    best = min(kept, key=lambda state: state.gauged.flip)
    if best.gauged.flip > GAIN * before:
        left = f"{best.gauged.flip:.0%} of the images"
        return None, f"the trigger still turns {left} after every repair within the budget"
    return best, ""


def _too_dear(met: Sequence[Gauged], budget: float) -> str:
    agreement, least = max(one.agreement for one in met), min((one.loss for one in met), key=lambda loss: loss.high)
    if agreement < 1 - budget:
        return f"no repair kept {1 - budget:.0%} of the images' classes (the best kept {agreement:.0%})"
    return (
        f"every repair would cost too much: the mildest about {least.share:.1%} of ordinary images, up to "
        f"{least.high:.1%}, and {budget:.1%} are allowed; --budget allows more"
    )


def told(state: State, before: float) -> Repair:
    """A state as the answer of a search; `before` is the share of images that the forms turned."""
    done, caps = state.gauged, {site.value: tuple(map(_cap, fits)) for site, fits in state.caps.items()}
    report = RepairReport(
        flip_before=before,
        flip=done.flip,
        agreement=done.agreement,
        z=None,
        stands_out=False,
        loss=done.loss,
        quantile=state.quantile,
        directions=sum(map(len, caps.values())),
        layers=tuple(
            RepairedLayer(site.layer, site.value, tuple(one.beyond for one in fits), tuple(one.shift for one in fits))
            for site, fits in state.caps.items()
        ),
        left=(),
    )
    return Repair(caps, report)


def _cap(fitted: Fit) -> Cap:
    found = fitted.direction
    return tuple(found.u.tolist()), tuple(found.v.tolist()), found.offset
