"""What a bound on patches is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx_clp.config import RunLimits
from onnx_clp.document.patches import PatchBound
from onnx_clp.gauge.request import Landmark
from onnx_clp.process.child import ask, ticks
from onnx_clp.process.errand import Errand


@dataclass(frozen=True, slots=True)
class Scored:
    """A model in a file, and its value with one score a class, which it gives out."""

    model: Path
    scores: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRequest:
    """How far can a patch of `size` × `size` move the class scores of these models?

    Attributes:
        original: the input model.
        before, after: the folded model, and the one to write (None where that is the input).
        size: of the patch.
        landmark: what tells pixel values apart, given out by `before`; None where nothing does.
        images: an .npz file with the user's own unlabelled images; None takes photographs.
        pixels: the range of pixel values that the user names; None finds it out.
        limits: where and how far to run.
    """

    original: Path
    before: Scored
    after: Scored | None
    size: int
    landmark: Landmark | None
    images: Path | None = None
    pixels: tuple[float, float] | None = None
    limits: RunLimits = field(default_factory=RunLimits)

    @property
    def written(self) -> Path:
        """The model that is run."""
        return self.before.model

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu"


BOUND: Final = Errand(
    home=f"{__name__}:BOUND",
    worker="onnx_clp.audit.bound.worker:work",
    asked=BoundRequest,
    answered=PatchBound,
    failed="no bound",
    instead="go without --patch-bound",
    names=True,
)


def bound(request: BoundRequest, tick: Callable[[str, int, int], None]) -> PatchBound:
    """Bound patches in a child process.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return ask(BOUND, request, ticks(tick))
