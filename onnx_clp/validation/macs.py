"""Multiply-accumulates of a model's linear operators, from the shapes that ONNX's own inference finds.

Counted by the operators' definitions (ONNX operator specifications), for one run on inputs of given shapes:

    Conv           every output entry sums over the kernel's c_in/groups · prod(kernel) entries
    ConvTranspose  every input entry is spread over c_out/groups · prod(kernel) entries
    Gemm, MatMul   every output entry sums over the inner axis

The integer forms count like the float ones; biases, activations and everything else count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from onnx import GraphProto, ModelProto, NodeProto, TypeProto, inliner, shape_inference

from onnx_clp.operators import read
from onnx_clp.operators.nodes import subgraphs
from onnx_clp.operators.table import is_a, weight_slot
from onnx_clp.operators.traits import Kind
from onnx_clp.validation.anatomy import read_skeleton

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def inferred(path: Path, fed: Shapes) -> ModelProto | None:
    """The model at `path` with all shapes inferred on inputs of the shapes `fed`; None where onnx refuses it."""
    try:
        return _inferred(read_skeleton(path), fed)
    except MemoryError:
        raise
    except Exception:  # whatever onnx's C++ side says of a model it does not understand
        return None


def count(path: Path, fed: Shapes) -> int | None:
    """Multiply-accumulates of the model at `path` on inputs of the shapes `fed`, by input name; None as in `total`."""
    model = inferred(path, fed)
    return None if model is None else total(model)


def total(model: ModelProto) -> int | None:
    """Multiply-accumulates of a model whose shapes were inferred.

    Returns:
        None where they cannot be known: a shape stays open, an operator that accumulates in another way or from
        outside ONNX's own set is there, or a linear operator stands in a branch or a loop.
    """
    shapes = known_shapes(model.graph)
    counted = 0
    for node in model.graph.node:
        found = _count_node(node, shapes)
        if found is None:
            return None
        counted += found
    return counted


def _inferred(model: ModelProto, fed: Shapes) -> ModelProto:
    """The model without local functions, with the inputs' sizes fixed and the shapes of all values inferred."""
    for value in model.graph.input:
        if value.name in fed:
            del value.type.tensor_type.shape.dim[:]
            for size in fed[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
    del model.graph.value_info[:]  # recorded for another size, or by mistake
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    if model.functions:
        model = inliner.inline_local_functions(model)
    return shape_inference.infer_shapes(model, data_prop=True)


def known_shapes(graph: GraphProto) -> dict[str, Shape]:
    """The shapes of all values of a graph that are known."""
    return dict(_named_shapes(graph))


def _named_shapes(graph: GraphProto) -> Iterator[tuple[str, Shape]]:
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = _fixed(value.type)
        if shape is not None:
            yield value.name, shape


def _fixed(kind: TypeProto) -> Shape | None:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _count_node(node: NodeProto, shapes: Shapes) -> int | None:
    """Multiply-accumulates of one node; 0 for one that has none, None where they are unknown."""
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml") or _accumulates_otherwise(node):
        return None
    if any(_multiplies(inner) for _, graph in subgraphs(node) for inner in _nodes(graph)):
        return None
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain == "ai.onnx.ml":
        return 0
    data, weight = (shapes.get(node.input[slot]) for slot in (0, weight_slot(node)))
    result = shapes.get(node.output[0])
    if data is None or weight is None or result is None:
        return None
    return rule(node, data, weight, result)


def _accumulates_otherwise(node: NodeProto) -> bool:
    """Whether it multiplies and accumulates in a way that is not counted here."""
    return is_a(node, Kind.LINEAR, Kind.RECURRENT, Kind.ATTEND) and node.op_type not in _RULES


def _multiplies(node: NodeProto) -> bool:
    return node.op_type in _RULES or _accumulates_otherwise(node) or node.domain not in ("", "ai.onnx", "ai.onnx.ml")


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            yield node
            pending += [inner for _, inner in subgraphs(node)]


def _conv(_node: NodeProto, _data: Shape, weight: Shape, result: Shape) -> int:
    return math.prod(result) * math.prod(weight[1:])


def _conv_transpose(_node: NodeProto, data: Shape, weight: Shape, _result: Shape) -> int:
    return math.prod(data) * math.prod(weight[1:])


def _gemm(node: NodeProto, data: Shape, _weight: Shape, result: Shape) -> int:
    return math.prod(result) * data[0 if read.transposed(node)[0] else 1]


def _matmul(_node: NodeProto, data: Shape, _weight: Shape, result: Shape) -> int:
    return math.prod(result) * data[-1]


_RULES: Final[dict[str, Callable[[NodeProto, Shape, Shape, Shape], int]]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}
