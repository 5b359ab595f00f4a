"""The number of dimensions of a value that a linear layer makes."""

from __future__ import annotations

from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import input_name, is_op


def rank_of(scope: GraphIndex, maker: NodeProto, value: str) -> int | None:
    """What the graph says, else the rank of the kernel, which a convolution keeps; None where neither is known."""
    rank = scope.ranks.of(value)
    if rank is None and is_op(maker, "Conv", "ConvTranspose"):
        weight = scope.constant(input_name(maker, 1))
        return None if weight is None else weight.ndim
    return rank
