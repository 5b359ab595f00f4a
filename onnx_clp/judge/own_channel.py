"""Operators that make each channel from that channel alone, and normalisations that are written out in several.

Both are read in ONNX's layout, channels on axis 1: in another layout a reduction counts as one that mixes channels.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators import read
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

_SUMS: Final = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_MEANS: Final = (Kind.GLOBAL_POOL, Kind.REDUCE)
# What stands between a value and its own mean or size.
_INSIDE: Final = (*_MEANS, Kind.JOINT, Kind.POINTWISE, Kind.RETYPE, Kind.LAYOUT)
_FARTHEST: Final = 16
_RANK: Final = 4
"""What negative axes count from: convolutions of images."""


def keeps_channels(scope: GraphIndex, node: NodeProto, known: Container[str]) -> bool:
    """Whether an operator that adds values up makes each channel of what it gives from that channel of `known` values.

    TopK, MaxUnpool and Einsum of one operand count: they move values, or add up some.
    """
    if is_op(node, "Sum", "Mean"):
        return all(name in known for name in node.input)
    if is_op(node, *_SUMS):
        return _spares_channels(scope, node)
    return is_op(node, "TopK", "MaxUnpool") or (is_op(node, "Einsum") and len(node.input) == 1)


def _spares_channels(scope: GraphIndex, node: NodeProto) -> bool:
    axes = read.AXES.of(node, scope.constant)
    return axes is not None and not {0, 1} & {int(axis) % _RANK for axis in axes}


def passes_size(scope: GraphIndex, node: NodeProto, known: Container[str]) -> bool:
    """Whether each channel that a node gives depends on that channel of the `known` values, and constants, alone.

    Elementwise operators with several operands, depthwise convolutions and `keeps_channels`.
    """
    if is_op(node, "Conv"):
        return node.input[0] in known and _is_depthwise(scope, node)
    if is_a(node, Kind.JOINT):
        return all(name in known or scope.is_constant(name) for name in node.input)
    return node.input[0] in known and keeps_channels(scope, node, known)


def _is_depthwise(scope: GraphIndex, node: NodeProto) -> bool:
    stored = scope.stored(node.input[1])
    weight = None if stored is not None else scope.constant(node.input[1])
    shape = stored.dims if stored is not None else () if weight is None else weight.shape
    return len(shape) > 1 and shape[1] == 1 and read.groups(node) == shape[0] > 1


def is_own_mean(scope: GraphIndex, name: str, known: Container[str]) -> bool:
    """Whether a value is a mean, a sum or a maximum of `known` values, or computed from one in a few elementwise steps.

    Taken from the values, or divided by, it makes a normalisation that is written out: what a silent channel becomes
    then depends on the others, or is 0 / 0.
    """
    waiting, seen, reduces = [name], {name}, False
    reached = False
    while waiting and len(seen) <= _FARTHEST:
        node = scope.producer(waiting.pop())
        if node is None or not is_a(node, *_INSIDE):
            continue
        reduces = reduces or is_a(node, *_MEANS)
        reached = reached or any(used in known for used in node.input)
        fresh = [used for used in node.input if used and used not in seen and used not in known]
        seen.update(fresh)
        waiting += fresh
    return reduces and reached
