"""What a search is asked, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import Site
from onnx_clp.config import RunLimits
from onnx_clp.document.search import Inversion, RepairReport
from onnx_clp.gauge.request import Landmark
from onnx_clp.numerics.directions import Direction
from onnx_clp.process.errand import Errand

FOUND_BUDGET: Final = 0.08
"""What undoing a trigger that was found may cost at most; a fourth of it, 2 points, is what is expected then."""
UNMATCHED_BUDGET: Final = 0.06
"""The same on images that match no statistics: caps fitted on those cost more than predicted now and then."""

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
            predicted to cause; None for `FOUND_BUDGET`, or `UNMATCHED_BUDGET` where images match no statistics.
        low, high: the range of pixel values; images supplied may widen it.
        asked_range: whether the user gave that range; a file that states one is not asked then.
        landmark: a value that tells the range where no file states it; None where the range above holds.
        seconds: how long the search may take; it then ends with what it has.
        suspects: classes that something else is evidence of, such as their rows in the last layer.
        least_classes: a model of fewer is refused, before any image is made.
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
    budget: float | None = None
    low: float = 0.0
    high: float = 1.0
    asked_range: bool = False
    landmark: Landmark | None = None
    seconds: float = 300.0
    suspects: tuple[int, ...] = ()
    least_classes: int = 2
    output_name: str | None = None
    limits: RunLimits = field(default_factory=RunLimits)

    def allowed(self, source: str) -> float:
        """What a repair may cost on images of that source (`SearchImages`)."""
        usual = UNMATCHED_BUDGET if source == "classes" else FOUND_BUDGET
        return usual if self.budget is None else self.budget

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
class Repair:
    """Caps that undo what leads to the likely target: those of a value by its name, one after the other.

    `report` says what they come to.
    """

    caps: Mapping[str, tuple[Cap, ...]]
    report: RepairReport

    def once_more(self, far: float, limit: float) -> Repair:
        """With how `far` the class lies out when it is searched for once more; beyond the `limit` it stands out."""
        z = far if math.isfinite(far) else None
        return replace(self, report=replace(self.report, z=z, stands_out=far > limit))


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a search: `inversion` says what was found, `caps` are those of its repair, {} for none."""

    inversion: Inversion
    caps: Mapping[str, tuple[Cap, ...]] = field(default_factory=dict)


def directions(caps: Sequence[Cap]) -> list[Direction]:
    """The caps of one value as arrays."""
    return [Direction(np.array(u), np.array(v), offset) for u, v, offset in caps]


SEARCH: Final = Errand(
    home=f"{__name__}:SEARCH",
    worker="onnx_clp.inversion.worker:work",
    asked=SearchRequest,
    answered=Found,
    failed="not searched",
    instead="go without --invert and --synthesize",
    names=True,
)
