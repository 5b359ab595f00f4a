"""Follow each linear layer's output channels through the graph.

A `ChannelView` says of one value: its channel axis, which layer each run of channels comes from, and what
keeps an affine from folding into these layers. Layout operators, Concat and Split carry a view on; any other
operator ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, input_name, is_dequantizer, is_op, is_quantizer, operator
from onnx_clp.verdicts import Skipped, SkipReason


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of channels: `count` channels of `rewrite`'s layer from `start`, or of unknown origin (None)."""

    rewrite: LayerRewrite | None
    start: int
    count: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ChannelView:
    """One value seen as channels.

    `axis_from_end` counts from the last axis (1), as broadcasting does; `rank` is None where unknown;
    `obstacle` is the first thing that forbids folding an affine on this value into the layers.
    """

    axis_from_end: int
    rank: int | None
    segments: tuple[Segment, ...]
    obstacle: Skipped | None = None

    @property
    def channels(self) -> int | None:
        """The number of channels, where every segment's is known."""
        total = 0
        for segment in self.segments:
            if segment.count is None:
                return None
            total += segment.count
        return total

    def resolved(self, channels: int) -> ChannelView | None:
        """The view of exactly `channels` channels, one open count filled in; None where that cannot be."""
        known = sum(s.count for s in self.segments if s.count is not None)
        unknown = sum(s.count is None for s in self.segments)
        if unknown > 1 or (known != channels if unknown == 0 else known >= channels):
            return None
        fill = channels - known
        return replace(
            self, segments=tuple(s if s.count is not None else replace(s, count=fill) for s in self.segments)
        )

    def blocked(self, obstacle: Skipped | None) -> ChannelView:
        """The view with a further obstacle; the first one counts."""
        return self if self.obstacle is not None or obstacle is None else replace(self, obstacle=obstacle)


def layer_view(rewrite: LayerRewrite) -> ChannelView:
    """The view of a layer's own output."""
    layer = rewrite.layer
    return ChannelView(layer.axis_from_end, layer.rank, (Segment(rewrite, 0, layer.channels),))


def use_obstacle(scope: GraphIndex, name: str) -> Skipped | None:
    """Why the value may not vanish: it is a graph output, or more than one place uses it."""
    uses = scope.uses(name)
    if any(use.node is None for use in uses):
        return Skipped(SkipReason.GRAPH_OUTPUT, "the value before it is an output of the graph")
    if len(uses) > 1 or any(use.scope is not scope for use in uses):
        return Skipped(SkipReason.SEVERAL_CONSUMERS, "the value before it has other consumers too")
    return None


def carry(scope: GraphIndex, node: NodeProto, views: dict[str, ChannelView]) -> bool:
    """Carry views through a layout operator, Concat or Split; False where the node is none of them."""
    if has_reference(node):
        return False
    if is_op(node, "Concat"):
        return _carry_concat(scope, node, views)
    view = views.get(input_name(node, 0))
    if view is None:
        return False
    view = view.blocked(use_obstacle(scope, node.input[0]))
    if is_op(node, "Split"):
        return _carry_split(scope, node, view, views)
    moved = _move(scope, node, view)
    if moved is None:
        return False
    views[node.output[0]] = moved
    return True


def _move(scope: GraphIndex, node: NodeProto, view: ChannelView) -> ChannelView | None:
    if is_op(node, "Identity") or (is_op(node, "Dropout") and drops_nothing(scope, node)):
        return view
    if is_op(node, "Cast", "CastLike"):
        return view if keeps_type(scope, node) else None
    if is_op(node, "Transpose"):
        return _transposed(node, view)
    if is_op(node, "Squeeze", "Unsqueeze"):
        return _resqueezed(scope, node, view)
    if is_quantizer(node) or is_dequantizer(node):
        sentence = "the value before it is quantised, which rounds"
        return view.blocked(Skipped(SkipReason.QUANTIZED, sentence))
    return None


def moves_only(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether a node changes no value, at most their order: Identity and the like, or Transpose."""
    if has_reference(node):
        return False
    if is_op(node, "Cast", "CastLike"):
        return keeps_type(scope, node)
    return is_op(node, "Identity", "Transpose") or (is_op(node, "Dropout") and drops_nothing(scope, node))


def drops_nothing(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether a Dropout is the identity: inference mode, and its mask unused (ONNX Dropout, opset 1 to 22)."""
    if any(name and scope.uses(name) for name in node.output[1:]):
        return False
    if scope.opset >= 12:
        mode = input_name(node, 2)
        value = scope.constant(mode) if mode else None
        return not mode or (value is not None and not value.any())
    return scope.opset >= 7 or read.marked_as_test(node)


def keeps_type(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether a Cast or CastLike casts to the type its input has already."""
    to = read.cast_type(node) if is_op(node, "Cast") else scope.element_type(input_name(node, 1))
    return to is not None and scope.element_type(node.input[0]) == to


def _transposed(node: NodeProto, view: ChannelView) -> ChannelView | None:
    perm = read.perm(node, view.rank)
    if perm is None:
        return None
    rank = len(perm)
    axis = rank - view.axis_from_end
    if axis < 0 or axis not in perm or (view.rank is not None and view.rank != rank):
        return None
    return replace(view, rank=rank, axis_from_end=rank - perm.index(axis))


def _resqueezed(scope: GraphIndex, node: NodeProto, view: ChannelView) -> ChannelView | None:
    axes = read.AXES.of(node, scope.constant)
    if axes is None or view.rank is None:
        return None
    squeezing = node.op_type == "Squeeze"
    rank = view.rank - len(axes) if squeezing else view.rank + len(axes)
    wide = view.rank if squeezing else rank
    moved = {a + wide if a < 0 else a for a in axes}
    axis = view.rank - view.axis_from_end
    if squeezing:
        if axis in moved:
            return None
        axis -= sum(a < axis for a in moved)
    else:
        axis = [a for a in range(rank) if a not in moved][axis]
    return replace(view, rank=rank, axis_from_end=rank - axis)


def _carry_concat(scope: GraphIndex, node: NodeProto, views: dict[str, ChannelView]) -> bool:
    found = [views.get(name) for name in node.input]
    first = next((v for v in found if v is not None), None)
    if first is None:
        return False
    axis = read.axis(node)
    rank = next((v.rank for v in found if v is not None and v.rank is not None), None)
    if axis >= 0 and rank is None:
        return False
    from_end = -axis if axis < 0 else (rank or 0) - axis
    segments: list[Segment] = []
    obstacle = None
    for name, view in zip(node.input, found, strict=True):
        if view is None or view.axis_from_end != from_end:
            segments.append(Segment(None, 0, None))
            producer = scope.producer(name)
            source = "a graph input" if producer is None else operator(producer)
            view_obstacle: Skipped | None = Skipped(
                SkipReason.BRANCH,
                f"one branch of the Concat before it comes from {source}, not a linear layer",
            )
        else:
            segments.extend(view.segments)
            view_obstacle = view.obstacle or use_obstacle(scope, name)
        obstacle = obstacle or view_obstacle
    views[node.output[0]] = ChannelView(from_end, rank, tuple(segments), obstacle)
    return True


def _carry_split(scope: GraphIndex, node: NodeProto, view: ChannelView, views: dict[str, ChannelView]) -> bool:
    axis = read.axis(node)
    from_end = -axis if axis < 0 else None if view.rank is None else view.rank - axis
    sizes = _split_sizes(scope, node, view.channels)
    if from_end != view.axis_from_end or sizes is None or len(sizes) != len(node.output):
        return False
    start = 0
    for name, size in zip(node.output, sizes, strict=True):
        cut = _cut(view.segments, start, size)
        if name and cut is not None:
            views[name] = replace(view, segments=cut)
        start += size
    return True


def _split_sizes(scope: GraphIndex, node: NodeProto, channels: int | None) -> list[int] | None:
    if not read.SPLIT.left_out(node):
        given = read.SPLIT.of(node, scope.constant)
        return None if given is None else list(given)
    return None if channels is None else read.equal_parts(channels, len(node.output))


def _cut(segments: tuple[Segment, ...], start: int, count: int) -> tuple[Segment, ...] | None:
    """The segments of `count` channels from `start`."""
    out: list[Segment] = []
    at = 0
    for segment in segments:
        if segment.count is None:
            return None
        low, high = max(start, at), min(start + count, at + segment.count)
        if low < high:
            out.append(Segment(segment.rewrite, segment.start + low - at, high - low))
        at += segment.count
    return tuple(out)
