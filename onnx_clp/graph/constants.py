"""Evaluate a constant through the nodes that compute it, without recursion and within a memory budget.

A few bytes can ask for gigabytes (ConstantOfShape, Expand). So what the graph computes is held to the size of the file
it comes in: `TensorStore.has_room`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import SparseTensorProto, TensorProto

from onnx_clp.file.store import TensorStore, numpy_dtype
from onnx_clp.graph.scope import Scope
from onnx_clp.operators import arrays, compute
from onnx_clp.operators.nodes import is_op

Array = NDArray[Any]
Memo = dict[tuple[int, str], "Array | None"]

_CACHE_BELOW: Final = 1 << 20
_COPY_BELOW: Final = 1 << 14


def value_of(scope: Scope, wanted: str) -> Array | None:
    """The value of a constant that `scope` defines; None where it cannot be evaluated, or takes too much memory."""
    memo: Memo = {}
    stack: list[tuple[Scope, str]] = [(scope, wanted)]
    while stack:
        home, name = stack[-1]
        inputs = dict.fromkeys(_inputs_of(home, name))
        missing = [(at, used) for at, used in inputs if (id(at), used) not in memo]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        if (id(home), name) not in memo:
            memo[id(home), name] = _value(home, name, memo)
    return memo.get((id(scope), wanted))


def _inputs_of(scope: Scope, name: str) -> list[tuple[Scope, str]]:
    node = scope.producers.get(name)
    if name in scope.known_values or node is None or is_op(node, "Constant"):
        return []
    used = list(node.input[:1]) if is_op(node, "CastLike") else [n for n in node.input if n]
    return [(home, n) for n in used if (home := scope.home(n)) is not None]


def _value(scope: Scope, name: str, memo: Memo) -> Array | None:
    if name in scope.known_values:
        return scope.known_values[name]
    value = _compute(scope, name, memo)
    if value is None or (_is_new(value) and not scope.store.has_room((id(scope), name), value.nbytes)):
        return None
    if value.base is not None and value.nbytes < _COPY_BELOW:
        value = value.copy()
    # A view of a mapped file costs nothing to make again, and would keep the file open.
    if value.base is None and value.nbytes < _CACHE_BELOW:
        scope.known_values[name] = value
    return value


def _is_new(value: Array) -> bool:
    """Whether the values lie in no file: they were computed, or one is repeated."""
    owner = value.base if isinstance(value.base, np.ndarray) else value
    return owner.flags.owndata or 0 in value.strides


def _compute(scope: Scope, name: str, memo: Memo) -> Array | None:
    held: object = scope.initializers.get(name) or scope.sparse.get(name)
    node = scope.producers.get(name)
    if held is None and node is not None and is_op(node, "Constant"):
        held = compute.constant_attribute(node)
    if isinstance(held, TensorProto):
        return scope.store.array(held)
    if isinstance(held, SparseTensorProto):
        return _dense(held, scope.store)
    if isinstance(held, np.ndarray):
        return held
    if node is None:
        return None
    inputs: list[Array | None] = []
    for used in node.input:
        home = scope.home(used) if used else None
        inputs.append(None if home is None else memo.get((id(home), used)))
        if used and inputs[-1] is None and not is_op(node, "CastLike"):
            return None
    if is_op(node, "CastLike"):
        like = scope.element_type(node.input[1])
        inputs[1] = None if like is None else np.empty(0, numpy_dtype(like))
    return compute.evaluate(node, inputs)


def _dense(sparse: SparseTensorProto, store: TensorStore) -> Array | None:
    """A sparse tensor in full (IR specification: COO indices, linear [NNZ] or [NNZ, rank])."""
    dims = tuple(sparse.dims)
    values, indices = store.array(sparse.values), store.array(sparse.indices)
    if int(np.prod(dims, dtype=object)) * values.itemsize > arrays.MAX_BYTES:
        return None
    out = np.zeros(dims, values.dtype)
    flat = indices if indices.ndim == 1 else _linear(indices, dims)
    if flat.min(initial=0) < 0 or flat.max(initial=-1) >= out.size or len(np.unique(flat)) != len(flat):
        return None
    out.reshape(-1)[flat] = values
    return out


def _linear(indices: Array, dims: tuple[int, ...]) -> Array:
    """Row-major positions of coordinates (n, rank); -1 where one lies outside."""
    inside = ((indices >= 0) & (indices < np.asarray(dims))).all(axis=1)
    strides = np.cumprod([1, *dims[:0:-1]])[::-1]
    return np.where(inside, indices @ strides, -1)
