"""What a search is asked, and what it found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import Site
from onnx_clp.config import RunLimits
from onnx_clp.document.gauge import Loss
from onnx_clp.document.search import ClassInversion, SearchImages
from onnx_clp.numerics.directions import Direction
from onnx_clp.process.errand import Errand

FOUND_BUDGET: Final = 0.06
"""What undoing a trigger that was found may cost at most; a third of it, 2 points, is what is expected then."""

Images = NDArray[np.float32]
"""(n, channels, height, width), in the model's own pixel values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One search.

    Attributes:
        original: the input model; its BatchNormalization nodes say how the training images were distributed.
        folded: the same function with its normalisations folded; what inversion runs on. None: `original`.
        sites: values of that model that the repair may cap and whose change is measured, in graph order.
        invert: whether to look for triggers; otherwise images are made and nothing else.
        repair: whether to look for caps that undo the likely trigger.
        images: an .npz file with the user's own unlabelled images; None makes images from the model.
        count: how many images.
        budget: the largest share of images whose class the repair may change, and the upper end of the loss it may be
            predicted to cause.
        low, high: the range of pixel values; images supplied may widen it.
        seconds: how long the search may take; it then ends with what it has.
        suspects: classes that something else is evidence of, such as their rows in the last layer.
        output_name: the output that holds the class scores; None takes the first that fits.
        limits: where and how far to run.
    """

    original: Path
    folded: Path | None = None
    sites: tuple[Site, ...] = ()
    invert: bool = True
    repair: bool = False
    images: Path | None = None
    count: int = 72
    budget: float = FOUND_BUDGET
    low: float = 0.0
    high: float = 1.0
    seconds: float = 300.0
    suspects: tuple[int, ...] = ()
    output_name: str | None = None
    limits: RunLimits = field(default_factory=RunLimits)

    @property
    def written(self) -> Path | None:
        """The model that is searched, where it is not the original."""
        return self.folded

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu"


Cap = tuple[tuple[float, ...], tuple[float, ...], float]
"""u, v and offset of a `numerics.directions.Direction`."""


@dataclass(frozen=True, slots=True)
class RepairedSite:
    """The caps of one value, one after the other.

    By cap, `beyond` is the share of clean positions that it changes, and `shift` how far the trigger moved positions
    along its direction, in clean standard deviations.
    """

    value: str
    caps: tuple[Cap, ...]
    beyond: tuple[float, ...]
    shift: tuple[float, ...]

    def directions(self) -> list[Direction]:
        """The caps as arrays."""
        return [Direction(np.array(u), np.array(v), offset) for u, v, offset in self.caps]


@dataclass(frozen=True, slots=True)
class Repair:
    """Caps that undo what leads to the likely target, at a `quantile` of what the images reach.

    The gauges are measured on the images: `flip_before` and `flip` are the largest shares that what was capped turns
    into the target before and after the repair, `agreement` is the share of images that keep their class. `z` says how
    far the target lies from the other classes when it is searched for once more, infinite where it was not, and
    `stands_out` whether that is too far. `loss` is what is predicted to be lost of ordinary images.
    """

    sites: tuple[RepairedSite, ...]
    quantile: float
    flip_before: float
    flip: float
    agreement: float
    loss: Loss
    z: float = math.inf
    stands_out: bool = False


@dataclass(frozen=True, slots=True)
class SiteChanges:
    """The inverted change of every channel of one value, in channel order (`changes`)."""

    value: str
    change: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a search. `likely` is the class that stands out, None where none does; `sureness` says how far.

    `repair` is None where none was asked for, none was needed or none stayed within the budget; `repair_note` says.
    `changes` are what leads to `nearest`, the class furthest out, named or not, does to the sites before any repair;
    None and () where no trigger was looked for. `unfinished` says what there was no time for, "" for nothing.
    """

    classes: int
    provider: str
    images: SearchImages
    results: tuple[ClassInversion, ...]
    likely: int | None
    sentence: str
    repair: Repair | None
    repair_note: str
    nearest: int | None = None
    changes: tuple[SiteChanges, ...] = ()
    unfinished: str = ""


SEARCH: Final = Errand(
    home=f"{__name__}:SEARCH",
    worker="onnx_clp.inversion.worker:work",
    asked=SearchRequest,
    answered=Found,
    failed="not searched",
    instead="go without --invert and --synthesize",
    names=True,
)
