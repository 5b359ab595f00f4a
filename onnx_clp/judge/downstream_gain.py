"""How strongly the layers after a channel read it, for the rule `gain`.

    gain(c)² = Σ over the linear layers that read channel c, over their outputs and taps, of W[o, c, tap]²

with the normalisation folded into those layers counted in. A channel that reacts strongly but is hardly read can
do little, one that reacts a little less and is read by everything can do more. Values are followed to the next
linear layer on each way, through operators that keep channels apart: activations, pooling, layout, sums, products,
Concat, Split and normalisations that stayed in the graph (by their factors); each of them is taken to pass a
channel on as it is. Where no way ends in a linear layer there is no gain, and the report says what is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.fold.affine_forms import Affine, Frame, data_slot, recognise
from onnx_clp.fold.by_channel import reduced
from onnx_clp.fold.channel_views import ChannelView, Segment, carry, layer_view
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import identity, input_name, is_op, operator
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait

Float64 = NDArray[np.float64]

_BLOCK: Final = 1 << 20
_APART: Final = (Kind.POINTWISE, Kind.RETYPE, Kind.QUANTISE, Kind.POOL, Kind.GLOBAL_POOL, Kind.RESAMPLE)


class Gains:
    """The gains of every value of one scope that holds channels of a linear layer."""

    def __init__(self, scope: GraphIndex, layers: Layers) -> None:
        self._scope, self._layers = scope, layers
        self._views: dict[str, ChannelView] = {}
        self._squares: dict[str, Float64] = {}
        self._unseen: dict[str, str] = {}
        inside = {id(n) for r in layers.by_node.values() for n in r.layer.own_nodes}
        inside |= {id(n) for n in scope.nodes if is_a(n, Kind.SIZES) or scope.is_constant(identity(n))}
        nodes = [n for n in scope.nodes if n.output and id(n) not in inside]
        for node in nodes:
            self._view(node)
        for name in self._views:
            if any(use.node is None or use.scope is not scope for use in scope.uses(name)):
                self._unseen[name] = "an output of its graph"
        with np.errstate(all="ignore"):
            for node in reversed(nodes):
                self._read(node)

    def of(self, name: str, first: int, count: int) -> tuple[Float64 | None, str]:
        """The gain of a value's channels `first` … `first + count - 1`, and what is missing from it, in words.

        None where no layer that reads the value was found; the words are empty where nothing is missing.
        """
        squares, unseen = self._squares.get(name), self._unseen.get(name, "")
        if squares is None or len(squares) < first + count:
            after = f"{unseen} comes before one" if unseen else "nothing reads them"
            return None, f"its scores are not weighted: no layer that reads its channels was found ({after})"
        gain = np.sqrt(squares[first : first + count])
        return gain, f"its scores leave out that {unseen} reads its channels too" if unseen else ""

    # Forwards: where the channels of each value are

    def _view(self, node: NodeProto) -> None:
        rewrite = self._layers.by_node.get(id(node))
        if rewrite is not None:
            self._views[rewrite.layer.output] = layer_view(rewrite)
        elif not carry(self._scope, node, self._views):
            view = self._through(node)
            if view is not None:
                self._views.update((name, view) for name in node.output[:1])

    def _through(self, node: NodeProto) -> ChannelView | None:
        """The view of what a node makes of values that have one; None where channels do not stay apart."""
        found = [self._views[name] for name in node.input if name in self._views]
        if not found:
            return None
        if is_a(node, Kind.JOINT):
            return max(found, key=lambda view: (view.channels is not None, view.rank or 0))
        if _keeps_apart(node):
            return self._views.get(node.input[0])
        if is_a(node, Kind.REDUCE):
            return reduced(self._scope, node, found[0])
        if is_op(node, "Pad"):
            return _padded(self._scope, node, found[0])
        if self._flattens(node):
            return ChannelView(1, 2, (Segment(None, 0, None),))
        return None

    def _flattens(self, node: NodeProto) -> bool:
        if is_op(node, "Flatten"):
            return read.axis(node) == 1
        return is_op(node, "Reshape") and self._scope.ranks.of(node.output[0]) == 2

    # Backwards: how strongly each is read

    def _read(self, node: NodeProto) -> None:
        rewrite = self._layers.by_node.get(id(node))
        if rewrite is not None:
            self._read_by_layer(node, rewrite)
            return
        unseen = next((self._unseen[name] for name in node.output if name in self._unseen), "")
        for slot, name in enumerate(node.input):
            if name not in self._views:
                continue
            squares = self._before(node, slot)
            if squares is not None:
                self._add(name, squares, operator(node))
            if unseen:
                self._unseen.setdefault(name, unseen)
            elif squares is None and not self._leads_nowhere(node):
                self._unseen.setdefault(name, operator(node))

    def _leads_nowhere(self, node: NodeProto) -> bool:
        """Whether the node's outputs were followed, and nothing reads them."""
        outputs = [out for out in node.output if out in self._views]
        return bool(outputs) and not any(out in self._squares for out in outputs)

    def _read_by_layer(self, node: NodeProto, rewrite: LayerRewrite) -> None:
        name = input_name(node, rewrite.layer.data_slot)
        view = self._views.get(name)
        if view is None:
            return
        squares = read_squares(rewrite) if view.axis_from_end == rewrite.layer.data_axis_from_end else None
        if squares is None or not np.isfinite(squares).all():
            self._unseen.setdefault(name, operator(node))
        else:
            self._add(name, squares, operator(node))

    def _add(self, name: str, squares: Float64, reader: str) -> None:
        known, channels = self._squares.get(name), self._views[name].channels
        if channels not in (None, len(squares)) or (known is not None and len(known) != len(squares)):
            self._unseen.setdefault(name, reader)
        else:
            self._squares[name] = squares if known is None else known + squares

    def _before(self, node: NodeProto, slot: int) -> Float64 | None:
        """The squares at an input of a node from those at its outputs."""
        if is_op(node, "Split"):
            return self._before_split(node)
        after = self._squares.get(identity(node))
        view = self._views[node.input[slot]]
        if after is None:
            return None
        if is_op(node, "Concat"):
            return self._before_concat(node, slot, after)
        if self._flattens(node):
            return _unflattened(view, after)
        if is_op(node, "Pad") and view.channels is not None:
            start = (_channel_pads(self._scope, node, view) or (0, 0))[0]
            return after[start : start + view.channels]
        if data_slot(self._scope, node) == slot:
            frame = Frame(view.axis_from_end, view.rank, len(after))
            found = recognise(self._scope, node, frame)
            if isinstance(found, Affine):
                return np.asarray(after * found.affine.scale**2)
        return after

    def _before_concat(self, node: NodeProto, slot: int, after: Float64) -> Float64 | None:
        sizes = [self._views[name].channels if name in self._views else None for name in node.input]
        if sizes.count(None) == 1:
            rest = len(after) - sum(size or 0 for size in sizes)
            sizes = [rest if size is None else size for size in sizes]
        known = [size or 0 for size in sizes]
        if None in sizes or min(known) < 0 or sum(known) != len(after):
            return None
        start = sum(known[:slot])
        return after[start : start + known[slot]]

    def _before_split(self, node: NodeProto) -> Float64 | None:
        parts = []
        for name in node.output:
            channels = self._views[name].channels if name in self._views else None
            if channels is None:
                return None
            parts.append(self._squares.get(name, np.zeros(channels)))
        return np.concatenate(parts) if any(name in self._squares for name in node.output) else None


def _keeps_apart(node: NodeProto) -> bool:
    """Whether channel c of what a node gives comes from channel c of its first operand alone."""
    if is_a(node, *_APART):
        return True
    return (is_a(node, Kind.NORMALISE) and keeps(node, Trait.CHANNELS)) or is_op(node, "Identity", "Dropout", "Expand")


def read_squares(rewrite: LayerRewrite) -> Float64:
    """The layer's Σ W² over outputs and taps, one entry an input channel over all groups; overflow gives inf."""
    layer, kernels = rewrite.layer, rewrite.kernels()
    outputs, per_group = kernels.shape[:2]
    groups = layer.layout.groups
    total = np.zeros((groups, per_group))
    step = max(_BLOCK // max(kernels[0].size if outputs else 1, 1), 1)
    factors = (rewrite.out_scale * layer.gain) ** 2
    for start in range(0, outputs, step):
        block = as_float64(kernels[start : start + step])
        squares = np.einsum("oit,oit,o->oi", block, block, factors[start : start + len(block)])
        at = np.arange(start, start + len(block)) // (outputs // groups)
        np.add.at(total, at, squares)
    layer.weight.release()
    return total.reshape(-1)


def _padded(scope: GraphIndex, node: NodeProto, view: ChannelView) -> ChannelView | None:
    """The view behind a Pad; channels that it adds come from nowhere."""
    added = _channel_pads(scope, node, view)
    if added is None or min(added) < 0:
        return None
    before, after = (tuple([Segment(None, 0, count)] * (count > 0)) for count in added)
    return replace(view, segments=(*before, *view.segments, *after))


def _channel_pads(scope: GraphIndex, node: NodeProto, view: ChannelView) -> tuple[int, int] | None:
    """How many channels a Pad adds before and after; None where that is not known."""
    pads = read.PADS.of(node, scope.constant)
    if pads is None or view.rank != len(pads) // 2 or not read.AXES.left_out(node):
        return None
    axis = view.rank - view.axis_from_end
    return pads[axis], pads[axis + view.rank]


def _unflattened(view: ChannelView, after: Float64) -> Float64 | None:
    """Gain² of channels from that of the features they were flattened to; the batch stays in front."""
    channels = view.channels
    if channels is None or channels == 0 or len(after) % channels or view.rank is None:
        return None
    if view.axis_from_end == view.rank - 1:
        return np.asarray(after.reshape(channels, -1).sum(axis=1))
    return np.asarray(after.reshape(-1, channels).sum(axis=0)) if view.axis_from_end == 1 else None
