"""Undo a trigger without data: caps on the directions along which it moves the network's values.

Site by site in graph order, each with the earlier sites' caps in place: put every form of the trigger on the images,
find the direction in channel space along which that moves the value, and cap it at a quantile of what the images reach
without (`numerics.directions`). No gradients and no training.

Two gauges, measured on the images, decide how far to go: the largest share that a form still turns, and the share that
keeps its class. The quantiles are tried from the mildest on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.capped import Look, capped
from onnx_clp.inversion.request import Images, Repair, RepairedSite, SearchSite
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.numerics.directions import Fit, Float64, fit
from onnx_clp.validation.provider import Engine

Tick = Callable[[str, int, int], None]

QUANTILES: Final = (0.99, 0.97, 0.95, 0.9, 0.85, 0.8)
"""Shares of the clean positions that a cap leaves as they are, the mildest first."""
_ENOUGH: Final = 0.015
"""Forms that turn this share or less no longer work. The real trigger is stronger than what was found of it."""
_GAIN: Final = 0.5
"""A repair that leaves more than this share of the flips standing is no repair."""
_MOST_POSITIONS: Final = 20_000


class Mark(Protocol):
    """Anything that can be put on images."""

    def put_on(self, images: Images) -> Images:
        """The images with it on."""


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The caps of one quantile, with their gauges."""

    quantile: float
    caps: dict[SearchSite, list[Fit]]
    flip: float
    agreement: float


class Bench:
    """A model, the images it is measured on, and the sites that take caps."""

    def __init__(
        self, subject: Subject, engine: Engine, sites: Sequence[SearchSite], images: Images, target: int, seed: int
    ) -> None:
        self.images, self.sites = images, sites
        self._subject, self._engine, self._target, self._seed = subject, engine, target, seed
        self._given = Look(subject, subject.output, engine).all(images).argmax(axis=1)
        self._others: NDArray[np.bool_] = self._given != target
        self._rest = images[self._others]

    def subject(self, caps: dict[SearchSite, list[Fit]]) -> Subject:
        """The model under caps."""
        return capped(self._subject, {site: [one.direction for one in fits] for site, fits in caps.items()})

    def gauge(self, caps: dict[SearchSite, list[Fit]], forms: Sequence[Mark]) -> tuple[float, float]:
        """(the largest share of images of other classes that a form turns, the share of images that keep theirs)."""
        look = Look(self.subject(caps), self._subject.output, self._engine)
        flip = max(outcome(look.all(form.put_on(self._rest)), self._target)[0] for form in forms)
        return flip, float((look.all(self.images).argmax(axis=1) == self._given).mean())

    def fit(self, forms: Sequence[Mark], quantile: float) -> dict[SearchSite, list[Fit]]:
        """Caps at every site against every form; a site that no form moves gets none."""
        marked = [form.put_on(self.images) for form in forms]
        caps: dict[SearchSite, list[Fit]] = {}
        for at, site in enumerate(self.sites):
            look = Look(self.subject(caps), site.value, self._engine)
            fits = self._site(look, marked, quantile, [self._seed, at])
            if fits:
                caps[site] = fits
        return caps

    def _site(self, look: Look, marked: Sequence[Images], quantile: float, seed: list[int]) -> list[Fit]:
        """Caps at one site, each found with those before it in place."""
        clean, *moved = (_positions(look, images, seed) for images in (self.images, *marked))
        rest = np.repeat(self._others, len(clean) // len(self.images))
        fits = []
        for at in range(len(moved)):
            found = fit(clean, moved[at][rest] - clean[rest], quantile)
            if found is not None:
                fits.append(found)
                clean, *moved = (found.direction.cut(positions) for positions in (clean, *moved))
        return fits


def _positions(look: Look, images: Images, seed: list[int]) -> Float64:
    """Rows of channels, as many from every image and at most about 20,000; those of one image stand together."""
    rng, rows = np.random.default_rng(seed), []
    for values in look.parts(images):
        flat = values.reshape(*values.shape[:2], -1)
        most = max(1, _MOST_POSITIONS // len(images))
        if flat.shape[2] > most:
            chosen = np.argsort(rng.random((len(flat), flat.shape[2])), axis=1)[:, :most]
            flat = np.take_along_axis(flat, chosen[:, None], axis=2)
        rows.append(flat.transpose(0, 2, 1).reshape(-1, flat.shape[1]))
    return np.concatenate(rows).astype(np.float64)


def repair(bench: Bench, forms: Sequence[Mark], budget: float, tick: Tick) -> tuple[Repair | None, str]:
    """Find the caps.

    Args:
        bench: the model and the images of the search.
        forms: what turns them into the likely target, at least one.
        budget: the largest share of images whose class may change.
        tick: hears of progress.

    Returns:
        The repair and "", or None and why there is none.
    """
    if not bench.sites:
        return None, "the model has no value that could take a cap"
    before = bench.gauge({}, forms)[0]
    met = _tried(bench, forms, budget, tick)
    tick("repair", 1, 1)
    best, why = _choose(met, before, budget)
    return None if best is None else _told(best, before), why


def _tried(bench: Bench, forms: Sequence[Mark], budget: float, tick: Tick) -> list[_State]:
    """The states of the quantiles from the mildest to the first that stops the forms within the budget."""
    met: list[_State] = []
    for at, quantile in enumerate(QUANTILES):
        caps = bench.fit(forms, quantile)
        met.append(_State(quantile, caps, *bench.gauge(caps, forms)))
        tick("repair", at + 1, len(QUANTILES))
        if met[-1].flip <= _ENOUGH and met[-1].agreement >= 1 - budget:
            break
    return met


def _choose(met: Sequence[_State], before: float, budget: float) -> tuple[_State | None, str]:
    """Of the states within the budget the one that stops most; "" or why there is none."""
    kept = [state for state in met if state.agreement >= 1 - budget]
    if not kept:
        most = max(state.agreement for state in met)
        return None, f"no repair kept {1 - budget:.0%} of the images' classes (the best kept {most:.0%})"
    best = min(kept, key=lambda state: state.flip)
    if best.flip > _GAIN * before:
        return None, f"the trigger still turns {best.flip:.0%} of the images after every repair within the budget"
    return best, ""


def _told(state: _State, before: float) -> Repair:
    sites = tuple(
        RepairedSite(
            site.value,
            tuple((tuple(f.direction.u.tolist()), tuple(f.direction.v.tolist()), f.direction.offset) for f in fits),
            tuple(f.beyond for f in fits),
            tuple(f.shift for f in fits),
        )
        for site, fits in state.caps.items()
    )
    return Repair(sites, state.quantile, before, state.flip, state.agreement)
