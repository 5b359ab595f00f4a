"""Carry a view of channels through operators that treat every channel alike and by itself, and mix its places."""

from __future__ import annotations

from dataclasses import replace

from onnx import NodeProto

from onnx_clp.fold.channel_views import ChannelView
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import has_reference, input_name, is_op, operator
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind
from onnx_clp.verdicts import Skipped, SkipReason


def carry_by_channel(scope: GraphIndex, node: NodeProto, views: dict[str, ChannelView]) -> bool:
    """Carry a view through an operator that mixes places but no channels: pooling, resizing, padding, flattening.

    An affine behind it scales what the channel gives, so it counts for the score and can silence the channel, but it
    cannot be folded through; False where the node is no such operator.
    """
    view = None if has_reference(node) else views.get(input_name(node, 0))
    moved = None if view is None else _by_channel(scope, node, view)
    if moved is None:
        return False
    sentence = f"{operator(node)} is between it and the layer"
    views[node.output[0]] = moved.blocked(Skipped(SkipReason.NOT_AFFINE, sentence))
    return True


def _by_channel(scope: GraphIndex, node: NodeProto, view: ChannelView) -> ChannelView | None:
    axis = None if view.rank is None else view.rank - view.axis_from_end
    if is_a(node, Kind.POOL, Kind.GLOBAL_POOL):
        return view if axis == 1 and not windows.channels_last(node) else None
    if is_op(node, "Resize", "Upsample", "Pad"):
        return view if axis is not None and _leaves_axis(scope, node, view, axis) else None
    if is_a(node, Kind.REDUCE):
        return reduced(scope, node, view)
    if is_op(node, "Flatten", "Reshape"):
        return None if axis is None else _flattened(scope, node, view, axis)
    return None


def _leaves_axis(scope: GraphIndex, node: NodeProto, view: ChannelView, axis: int) -> bool:
    """Whether a node changes neither the number nor the values along an axis."""
    if is_op(node, "Pad"):
        pads = read.PADS.of(node, scope.constant)
        if pads is None or not read.AXES.left_out(node):
            return False
        return len(pads) == 2 * (view.rank or 0) and pads[axis] == 0 == pads[axis + len(pads) // 2]
    if is_op(node, "Resize") and (read.SIZES.input(node) or not read.AXES.left_out(node)):
        return _keeps_size(scope, node, view, axis)
    scales = windows.scales(node, scope.constant, scope.opset) or ()
    return len(scales) == view.rank and scales[axis] == 1


def _keeps_size(scope: GraphIndex, node: NodeProto, view: ChannelView, axis: int) -> bool:
    """Whether a Resize to given sizes leaves the channels as they are."""
    axes, sizes = read.AXES.of(node, scope.constant), read.SIZES.of(node, scope.constant)
    if axes is not None:
        return axis not in {a % (view.rank or 1) for a in axes}
    return sizes is not None and len(sizes) > axis and sizes[axis] == view.channels


def reduced(scope: GraphIndex, node: NodeProto, view: ChannelView) -> ChannelView | None:
    """The view behind a reduction over other axes than the channels'; None where it is over theirs or unknown."""
    axes, rank = read.AXES.of(node, scope.constant), view.rank
    if not axes or rank is None:
        return None
    axis, gone = rank - view.axis_from_end, {a % rank for a in axes}
    if axis in gone:
        return None
    if read.keeps_dims(node):
        return view
    at = axis - sum(a < axis for a in gone)
    return replace(view, rank=rank - len(gone), axis_from_end=rank - len(gone) - at)


def _flattened(scope: GraphIndex, node: NodeProto, view: ChannelView, axis: int) -> ChannelView | None:
    """Flatten and Reshape where every axis behind the channels has one entry, or keeps its own."""
    source, rank = node.input[0], view.rank or 0
    single = all(scope.ranks.size(source, at) == 1 for at in range(axis + 1, rank))
    if is_op(node, "Flatten"):
        kept = single and axis == 1 == read.axis(node)
        return replace(view, rank=2, axis_from_end=1) if kept else None
    target = read.SHAPE.of(node, scope.constant)
    if target is None or not single or axis != 1 or view.channels is None:
        return None
    fits = len(target) > 1 and target[1] in (view.channels, 0) and all(d == 1 for d in target[2:])
    return replace(view, rank=len(target), axis_from_end=len(target) - 1) if fits else None
