"""What weights and graph raise without running anything: where there is nothing of it, nothing needs to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx_clp.audit.claims import claims
from onnx_clp.audit.flatness import is_steep
from onnx_clp.audit.joins import Meeting, joins
from onnx_clp.audit.kernels import search
from onnx_clp.audit.request import Chain, Claim
from onnx_clp.audit.sites import Read
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import Layers


@dataclass(frozen=True, slots=True)
class Questions:
    """What only running the model answers.

    Attributes:
        chains: what may be a path.
        meetings: where values meet of which one comes past the layers: may it be a gate?
        claims: by value what a normalisation says of its channels: is it true?
        steep: whether an operator may have a slope that is no number: does it?
        left: chains, and kernels at which one may begin, that were not followed.
    """

    chains: tuple[Chain, ...] = ()
    meetings: Sequence[Meeting] = ()
    claims: Mapping[str, Claim] = field(default_factory=dict)
    steep: bool = False
    left: int = 0

    @property
    def pressing(self) -> bool:
        """Whether there is one that ordinary networks do not raise; most make claims."""
        return bool(self.chains or self.meetings or self.steep)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.chains or self.meetings or self.claims or self.steep)


def questions(index: ModelIndex, layers: Layers, found: Sequence[Read], statistics: Sequence[Statistic]) -> Questions:
    """All of them about a folded model.

    Args:
        index: the model.
        layers: its linear layers.
        found: what they read (`sites.reads`).
        statistics: what normalisations said before they were folded.
    """
    thin = search(found)
    told = claims(index.main, found, statistics)
    return Questions(thin.chains, joins(index, layers), told, is_steep(index), thin.left)
