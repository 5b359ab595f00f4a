"""Values whose directions in channel space may be capped: outputs of convolutions, and what the head reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from onnx_clp.cap import bound_directions
from onnx_clp.cap.bound_directions import Site
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.eligibility import is_head
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.weights import FloatWeight
from onnx_clp.numerics.directions import Direction
from onnx_clp.run.folding import Place
from onnx_clp.verdicts import LayerStatus, Skipped, SkipReason

_SPARED: Final = (LayerStatus.HEAD, LayerStatus.GATE, LayerStatus.EXCLUDED)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A value that was looked at: of which layer it is, its own name, and where caps go or why none can."""

    layer: str
    value: str
    found: Site | Skipped

    @property
    def site(self) -> Site | None:
        """Where caps go; None where none can."""
        return self.found if isinstance(self.found, Site) else None

    @property
    def why(self) -> str:
        """Why none can; "" where they can."""
        return self.found.sentence if isinstance(self.found, Skipped) else ""


def candidates(index: ModelIndex, places: Sequence[Place]) -> list[Candidate]:
    """The values of the main graph that caps are meant for, in graph order.

    Outputs of convolutions, but of the first, of heads, gates, layers excluded by name and parts of earlier caps; and
    the input of the last linear layer. Quantised layers, and values that `bound_directions.examine` refuses, come
    with the reason.
    """
    found: dict[str, Candidate] = {}
    for place in places:
        if place.scope is index.main:
            for one in (*_convolutions(place), *_head(index, place)):
                found.setdefault(one.value, one)
    return list(found.values())


def put(edit: GraphEdit, site: Site, directions: Sequence[Direction]) -> int:
    """Put caps on directions behind a value; how many, as those its type cannot hold are left out."""
    fitting = [one for one in directions if bound_directions.refusal(site, one) is None]
    bound_directions.put(edit, site, fitting)
    edit.finish()
    return len(fitting)


def _convolutions(place: Place) -> Iterator[Candidate]:
    own = [v for v in place.verdicts if not bound_directions.is_part(place.scope, v.rewrite.layer.node)]
    convolutions = [v for v in own if v.rewrite.layer.is_convolution]
    for verdict in convolutions[1:]:
        if verdict.status not in _SPARED:
            layer = verdict.rewrite.layer
            yield Candidate(layer.name, layer.output, _examine(layer, layer.output, layer.channels))


def _examine(layer: LinearLayer, value: str, channels: int) -> Site | Skipped:
    if not isinstance(layer.weight, FloatWeight):
        return Skipped(SkipReason.QUANTIZED, "its layer is quantised")
    return bound_directions.examine(layer.scope, value, channels)


def _head(index: ModelIndex, place: Place) -> Iterator[Candidate]:
    """What the last linear layer reads, where that is one value a channel."""
    last = [v for v in place.verdicts if is_head(index, place.scope, v.rewrite.layer.output)]
    if len(last) != 1 or last[0].status is LayerStatus.EXCLUDED:
        return
    layer = last[0].rewrite.layer
    value = layer.node.input[layer.data_slot]
    found = _examine(layer, value, layer.inputs)
    if isinstance(found, Site) and not _pooled(layer, found):
        found = Skipped(SkipReason.NOT_PER_CHANNEL, "the last linear layer reads places besides channels")
    yield Candidate(layer.name, value, found)


def _pooled(layer: LinearLayer, site: Site) -> bool:
    """Whether a head reads (batch, channels), or as a 1 × 1 convolution (batch, channels, …)."""
    if layer.geometry is None:
        return site.rank == 2 and layer.data_axis_from_end == 1
    return all(size == 1 for size in layer.geometry.kernel)
