"""A model in half precision as the same one in single precision, which is what searches compute in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from onnx_clp.cap.bound_directions import Site
from onnx_clp.operators import read
from onnx_clp.operators.nodes import is_op, set_attribute

HALVES: Final = frozenset((TensorProto.FLOAT16, TensorProto.BFLOAT16))


def widen(model: ModelProto) -> None:
    """Turn float16 and bfloat16 into float32 everywhere, in place: weights, constants, casts, inputs and outputs.

    What a node computes in half precision it then computes in single precision, so answers differ by its rounding.
    """
    _widen_graph(model.graph)
    for function in model.functions:
        _widen_nodes(function.node)
        _widen_values(function.value_info)


def in_single(site: Site) -> Site:
    """The site as it is in a model that was widened."""
    return replace(site, data_type=TensorProto.FLOAT) if site.data_type in HALVES else site


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    _widen_values([*graph.input, *graph.output, *graph.value_info])
    _widen_nodes(graph.node)


def _widen_values(values: Iterable[ValueInfoProto]) -> None:
    for value in values:
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        if is_op(node, "Cast") and read.cast_type(node) in HALVES:
            set_attribute(node, "to", TensorProto.FLOAT)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _widen_graph(attribute.g)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in HALVES:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
