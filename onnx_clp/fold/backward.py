"""Fold channel affines into the linear layer before them.

    before:  linear > [layout operators, Concat, Split] > affine          y = scale·(W·x + b) + shift
    after:   linear' > [layout operators, Concat, Split]                  W' = scale·W,  b' = scale·b + shift

Conditions: everything but the data is constant, the values that vanish have one consumer and are no graph
output, and the affine is at inference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from onnx_clp.fold.affine_forms import Affine, Frame, data_slot, recognise
from onnx_clp.fold.channel_views import (
    ChannelView,
    Segment,
    carry,
    layer_view,
    use_obstacle,
)
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.biases import AddedBias
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.operators.nodes import identity, is_op, operator
from onnx_clp.verdicts import Skipped, SkipReason

Left = dict[int, tuple[NodeProto, Skipped]]
"""Affines that stay, by the id of their node."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """An affine that can be folded: the part of it that goes into each layer."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    parts: tuple[tuple[LayerRewrite, ChannelAffine], ...]
    normalises: bool


def examine(
    scope: GraphIndex, node: NodeProto, view: ChannelView | None, layers: Layers | None = None
) -> Match | Skipped:
    """Whether the affine folds into the layers its data comes from."""
    slot = data_slot(scope, node)
    assert slot is not None
    if view is None:
        return _no_layer(scope, node, slot, layers or Layers())
    frame = Frame(view.axis_from_end, _rank_at(scope, node, slot, view), view.channels)
    found = recognise(scope, node, frame)
    if isinstance(found, Skipped):
        return found
    obstacle = found.blocked or view.obstacle or use_obstacle(scope, node.input[slot])
    if obstacle is not None:
        return obstacle
    parts = _parts(view, found)
    if isinstance(parts, Skipped):
        return parts
    for rewrite, part in parts:
        refusal = rewrite.refuses(part)
        if refusal is not None:
            return refusal
    return Match(scope, node, slot, parts, found.normalises)


def _rank_at(scope: GraphIndex, node: NodeProto, slot: int, view: ChannelView) -> int | None:
    if view.rank is not None:
        return view.rank
    return scope.ranks.of(node.input[slot])


def _no_layer(scope: GraphIndex, node: NodeProto, slot: int, layers: Layers) -> Skipped:
    maker = scope.producer(node.input[slot])
    for refused, why in layers.refused:
        if refused is maker:
            return Skipped(why.reason, f"the layer before it stays as it is: {why.sentence}")
    source = "a value from outside" if maker is None else f"{operator(maker)}"
    return Skipped(SkipReason.NO_LINEAR_LAYER, f"its input comes from {source}, not from a linear layer")


def _parts(view: ChannelView, found: Affine) -> tuple[tuple[LayerRewrite, ChannelAffine], ...] | Skipped:
    """The affine cut along the view's segments, each part spread over its layer's channels."""
    whole = view.resolved(len(found.affine.scale))
    if whole is None or any(s.rewrite is None for s in whole.segments):
        return Skipped(SkipReason.BRANCH, "not every channel before it comes from a linear layer")
    parts: list[tuple[LayerRewrite, ChannelAffine]] = []
    start = 0
    for segment in whole.segments:
        assert segment.rewrite is not None
        assert segment.count is not None
        parts.append((segment.rewrite, _spread(found.affine.part(start, segment.count), segment)))
        start += segment.count
    return tuple(parts)


def _spread(part: ChannelAffine, segment: Segment) -> ChannelAffine:
    assert segment.rewrite is not None
    assert segment.count is not None
    channels = segment.rewrite.layer.channels
    if segment.count == channels:
        return part
    scale, shift = np.ones(channels), np.zeros(channels)
    here = slice(segment.start, segment.start + segment.count)
    scale[here], shift[here] = part.scale, part.shift
    return ChannelAffine(scale, shift)


def apply(edit: GraphEdit, match: Match) -> None:
    """Fold on paper and take the affine node out."""
    for rewrite, part in match.parts:
        rewrite.absorb(part)
        rewrite.folded.append(match.node.name or identity(match.node))
        rewrite.normalised = rewrite.normalised or match.normalises
    edit.bypass(match.scope, match.node, match.slot)


def fold_scope(edit: GraphEdit, scope: GraphIndex, layers: Layers) -> Left:
    """Fold what can be folded in one scope; the affines left (by node id) with the reason."""
    left: Left = {}
    views: dict[str, ChannelView] = {}
    inside = {id(n) for r in layers.by_node.values() for n in r.layer.own_nodes}
    for node in scope.nodes:
        rewrite = layers.by_node.get(id(node))
        if rewrite is not None:
            views[rewrite.layer.output] = layer_view(rewrite)
        elif id(node) in inside or scope.is_constant(identity(node)):
            continue
        elif data_slot(scope, node) is not None:
            _fold_one(edit, scope, node, views, left, layers)
        else:
            carry(scope, node, views)
    return left


def _fold_one(
    edit: GraphEdit,
    scope: GraphIndex,
    node: NodeProto,
    views: dict[str, ChannelView],
    left: Left,
    layers: Layers,
) -> None:
    slot = data_slot(scope, node)
    assert slot is not None
    source, result = node.input[slot], node.output[0]
    view = views.get(source)
    if view is not None and _adopted(scope, node, view):
        views[result] = view
        return
    found = examine(scope, node, view, layers)
    if isinstance(found, Match):
        assert view is not None
        apply(edit, found)
        views[result] = view
    else:
        left[id(node)] = (node, found)


def _adopted(scope: GraphIndex, node: NodeProto, view: ChannelView) -> bool:
    """Take an Add behind a MatMul and layout operators as the MatMul's bias, which it is."""
    rewrite = view.segments[0].rewrite if view.segments else None
    bias = None if rewrite is None else rewrite.layer.bias
    if rewrite is None or not isinstance(bias, AddedBias) or bias.adder is not None:
        return False
    if len(view.segments) != 1 or view.obstacle is not None or not is_op(node, "Add"):
        return False
    if use_obstacle(scope, node.input[data_slot(scope, node) or 0]) is not None:
        return False
    pending = rewrite.bias
    known = bias.axis_from_end, bias.rank
    bias.axis_from_end, bias.rank = view.axis_from_end, view.rank
    if pending is None or not bias.adopt(node, node.input[data_slot(scope, node) or 0]):
        bias.axis_from_end, bias.rank = known
        return False
    rewrite.layer.inside.append(node)
    rewrite.layer.axis_from_end, rewrite.layer.rank = view.axis_from_end, view.rank
    rewrite.take_in_bias()
    return True
