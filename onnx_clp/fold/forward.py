"""Fold an affine into the linear layer after it.

    before:  affine > [layout operators] > linear                         y = W·(scale·x + shift) + b
    after:   [layout operators] > linear'                                 W' = W·scale,  b' = b + W·shift

Conditions: everything but the data is constant, the values between have one consumer, the affine is at
inference, and no position is zero padding where shift is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from onnx_clp.fold.affine_forms import Affine, Frame, data_slot, recognise
from onnx_clp.fold.backward import Left
from onnx_clp.fold.channel_views import moves_only
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.operators import read
from onnx_clp.operators.nodes import identity, is_op
from onnx_clp.verdicts import Skipped, SkipReason


@dataclass(frozen=True, slots=True, eq=False)
class InputMatch:
    """An affine that can be folded into the layer after it; `slot` is where its data comes in."""

    rewrite: LayerRewrite
    affine: ChannelAffine
    slot: int


def _layer_after(scope: GraphIndex, name: str, layers: Layers) -> tuple[LayerRewrite, Frame] | None:
    """The layer a value goes into through layout operators only, and the value's channel axis."""
    path: list[NodeProto] = []
    while True:
        use = scope.only_use(name)
        if use is None or use.node is None or use.scope is not scope:
            return None
        rewrite = layers.by_node.get(id(use.node))
        if rewrite is not None:
            return (rewrite, _frame_before(rewrite, path)) if use.slot == rewrite.layer.data_slot else None
        if not moves_only(scope, use.node):
            return None
        path.append(use.node)
        name = use.node.output[0]


def _frame_before(rewrite: LayerRewrite, path: list[NodeProto]) -> Frame:
    layer = rewrite.layer
    axis, rank = layer.data_axis_from_end, layer.rank if layer.operator != "MatMul" else None
    for node in reversed(path):
        if is_op(node, "Transpose"):
            perm = read.perm(node, rank or 0) or ()
            rank = len(perm)
            axis = rank - perm[rank - axis] if 0 < axis <= rank else rank + 1
    return Frame(axis, rank, layer.inputs)


def examine(scope: GraphIndex, node: NodeProto, layers: Layers) -> InputMatch | Skipped | None:
    """Whether the affine folds into the layer after it; None where no layer follows it directly."""
    slot = data_slot(scope, node)
    assert slot is not None
    after = _layer_after(scope, node.output[0], layers)
    if after is None:
        return None
    rewrite, frame = after
    rank = frame.rank if frame.rank is not None else scope.ranks.of(node.input[slot])
    found = recognise(scope, node, Frame(frame.axis_from_end, rank, frame.channels))
    if isinstance(found, Skipped):
        return found
    axis = None if rank is None else rank - frame.axis_from_end
    channels = None if axis is None else scope.ranks.size(node.input[slot], axis)
    misfit = _misfit(node, found, channels, frame)
    if misfit is not None:
        return misfit
    if found.blocked is not None:
        return found.blocked
    if _adds_dimension(scope, node, slot, frame.rank):
        return Skipped(SkipReason.NOT_PER_CHANNEL, "its input is not known to have the layer's dimensions")
    refusal = rewrite.refuses_input(found.affine)
    if refusal is not None:
        return refusal
    return InputMatch(rewrite, found.affine, slot)


def _misfit(node: NodeProto, found: Affine, channels: int | None, frame: Frame) -> Skipped | None:
    """Why data of so many channels (None: unknown) may not be what the layer reads; None where it is.

    Where the affine has a number for each channel, another operator than BatchNormalization repeats a single channel.
    """
    if is_op(node, "BatchNormalization"):
        if channels is None or frame.channels is None or channels == frame.channels:
            return None
        return Skipped(SkipReason.WRONG_LENGTH, f"its input has {channels} channels, the layer reads {frame.channels}")
    if len(found.affine.scale) > 1 and channels != frame.channels:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "its input is not known to have the layer's channels")
    return None


def _adds_dimension(scope: GraphIndex, node: NodeProto, slot: int, rank: int | None) -> bool:
    """Whether the operand may give the result, of `rank` dimensions (None: 1 or more), more than the data has."""
    operand = None if is_op(node, "BatchNormalization") else scope.constant(node.input[1 - slot])
    if operand is None:
        return False
    known = scope.ranks.of(node.input[slot])
    return operand.ndim >= (rank or 1) if known is None else operand.ndim > known


def apply(edit: GraphEdit, scope: GraphIndex, node: NodeProto, match: InputMatch) -> None:
    """Fold on paper and take the affine node out."""
    match.rewrite.absorb_input(match.affine)
    match.rewrite.folded.insert(0, node.name or identity(node))
    edit.skip(scope, node, match.slot)


def fold_scope(edit: GraphEdit, scope: GraphIndex, layers: Layers, left: Left) -> Left:
    """Fold what the fold into earlier layers left, from the back; what still stays, with the reason."""
    still = dict(left)
    for node in reversed(scope.nodes):
        if id(node) not in left:
            continue
        found = examine(scope, node, layers)
        if isinstance(found, InputMatch):
            apply(edit, scope, node, found)
            del still[id(node)]
        elif found is not None:
            still[id(node)] = (node, found)
    return still
