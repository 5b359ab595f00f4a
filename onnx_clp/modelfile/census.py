"""How large a model is: nodes, parameters and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx import FunctionProto, GraphProto, ModelProto

from onnx_clp.modelfile.reader import every_tensor
from onnx_clp.operators.nodes import subgraphs


@dataclass(frozen=True, slots=True)
class Census:
    """Nodes, those of nested graphs and local functions counted once each, and stored numbers."""

    nodes: int
    parameters: int


def take(model: ModelProto) -> Census:
    """Count a model; weights need not be in it, their shapes do."""
    nodes = 0
    pending: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while pending:
        for node in pending.pop().node:
            nodes += 1
            pending += [graph for _, graph in subgraphs(node)]
    return Census(nodes, sum(math.prod(tensor.dims) for tensor in every_tensor(model)))
