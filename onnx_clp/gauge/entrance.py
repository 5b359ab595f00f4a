"""What the first operators of a model do to its input: quantise it, or normalise it."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_clp.fold.affine_forms import RECOGNISERS
from onnx_clp.operators.nodes import input_name, is_op
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait

_LIMITS: dict[int, tuple[int, int]] = {TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127)}


def range_at(model: ModelProto, name: str) -> tuple[float, float] | None:
    """The smallest and largest value that a QuantizeLinear reading `name` holds, per tensor; None without one.

    Initializers that were left out of the file's skeleton do not count: scales and zero points are small.
    """
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if not is_op(node, "QuantizeLinear") or name not in node.input[:1]:
            continue
        scale, zero = held.get(input_name(node, 1)), held.get(input_name(node, 2))
        if scale is None or zero is None or zero.data_type not in _LIMITS:
            continue
        step, origin = (numpy_helper.to_array(one).astype(np.float64).reshape(-1) for one in (scale, zero))
        if step.size == 1 and origin.size == 1:
            least, most = _LIMITS[zero.data_type]
            return float((least - origin[0]) * step[0]), float((most - origin[0]) * step[0])
    return None


def normalises(model: ModelProto, name: str) -> bool:
    """Whether what reads `name` shifts or scales it by a constant, so that it comes in plain pixel values."""
    held = {tensor.name for tensor in model.graph.initializer}
    held |= {out for node in model.graph.node if is_op(node, "Constant") for out in node.output}
    for node in model.graph.node:
        if name in node.input:
            if is_op(node, *RECOGNISERS):
                return any(other in held for other in node.input if other != name)
            if keeps(node, Trait.MOVES) or is_a(node, Kind.RETYPE):
                name = node.output[0]
    return False
