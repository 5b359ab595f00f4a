"""Values whose directions in channel space may be capped.

Outputs of convolutions and of fully connected layers, and what the head reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from onnx_clp.cap import bound_directions
from onnx_clp.cap.bound_directions import Site
from onnx_clp.document.layers import CapLeft
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.eligibility import is_head, why_ineligible
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.weights import FloatWeight
from onnx_clp.numerics.directions import Direction
from onnx_clp.run.folding import Place
from onnx_clp.verdicts import LayerStatus, Skipped, SkipReason

_SPARED: Final = (LayerStatus.HEAD, LayerStatus.GATE, LayerStatus.EXCLUDED)


def candidates(index: ModelIndex, places: Sequence[Place]) -> dict[str, Site | CapLeft]:
    """The values of the main graph that caps are meant for, in graph order: where caps go, or why none can.

    Outputs of convolutions, but of the first, of heads, gates, layers excluded by name and parts of earlier caps;
    those of fully connected layers (batch, channels), with the same exceptions; and the input of the last linear layer.
    Quantised layers, and values that `bound_directions.examine` refuses, come with the reason.
    """
    found: dict[str, Site | CapLeft] = {}
    for place in places:
        if place.scope is index.main:
            for layer, value, one in (*_convolutions(place), *_connected(index, place), *_head(index, place)):
                found.setdefault(value, CapLeft(layer.name, one.sentence) if isinstance(one, Skipped) else one)
    return found


def put(edit: GraphEdit, site: Site, directions: Sequence[Direction]) -> int:
    """Put caps on directions behind a value; how many, as those its type cannot hold are left out."""
    fitting = [one for one in directions if bound_directions.refusal(site, one) is None]
    bound_directions.put(edit, site, fitting)
    edit.finish()
    return len(fitting)


_Looked = Iterator[tuple[LinearLayer, str, Site | Skipped]]
"""A layer, its value, and whether that can take caps."""


def _convolutions(place: Place) -> _Looked:
    own = [v for v in place.verdicts if not bound_directions.is_part(place.scope, v.rewrite.layer.node)]
    convolutions = [v for v in own if v.rewrite.layer.is_convolution]
    for verdict in convolutions[1:]:
        if verdict.status not in _SPARED:
            layer = verdict.rewrite.layer
            yield layer, layer.output, _examine(layer, layer.output, layer.channels)


def _connected(index: ModelIndex, place: Place) -> _Looked:
    """What fully connected layers give before any activation: there a patch at one place is the same shift always."""
    for verdict in place.verdicts:
        layer = verdict.rewrite.layer
        if layer.is_convolution or layer.rank != 2 or layer.axis_from_end != 1 or verdict.status in _SPARED:
            continue
        trouble = why_ineligible(index, layer)
        if bound_directions.is_part(place.scope, layer.node) or (trouble is not None and trouble.status in _SPARED):
            continue
        found = _examine(layer, layer.output, layer.channels)
        yield layer, layer.output, replace(found, dense=True) if isinstance(found, Site) else found


def _examine(layer: LinearLayer, value: str, channels: int) -> Site | Skipped:
    if not isinstance(layer.weight, FloatWeight):
        return Skipped(SkipReason.QUANTIZED, "its layer is quantised")
    return bound_directions.examine(layer.scope, value, channels, layer.name)


def _head(index: ModelIndex, place: Place) -> _Looked:
    """What the last linear layer reads, where that is one value a channel."""
    last = [v for v in place.verdicts if is_head(index, place.scope, v.rewrite.layer.output)]
    if len(last) != 1 or last[0].status is LayerStatus.EXCLUDED:
        return
    layer = last[0].rewrite.layer
    value = layer.node.input[layer.data_slot]
    found = _examine(layer, value, layer.inputs)
    if isinstance(found, Site) and not _pooled(layer, found):
        found = Skipped(SkipReason.NOT_PER_CHANNEL, "the last linear layer reads places besides channels")
    yield layer, value, found


def _pooled(layer: LinearLayer, site: Site) -> bool:
    """Whether a head reads (batch, channels), or as a 1 × 1 convolution (batch, channels, …)."""
    if layer.geometry is None:
        return site.rank == 2 and layer.data_axis_from_end == 1
    return all(size == 1 for size in layer.geometry.kernel)
