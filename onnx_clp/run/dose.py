"""How far a run goes: which outlying channels are switched off, what they give from then on, and how low the caps are.

Without the gauge (`--no-validate`) every outlying channel goes, and the caps are as low as asked. With it a copy of the
model with dials is measured on ordinary images, and no more is done than the budget allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.config import CleanConfig
from onnx_clp.judge.prune_channels import Cut
from onnx_clp.run.outlying import Outlying

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.document.gauge import Gauge
    from onnx_clp.gauge.request import Controls, DialSetting, Dosed, Switch, Wish

Float64 = NDArray[np.float64]

Measure = Callable[["ModelProto", "Controls", "Wish"], "Dosed"]
"""Measures doses of a model with dials."""

Cuts = dict[int, tuple[Cut, ...]]
"""By the place of a verdict among all: one cut a branch, of layers that lose a channel."""


def whole(places: Iterable[Outlying], *, fill: bool) -> Cuts:
    """Every outlying channel off; each gives its mean where that is known and `fill` is asked for, else 0."""
    chosen = {}
    for one in places:
        known = one.expected.mean[one.chosen] if fill and one.expected is not None and one.fills else 0.0
        chosen[one.at, one.number] = cut(one, one.chosen, np.broadcast_to(known, one.chosen.shape))
    return by_verdict(places, chosen)


def cut(one: Outlying, places: NDArray[np.int_], fills: Float64) -> Cut:
    """Channels of the value off, each giving its fill from then on."""
    size = len(one.branch.scores)
    off, fill = np.zeros(size, dtype=bool), np.zeros(size)
    off[places - one.branch.start] = True
    fill[places - one.branch.start] = fills
    return Cut(off, fill)


def by_verdict(places: Iterable[Outlying], chosen: dict[tuple[int, int], Cut]) -> Cuts:
    """The cuts of branches, by their place and number, put together a verdict each."""
    cuts: Cuts = {}
    for one in places:
        if one.at not in cuts:
            sizes = [len(branch.scores) for branch in one.verdict.branches]
            cuts[one.at] = tuple(
                chosen.get((one.at, number), Cut(np.zeros(size, dtype=bool), np.zeros(size)))
                for number, size in enumerate(sizes)
            )
    return {at: cuts_of for at, cuts_of in cuts.items() if any(cut.off.any() for cut in cuts_of)}


@dataclass(frozen=True, slots=True, eq=False)
class Dose:
    """How far the run goes.

    Attributes:
        cuts: the channels that are switched off.
        caps: times the std at which activations are capped; None for no caps.
        dosed: what was measured to decide that; None where nothing was.
        gauge: what that is predicted to cost, and what stays; None where nothing was edited or thought of.
        evidence: what made the budget more than usual; "" for nothing.
        path: what becomes of the switches of a dormant path, in the order they were given; empty where none were.
    """

    cuts: Cuts
    caps: float | None
    dosed: Dosed | None = None
    gauge: Gauge | None = None
    evidence: str = ""
    path: tuple[DialSetting, ...] = ()

    @property
    def cuts_path(self) -> bool:
        """Whether something of a dormant path goes."""
        return any(setting.off for setting in self.path)

    @property
    def ends_path(self) -> bool:
        """Whether all of a dormant path goes."""
        return all(len(setting.off) == len(setting.fills) for setting in self.path)


@dataclass(frozen=True, slots=True, eq=False)
class WayOut:
    """What would take a path out.

    Attributes:
        switches: its channels, the end of the path first.
        target: the class it leads to.
        pixels: the pixel values on which it is still, where nothing else tells them; on others it may well act.
        explains: whether it explains what other evidence there is, which then makes nothing else suspicious.
    """

    switches: tuple[Switch, ...] = ()
    target: int | None = None
    pixels: tuple[float, float] | None = None
    explains: bool = False


NO_WAY_OUT: Final = WayOut()


def undosed(places: Sequence[Outlying], config: CleanConfig) -> Dose:
    """Everything that stands out, and caps as asked for, with nothing measured."""
    cuts, caps = whole(places, fill=config.fill == "mean") if config.prune else {}, config.bound_activations or None
    return Dose(cuts, caps, gauge=unmeasured(1.0) if cuts or caps is not None else None)


def because(dose: Dose, evidence: str) -> Dose:
    """The dose, and what made its budget more than usual."""
    gauge = None if dose.gauge is None else replace(dose.gauge, evidence=evidence)
    return replace(dose, gauge=gauge, evidence=evidence)


def unmeasured(budget: float, evidence: str = "", unreached: int = 0) -> Gauge:
    """What the document says where nothing was measured."""
    from onnx_clp.document.gauge import Gauge

    return Gauge(None, budget, evidence, None, unreached=unreached)
