"""Evaluate nodes whose inputs are all constant, the way exporters leave weights to be computed in the graph.

One small function an operator (ONNX operator specifications, opset 1 to 26; behaviour that no exporter uses on
weights is left out). Every function gives an array or raises; nothing here allocates more than
`MAX_BYTES` however a hostile graph broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.file.store import numpy_dtype
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.grids import Grid
from onnx_clp.operators.nodes import attribute, is_op, text_attribute

Array = NDArray[Any]
Inputs = Sequence["Array | None"]
Rule = Callable[[NodeProto, Inputs], Array]

MAX_BYTES: Final = 1 << 29


class NotConstantError(Exception):
    """The node cannot be evaluated: missing input, unknown attribute, or a result too large."""


def _need(inputs: Inputs, slot: int) -> Array:
    value = inputs[slot] if slot < len(inputs) else None
    if value is None:
        raise NotConstantError(f"input {slot} is missing")
    return value


def _fit(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    if int(np.prod([int(d) for d in shape], dtype=object)) * dtype.itemsize > MAX_BYTES:
        raise NotConstantError(f"a result of shape {tuple(shape)} is too large to evaluate")


def _ints(value: Array) -> list[int]:
    return [int(v) for v in value.reshape(-1)]


def _axes(node: NodeProto, inputs: Inputs) -> list[int] | None:
    """Axes as attribute (opset < 13) or as second input."""
    listed = attribute(node, "axes")
    if listed is not None:
        return [int(a) for a in listed]
    return None if len(inputs) < 2 or inputs[1] is None else _ints(inputs[1])


def _elementwise(function: Callable[..., Array]) -> Rule:
    def rule(node: NodeProto, inputs: Inputs) -> Array:
        if attribute(node, "axis") is not None or attribute(node, "broadcast") is not None:
            raise NotConstantError("broadcasting of opset 6 and below")
        values = [_need(inputs, i) for i in range(len(inputs))]
        widest = max((v.dtype for v in values), key=lambda dtype: dtype.itemsize)
        _fit(np.broadcast_shapes(*(v.shape for v in values)), widest)
        return np.asarray(function(*values))

    return rule


def _same_type(function: Callable[[Array], Array]) -> Rule:
    def rule(_node: NodeProto, inputs: Inputs) -> Array:
        value = _need(inputs, 0)
        return np.asarray(function(value)).astype(value.dtype, copy=False)

    return rule


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        return np.asarray(np.trunc(np.divide(a, b))).astype(a.dtype)
    return np.asarray(np.divide(a, b))


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a, b.astype(a.dtype))).astype(a.dtype)


def _reshape(node: NodeProto, inputs: Inputs) -> Array:
    value = _need(inputs, 0)
    listed = attribute(node, "shape")
    shape = [int(d) for d in listed] if listed is not None else _ints(_need(inputs, 1))
    if not attribute(node, "allowzero", 0):
        shape = [value.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return value.reshape(shape)


def _transpose(node: NodeProto, inputs: Inputs) -> Array:
    return _need(inputs, 0).transpose(attribute(node, "perm"))


def _unsqueeze(node: NodeProto, inputs: Inputs) -> Array:
    axes = _axes(node, inputs)
    if axes is None:
        raise NotConstantError("axes are missing")
    return np.expand_dims(_need(inputs, 0), tuple(axes))


def _squeeze(node: NodeProto, inputs: Inputs) -> Array:
    axes = _axes(node, inputs)
    return np.squeeze(_need(inputs, 0), None if axes is None else tuple(axes))


def _flatten(node: NodeProto, inputs: Inputs) -> Array:
    value, axis = _need(inputs, 0), int(attribute(node, "axis", 1))
    axis += value.ndim if axis < 0 else 0
    return value.reshape(int(np.prod(value.shape[:axis], dtype=np.int64)), -1)


def _cast(node: NodeProto, inputs: Inputs) -> Array:
    value, dtype = _need(inputs, 0), numpy_dtype(int(attribute(node, "to")))
    _fit(value.shape, dtype)
    return value.astype(dtype)


def _cast_like(_node: NodeProto, inputs: Inputs) -> Array:
    return _need(inputs, 0).astype(_need(inputs, 1).dtype)


def _shape(node: NodeProto, inputs: Inputs) -> Array:
    shape = _need(inputs, 0).shape
    return np.asarray(shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))], dtype=np.int64)


def _expand(_node: NodeProto, inputs: Inputs) -> Array:
    value = _need(inputs, 0)
    shape = np.broadcast_shapes(value.shape, tuple(_ints(_need(inputs, 1))))
    _fit(shape, value.dtype)
    return np.broadcast_to(value, shape)  # no copy: stride 0


def _constant_of_shape(node: NodeProto, inputs: Inputs) -> Array:
    from onnx import numpy_helper

    tensor = attribute(node, "value")
    if tensor is not None and tensor.data_location:
        raise NotConstantError("the fill value lies outside the file")
    fill = np.zeros(1, np.float32) if tensor is None else numpy_helper.to_array(tensor)
    shape = _ints(_need(inputs, 0))
    _fit(shape, fill.dtype)
    return np.broadcast_to(fill.reshape(()), shape)


def _concat(node: NodeProto, inputs: Inputs) -> Array:
    values = [_need(inputs, i) for i in range(len(inputs))]
    _fit([sum(v.size for v in values)], values[0].dtype)
    return np.concatenate(values, axis=int(attribute(node, "axis", 1)))


def _reduce(function: Callable[..., Array]) -> Rule:
    """ReduceSum and the like (ONNX opset 1 to 18), added up in float64 where the type is a floating-point one."""

    def rule(node: NodeProto, inputs: Inputs) -> Array:
        value, axes = _need(inputs, 0), _axes(node, inputs)
        if not axes and attribute(node, "noop_with_empty_axes", 0):
            raise NotConstantError("no axes, and none meant")
        whole = tuple(axes) if axes else None
        wide = value if value.dtype.kind in "iu" else as_float64(value)
        out = function(wide, axis=whole, keepdims=bool(attribute(node, "keepdims", 1)))
        return np.asarray(out).astype(value.dtype)

    return rule


def _matmul(_node: NodeProto, inputs: Inputs) -> Array:
    a, b = _need(inputs, 0), _need(inputs, 1)
    _fit([a.size // max(a.shape[-1], 1), b.size // max(b.shape[0 if b.ndim == 1 else -2], 1)], a.dtype)
    if a.dtype.kind in "iu":
        raise NotConstantError("a product of integers")
    return np.asarray(np.matmul(as_float64(a), as_float64(b))).astype(a.dtype)


def _gather(node: NodeProto, inputs: Inputs) -> Array:
    value, indices, axis = _need(inputs, 0), _need(inputs, 1), int(attribute(node, "axis", 0))
    _fit([value.size // max(value.shape[axis], 1), indices.size], value.dtype)
    return np.asarray(np.take(value, indices, axis=axis))


def _slice(node: NodeProto, inputs: Inputs) -> Array:
    value = _need(inputs, 0)
    if attribute(node, "starts") is not None:
        starts, ends = list(attribute(node, "starts")), list(attribute(node, "ends"))
        axes, steps = attribute(node, "axes"), None
    else:
        starts, ends = _ints(_need(inputs, 1)), _ints(_need(inputs, 2))
        axes = _ints(_need(inputs, 3)) if len(inputs) > 3 and inputs[3] is not None else None
        steps = _ints(_need(inputs, 4)) if len(inputs) > 4 and inputs[4] is not None else None
    cut = [slice(None)] * value.ndim
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        step = 1 if steps is None else steps[i]
        end = None if step < 0 and ends[i] < -value.shape[axis] else ends[i]
        if step < 0 and (starts[i] < -value.shape[axis] or ends[i] == np.iinfo(np.int64).max):
            raise NotConstantError("onnx.reference and ONNX Runtime disagree on it")
        cut[axis] = slice(starts[i], end, step)
    return value[tuple(cut)]


def _clip(node: NodeProto, inputs: Inputs) -> Array:
    value = _need(inputs, 0)
    low = inputs[1] if len(inputs) > 1 else attribute(node, "min")
    high = inputs[2] if len(inputs) > 2 else attribute(node, "max")
    if low is not None:
        value = np.maximum(value, np.asarray(low, value.dtype))
    return value if high is None else np.minimum(value, np.asarray(high, value.dtype))


def _grid(node: NodeProto, inputs: Inputs) -> Grid:
    axis, block = int(attribute(node, "axis", 1)), int(attribute(node, "block_size", 0))
    return Grid(_need(inputs, 1), inputs[2] if len(inputs) > 2 else None, axis, block)


def _dequantize(node: NodeProto, inputs: Inputs) -> Array:
    value, grid = _need(inputs, 0), _grid(node, inputs)
    _fit(value.shape, np.dtype(np.float64))
    to = int(attribute(node, "output_dtype", 0))
    return grid.dequantized(value).astype(numpy_dtype(to) if to else grid.scale.dtype)


def _quantize(node: NodeProto, inputs: Inputs) -> Array:
    value, grid = _need(inputs, 0), _grid(node, inputs)
    _fit(value.shape, np.dtype(np.float64))
    to = int(attribute(node, "output_dtype", 0))
    dtype = grid.zero.dtype if grid.zero is not None else numpy_dtype(to) if to else np.dtype(np.uint8)
    if "int" not in dtype.name:
        raise NotConstantError(f"quantised to {dtype}")
    return grid.quantized(value, dtype)


def _dropout(node: NodeProto, inputs: Inputs) -> Array:
    if len(inputs) > 2 and inputs[2] is not None and bool(inputs[2]):
        raise NotConstantError("dropout in training mode")
    return _need(inputs, 0)


RULES: Final[dict[str, Rule]] = {
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
    "Identity": lambda _, inputs: _need(inputs, 0),
    "Dropout": _dropout,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": _flatten,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Shape": _shape,
    "Size": lambda _, inputs: np.asarray(_need(inputs, 0).size, dtype=np.int64),
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Concat": _concat,
    "Gather": _gather,
    "MatMul": _matmul,
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceProd": _reduce(np.prod),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceSumSquare": _reduce(lambda v, **how: np.sum(np.square(v), **how)),
    "ReduceL1": _reduce(lambda v, **how: np.sum(np.abs(v), **how)),
    "ReduceL2": _reduce(lambda v, **how: np.sqrt(np.sum(np.square(v), **how))),
    "Slice": _slice,
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}


def can_evaluate(node: NodeProto) -> bool:
    """Whether there is a rule for the node's operator."""
    return is_op(node, *RULES)


def evaluate(node: NodeProto, inputs: Inputs) -> Array | None:
    """The node's first output, or None where the rule cannot give it."""
    try:
        with np.errstate(all="ignore"):
            return RULES[node.op_type](node, inputs)
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
