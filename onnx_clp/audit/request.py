"""What an audit is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx_clp.config import RunLimits
from onnx_clp.document.audit import Audit
from onnx_clp.gauge.request import Drive, Landmark
from onnx_clp.process.errand import Errand


@dataclass(frozen=True, slots=True)
class Claim:
    """What a normalisation says of the channels of a value: their means and standard deviations."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Channels of one site, by its number."""

    site: int
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What kernels of one layer make, at each site where that is read.

    `share` is what share of their norm reads the stages before; None for where a chain begins.
    """

    stretches: tuple[Stretch, ...]
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Stages one behind the other, each read by little else than the next."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """A value whose channels can be driven and watched.

    `claim` is what a normalisation says of its channels, if one does. `places` of them are of one map that was made
    flat: one after the other, or, if they are `inner`, every so many.
    """

    drive: Drive
    claim: Claim | None = None
    places: int = 1
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Extent:
    """A value, and the outputs that give its largest, smallest and mean element for each image, (images, 1).

    `direct` says that it comes from the input by a way on which no linear layer of several channels lies.
    """

    value: str
    most: str
    least: str
    mean: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Join:
    """A node at which several values meet that come from the input, with its name."""

    node: str
    operands: tuple[Extent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """Is there a dormant path in this model?

    Attributes:
        original: the input model.
        model: the folded model with its sites on dials.
        sites: in graph order.
        chains: what may be a path, the likeliest first.
        joins: where values from the input meet, in graph order.
        landmark: what tells pixel values apart; None where nothing does.
        outputs: the outputs that count.
        scores: the value with one score a class, the first output's before a Softmax at the end.
        steep: whether an operator may have a slope that is no number, so that the gradient is to be looked at.
        images: an .npz file with the user's own unlabelled images; None takes photographs.
        pixels: the range of pixel values that the user names; None finds it out.
        limits: where and how far to run.
    """

    original: Path
    model: Path
    sites: tuple[Watched, ...]
    joins: tuple[Join, ...]
    chains: tuple[Chain, ...]
    landmark: Landmark | None
    outputs: tuple[str, ...]
    scores: str
    steep: bool = False
    images: Path | None = None
    pixels: tuple[float, float] | None = None
    limits: RunLimits = field(default_factory=RunLimits)

    @property
    def written(self) -> Path:
        """The model that is run."""
        return self.model

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu"


AUDIT: Final = Errand(
    home=f"{__name__}:AUDIT",
    worker="onnx_clp.audit.worker:work",
    asked=AuditRequest,
    answered=Audit,
    failed="not audited",
    instead="go without an audit (--effort low)",
    names=True,
    more=True,
)
