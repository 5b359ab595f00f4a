"""Operators that move entries and compute none, on arrays: shapes, axes, parts and joins."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from onnx_clp.operators import read
from onnx_clp.operators.arrays import Array, Inputs, NotConstantError, fit, given, ints, need


def _stated(node: NodeProto, inputs: Inputs, part: read.IntList) -> tuple[int, ...]:
    found = part.of(node, given(node, inputs))
    if found is None:
        raise NotConstantError(f"its {part.name} are missing")
    return found


def reshape(node: NodeProto, inputs: Inputs) -> Array:
    """Reshape (opset 1 to 25)."""
    value = need(inputs, 0)
    shape = list(_stated(node, inputs, read.SHAPE))
    if not read.zero_is_a_size(node):
        shape = [value.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return value.reshape(shape)


def transpose(node: NodeProto, inputs: Inputs) -> Array:
    """Transpose (opset 1 to 25)."""
    return need(inputs, 0).transpose(read.perm(node, None))


def unsqueeze(node: NodeProto, inputs: Inputs) -> Array:
    """Unsqueeze (opset 1 to 25)."""
    return np.expand_dims(need(inputs, 0), _stated(node, inputs, read.AXES))


def squeeze(node: NodeProto, inputs: Inputs) -> Array:
    """Squeeze (opset 1 to 25)."""
    return np.squeeze(need(inputs, 0), read.AXES.of(node, given(node, inputs)))


def flatten(node: NodeProto, inputs: Inputs) -> Array:
    """Flatten (opset 1 to 25)."""
    value, axis = need(inputs, 0), read.axis(node)
    axis += value.ndim if axis < 0 else 0
    return value.reshape(int(np.prod(value.shape[:axis], dtype=np.int64)), -1)


def shape(node: NodeProto, inputs: Inputs) -> Array:
    """Shape (opset 1 to 25)."""
    shape = need(inputs, 0).shape
    return np.asarray(shape[read.shape_part(node, len(shape))], dtype=np.int64)


def expand(_node: NodeProto, inputs: Inputs) -> Array:
    """Expand (opset 8 to 13), as a view that repeats."""
    value = need(inputs, 0)
    shape = np.broadcast_shapes(value.shape, tuple(ints(need(inputs, 1))))
    fit(shape, value.dtype)
    return np.broadcast_to(value, shape)  # no copy: stride 0


def concat(node: NodeProto, inputs: Inputs) -> Array:
    """Concat (opset 1 to 13)."""
    values = [need(inputs, i) for i in range(len(inputs))]
    fit([sum(v.size for v in values)], values[0].dtype)
    return np.concatenate(values, axis=read.axis(node))


def gather(node: NodeProto, inputs: Inputs) -> Array:
    """Gather (opset 1 to 13)."""
    value, indices, axis = need(inputs, 0), need(inputs, 1), read.axis(node)
    fit([value.size // max(value.shape[axis], 1), indices.size], value.dtype)
    return np.asarray(np.take(value, indices, axis=axis))


def slice_(node: NodeProto, inputs: Inputs) -> Array:
    """Slice (opset 1 to 13)."""
    value = need(inputs, 0)
    starts, ends = (_stated(node, inputs, part) for part in (read.STARTS, read.ENDS))
    axes, steps = (part.of(node, given(node, inputs)) for part in (read.AXES, read.STEPS))
    cut = [slice(None)] * value.ndim
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        step = 1 if steps is None else steps[i]
        end = None if step < 0 and ends[i] < -value.shape[axis] else ends[i]
        if step < 0 and (starts[i] < -value.shape[axis] or ends[i] == np.iinfo(np.int64).max):
            raise NotConstantError("onnx.reference and ONNX Runtime disagree on it")
        cut[axis] = slice(starts[i], end, step)
    return value[tuple(cut)]
