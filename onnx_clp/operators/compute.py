"""Evaluate nodes whose inputs are all constant, the way exporters leave weights to be computed in the graph.

One small function an operator (ONNX operator specifications, opset 1 to 26; behaviour that no exporter uses on
weights is left out). Every function gives an array or raises; nothing here allocates more than
`MAX_BYTES` however a hostile graph broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from onnx import NodeProto

from onnx_clp.file.store import numpy_dtype
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import layout, read
from onnx_clp.operators.arrays import Array, Inputs, NotConstantError, Rule, fit, given, ints, need
from onnx_clp.operators.grids import Grid, level_type
from onnx_clp.operators.nodes import attribute, is_op, text_attribute


def _elementwise(function: Callable[..., Array]) -> Rule:
    def rule(node: NodeProto, inputs: Inputs) -> Array:
        """A function of entries that broadcast as NumPy's do; of opset 7 and up."""
        if read.old_broadcast(node) != (False, None):
            raise NotConstantError("broadcasting of opset 6 and below")
        values = [need(inputs, i) for i in range(len(inputs))]
        widest = max((v.dtype for v in values), key=lambda dtype: dtype.itemsize)
        fit(np.broadcast_shapes(*(v.shape for v in values)), widest)
        return np.asarray(function(*values))

    return rule


def _same_type(function: Callable[[Array], Array]) -> Rule:
    def rule(_node: NodeProto, inputs: Inputs) -> Array:
        """A function of each entry, in the type of the input."""
        value = need(inputs, 0)
        return np.asarray(function(value)).astype(value.dtype, copy=False)

    return rule


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        return np.asarray(np.trunc(np.divide(a, b))).astype(a.dtype)
    return np.asarray(np.divide(a, b))


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a, b.astype(a.dtype))).astype(a.dtype)


def _cast(node: NodeProto, inputs: Inputs) -> Array:
    value, dtype = need(inputs, 0), numpy_dtype(read.cast_type(node) or 0)
    fit(value.shape, dtype)
    return value.astype(dtype)


def _cast_like(_node: NodeProto, inputs: Inputs) -> Array:
    return need(inputs, 0).astype(need(inputs, 1).dtype)


def _constant_of_shape(node: NodeProto, inputs: Inputs) -> Array:
    from onnx import numpy_helper

    tensor = attribute(node, "value")
    if tensor is not None and tensor.data_location:
        raise NotConstantError("the fill value lies outside the file")
    fill = np.zeros(1, np.float32) if tensor is None else numpy_helper.to_array(tensor)
    shape = ints(need(inputs, 0))
    fit(shape, fill.dtype)
    return np.broadcast_to(fill.reshape(()), shape)


def _reduce(function: Callable[..., Array]) -> Rule:
    def rule(node: NodeProto, inputs: Inputs) -> Array:
        """ReduceSum and the like (ONNX opset 1 to 18), added up in float64 where the type is a floating-point one."""
        value, axes = need(inputs, 0), read.AXES.of(node, given(node, inputs))
        if not axes and read.idle_without_axes(node):
            raise NotConstantError("no axes, and none meant")
        wide = value if value.dtype.kind in "iu" else as_float64(value)
        out = function(wide, axis=axes or None, keepdims=read.keeps_dims(node))
        return np.asarray(out).astype(value.dtype)

    return rule


def _matmul(_node: NodeProto, inputs: Inputs) -> Array:
    a, b = need(inputs, 0), need(inputs, 1)
    fit([a.size // max(a.shape[-1], 1), b.size // max(b.shape[0 if b.ndim == 1 else -2], 1)], a.dtype)
    if a.dtype.kind in "iu":
        raise NotConstantError("a product of integers")
    return np.asarray(np.matmul(as_float64(a), as_float64(b))).astype(a.dtype)


def _clip(node: NodeProto, inputs: Inputs) -> Array:
    value = need(inputs, 0)
    low, high = (limit.of(node, given(node, inputs)) for limit in (read.LOW, read.HIGH))
    if low is not None:
        value = np.maximum(value, np.asarray(low, value.dtype))
    return value if high is None else np.minimum(value, np.asarray(high, value.dtype))


def _grid(node: NodeProto, inputs: Inputs) -> Grid:
    zero = inputs[2] if len(inputs) > 2 else None
    return Grid(need(inputs, 1), zero, read.axis(node), read.quantized_block(node))


def _dequantize(node: NodeProto, inputs: Inputs) -> Array:
    value, grid = need(inputs, 0), _grid(node, inputs)
    fit(value.shape, np.dtype(np.float64))
    to = read.quantized_type(node)
    return grid.dequantized(value).astype(numpy_dtype(to) if to else grid.scale.dtype)


def _quantize(node: NodeProto, inputs: Inputs) -> Array:
    value, grid = need(inputs, 0), _grid(node, inputs)
    fit(value.shape, np.dtype(np.float64))
    dtype = level_type(node, grid.zero)
    if "int" not in dtype.name:
        raise NotConstantError(f"quantised to {dtype}")
    return grid.quantized(value, dtype)


def _dropout(node: NodeProto, inputs: Inputs) -> Array:
    if len(inputs) > 2 and inputs[2] is not None and bool(inputs[2]):
        raise NotConstantError("dropout in training mode")
    return need(inputs, 0)


EVALUATORS: Final[dict[str, Rule]] = {
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divide),
    "Pow": _elementwise(_power),
    "Max": _elementwise(lambda *v: np.maximum.reduce(np.broadcast_arrays(*v))),
    "Min": _elementwise(lambda *v: np.minimum.reduce(np.broadcast_arrays(*v))),
    "Where": _elementwise(np.where),
    "Equal": _elementwise(np.equal),
    "Greater": _elementwise(np.greater),
    "Less": _elementwise(np.less),
    "Not": _elementwise(np.logical_not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Neg": _same_type(np.negative),
    "Abs": _same_type(np.abs),
    "Sqrt": _same_type(np.sqrt),
    "Exp": _same_type(np.exp),
    "Log": _same_type(np.log),
    "Floor": _same_type(np.floor),
    "Ceil": _same_type(np.ceil),
    "Round": _same_type(np.rint),
    "Reciprocal": _same_type(lambda v: np.divide(np.asarray(1, v.dtype), v)),
    "Sign": _same_type(np.sign),
    "Identity": lambda _, inputs: need(inputs, 0),
    "Dropout": _dropout,
    "Reshape": layout.reshape,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
    "Squeeze": layout.squeeze,
    "Flatten": layout.flatten,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Shape": layout.shape,
    "Size": lambda _, inputs: np.asarray(need(inputs, 0).size, dtype=np.int64),
    "Expand": layout.expand,
    "ConstantOfShape": _constant_of_shape,
    "Concat": layout.concat,
    "Gather": layout.gather,
    "MatMul": _matmul,
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceProd": _reduce(np.prod),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceSumSquare": _reduce(lambda v, **how: np.sum(np.square(v), **how)),
    "ReduceL1": _reduce(lambda v, **how: np.sum(np.abs(v), **how)),
    "ReduceL2": _reduce(lambda v, **how: np.sqrt(np.sum(np.square(v), **how))),
    "Slice": layout.slice_,
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}


def can_evaluate(node: NodeProto) -> bool:
    """Whether there is a rule for the node's operator."""
    return is_op(node, *EVALUATORS)


def evaluate(node: NodeProto, inputs: Inputs) -> Array | None:
    """The node's first output, or None where the rule cannot give it."""
    try:
        with np.errstate(all="ignore"):
            return EVALUATORS[node.op_type](node, inputs)
    except (NotConstantError, ValueError, IndexError, TypeError, KeyError, OverflowError, MemoryError):
        return None


def constant_attribute(node: NodeProto) -> Any:
    """A Constant node's value as an array, a TensorProto or a SparseTensorProto; None for anything else."""
    if len(node.attribute) != 1:
        return None
    item = node.attribute[0]
    value = attribute(node, item.name)
    match item.name:
        case "value" | "sparse_value":
            return value
        case "value_float" | "value_floats":
            return np.asarray(value, dtype=np.float32)
        case "value_int" | "value_ints":
            return np.asarray(value, dtype=np.int64)
        case "value_string":
            return np.asarray(text_attribute(node, "value_string", ""), dtype=object)
        case _:
            return None
