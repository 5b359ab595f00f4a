"""Fold channel affines into the linear layer before them, or after them where that is exact.

    before:  linear > [layout operators, Concat, Split] > affine          y = scale·(W·x + b) + shift
    after:   linear' > [layout operators, Concat, Split]                  W' = scale·W,  b' = scale·b + shift

    before:  affine > [layout operators] > linear                         y = W·(scale·x + shift) + b
    after:   [layout operators] > linear'                                 W' = W·scale,  b' = b + W·shift

Conditions: everything but the data is constant; the values that vanish have one consumer and are no graph
output; the affine is at inference; and (second form) no zero padding where shift is not 0. The first form is
tried on every affine in graph order, then the second on what is left, from the back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from onnx_clp.biases import AddedBias
from onnx_clp.edit import GraphEdit
from onnx_clp.graph import GraphIndex
from onnx_clp.layers import find_layer
from onnx_clp.nodes import attribute, identity, is_op, operator
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.passes.affine_forms import Affine, Frame, data_slot, recognise
from onnx_clp.passes.channel_views import (
    ChannelView,
    Segment,
    carry,
    layer_view,
    moves_only,
    use_obstacle,
)
from onnx_clp.rewrite import LayerRewrite
from onnx_clp.skipped import Skipped, SkipReason

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


@dataclass(slots=True, eq=False)
class Layers:
    """The linear layers of one scope, by the id of their node, and those that cannot be judged or folded."""

    by_node: dict[int, LayerRewrite] = field(default_factory=dict)
    refused: list[tuple[NodeProto, Skipped]] = field(default_factory=list)


def find_layers(scope: GraphIndex) -> Layers:
    """Every linear node of a scope as a `LayerRewrite`, or why it is none."""
    layers = Layers()
    for node in scope.nodes:
        if scope.is_constant(identity(node)):
            continue
        found = find_layer(scope, node)
        if isinstance(found, Skipped):
            layers.refused.append((node, found))
        elif found is not None:
            layers.by_node[id(node)] = LayerRewrite(found)
    return layers


def examine(scope: GraphIndex, node: NodeProto, view: ChannelView | None) -> Match | Skipped:
    """Whether the affine folds into the layers its data comes from."""
    slot = data_slot(scope, node)
    assert slot is not None
    if view is None:
        return _no_layer(scope, node, slot)
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


def _no_layer(scope: GraphIndex, node: NodeProto, slot: int) -> Skipped:
    maker = scope.producer(node.input[slot])
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
            _fold_one(edit, scope, node, views, left)
        else:
            carry(scope, node, views)
    return _fold_forward(edit, scope, layers, left)


def _fold_one(
    edit: GraphEdit,
    scope: GraphIndex,
    node: NodeProto,
    views: dict[str, ChannelView],
    left: Left,
) -> None:
    slot = data_slot(scope, node)
    assert slot is not None
    source, result = node.input[slot], node.output[0]
    view = views.get(source)
    if view is not None and _adopted(scope, node, view):
        views[result] = view
        return
    found = examine(scope, node, view)
    if isinstance(found, Match):
        assert view is not None
        apply(edit, found)
        views[result] = view
    else:
        left[id(node)] = (node, found)


def _adopted(scope: GraphIndex, node: NodeProto, view: ChannelView) -> bool:
    """Take an Add behind a MatMul and layout operators as the MatMul's bias, which it is."""
    rewrite = view.segments[0].rewrite
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


def _fold_forward(edit: GraphEdit, scope: GraphIndex, layers: Layers, left: Left) -> Left:
    for node in reversed(scope.nodes):
        if id(node) not in left:
            continue
        found = examine_forward(scope, node, layers)
        if isinstance(found, Match):
            rewrite, part = found.parts[0]
            rewrite.absorb_input(part)
            rewrite.folded.insert(0, node.name or identity(node))
            edit.skip(scope, node, found.slot)
            del left[id(node)]
        elif found is not None:
            left[id(node)] = (node, found)
    return left


def _layer_after(scope: GraphIndex, name: str, layers: Layers) -> tuple[LayerRewrite, Frame] | None:
    """The layer a value goes into through layout operators only, and the value's channel axis."""
    path: list[NodeProto] = []
    while True:
        use = scope.only_use(name)
        if use is None or use.node is None or use.scope is not scope:
            return None
        rewrite = layers.by_node.get(id(use.node))
        if rewrite is not None:
            return (rewrite, _frame_before(rewrite, path, scope)) if use.slot == rewrite.layer.data_slot else None
        if not moves_only(scope, use.node):
            return None
        path.append(use.node)
        name = use.node.output[0]


def _frame_before(rewrite: LayerRewrite, path: list[NodeProto], scope: GraphIndex) -> Frame:
    layer = rewrite.layer
    axis, rank = layer.data_axis_from_end, layer.rank if layer.operator != "MatMul" else None
    for node in reversed(path):
        if is_op(node, "Transpose"):
            perm = attribute(node, "perm") or list(reversed(range(rank or 0)))
            rank = len(perm)
            axis = rank - perm[rank - axis] if 0 < axis <= rank else rank + 1
    return Frame(axis, rank, layer.inputs)


def examine_forward(scope: GraphIndex, node: NodeProto, layers: Layers) -> Match | Skipped | None:
    """Whether the affine folds into the layer after it; None where no layer follows it directly."""
    slot = data_slot(scope, node)
    assert slot is not None
    after = _layer_after(scope, node.output[0], layers)
    if after is None:
        return None
    rewrite, frame = after
    rank = frame.rank if frame.rank is not None else scope.ranks.of(node.input[slot])
    found = recognise(scope, node, Frame(frame.axis_from_end, rank, frame.channels))
    if isinstance(found, Affine) and not is_op(node, "BatchNormalization") and len(found.affine.scale) > 1:
        axis = None if rank is None else rank - frame.axis_from_end
        if axis is None or scope.ranks.size(node.input[slot], axis) != frame.channels:
            return Skipped(SkipReason.NOT_PER_CHANNEL, "its input is not known to have the layer's channels")
    if isinstance(found, Skipped):
        return found
    if found.blocked is not None:
        return found.blocked
    if _adds_dimension(scope, node, slot, frame.rank):
        return Skipped(SkipReason.NOT_PER_CHANNEL, "its input is not known to have the layer's dimensions")
    refusal = rewrite.refuses_input(found.affine)
    if refusal is not None:
        return refusal
    return Match(scope, node, slot, ((rewrite, found.affine),), found.normalises)


def _adds_dimension(scope: GraphIndex, node: NodeProto, slot: int, rank: int | None) -> bool:
    """Whether the operand may give the result, of `rank` dimensions (None: 1 or more), more than the data has."""
    operand = None if is_op(node, "BatchNormalization") else scope.constant(node.input[1 - slot])
    if operand is None:
        return False
    known = scope.ranks.of(node.input[slot])
    return operand.ndim >= (rank or 1) if known is None else operand.ndim > known
