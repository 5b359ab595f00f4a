"""Undo a trigger where a fixed order of doses is no help: every rung of a ladder, at every quantile within the budget.

Where nothing tells how real images are distributed, the quantile that stops a trigger differs from network to
network, and so does the rung. Caps on fully connected layers cost a pass through the network, so all can be tried.
Every state is measured against all that stands on any rung; the one within the budget that leaves least is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.repair import Mark, RepairBench, State, choose, told
from onnx_clp.inversion.request import Images, Repair, SearchRequest
from onnx_clp.inversion.stock import stock
from onnx_clp.inversion.subject import Subject
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

QUANTILES: Final = (0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.93, 0.9)
"""Shares of the clean positions that a cap leaves as they are, the mildest first."""


_ABOUT: Final = 0.05
"""The share of the furthest margin by which another may fall short of it and still counts as about as far."""
FOREIGN: Final = 0.9
"""Where the model gives this share of photographs the target, it is the class of all that is foreign to it."""


def unguided(request: SearchRequest, source: str) -> bool:
    """Whether images of that source tell nothing of real ones, and fully connected layers within can take caps."""
    return source == "classes" and any(site.dense for site in request.sites)


def wide_bench(
    subject: Subject, engine: Engine, request: SearchRequest, images: Images, target: int, pixels: Range, most: int
) -> RepairBench:
    """A bench with caps on fully connected layers alone, to be fitted on at most so many pictures of all kinds."""
    seed, sites = request.limits.seed, [site for site in request.sites if site.dense]
    given = Look(subject, subject.output, engine).all(images).argmax(axis=1)
    wide = stock(images, given == target, pixels, seed, most)
    return RepairBench(subject, engine, sites, images, target, seed, wide.held, True, wide.fitted)


def thorough(
    bench: RepairBench, ladder: Sequence[Sequence[Mark]], budget: float, tick: Tick, deadline: Deadline | None = None
) -> tuple[Repair | None, str]:
    """Find the caps; arguments and result as for `repair.repair`."""
    if bench.taken >= FOREIGN:
        return (
            None,
            f"{bench.taken:.0%} of the photographs are of this class to the model: they show no loss of another",
        )
    every = list({id(mark): mark for rung in ladder for mark in rung}.values())
    deadline, before = deadline or Deadline(math.inf), bench.gauge({}, every).flip
    met: list[State] = []
    for at, rung in enumerate(ladder):
        met += _rung(bench, rung, every, budget, deadline)
        tick("repair", at + 1, len(ladder))
        if deadline.left <= 0:
            break
    best, why = choose(_strongest(met, bench.enough, budget), before, budget)
    return None if best is None else told(best, before), why


def _rung(
    bench: RepairBench, rung: Sequence[Mark], every: Sequence[Mark], budget: float, deadline: Deadline
) -> list[State]:
    """The states of one rung, down to the first quantile that costs too much, and one half way to that."""
    met: list[State] = []

    def meet(quantile: float) -> bool:
        caps = bench.fit(rung, quantile)
        met.append(State(quantile, caps, bench.gauge(caps, every)))
        return met[-1].gauged.within(budget) and deadline.left > 0

    for before, quantile in pairwise((1.0, *QUANTILES)):
        if not meet(quantile):
            meet((before + quantile) / 2)
            break
    return met


def _strongest(met: Sequence[State], enough: float, budget: float) -> Sequence[State]:
    """Where nothing turns any more the cheapest of those about furthest from turning; else all.

    The real trigger is stronger than what was found of it. But the last little that a dose puts the target behind costs
    most.
    """
    stopped = [state for state in met if state.gauged.flip <= enough and state.gauged.within(budget)]
    if not stopped:
        return met
    furthest = min(state.gauged.margin for state in stopped)
    about = [state for state in stopped if state.gauged.margin <= furthest + _ABOUT * abs(furthest)]
    return [min(about, key=lambda state: state.gauged.loss.high)]
