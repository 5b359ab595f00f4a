"""The forms a cap takes in a graph.

    limits that differ by channel     Min(·, limits) with limits of shape (channels, 1, …)
    one limit for all, behind Relu    the Relu becomes Clip(·, 0, limit)
    one limit for all, behind Clip    that Clip's upper bound becomes the limit
    one limit for all, elsewhere      Clip(·, max=limit), its lower bound left out

ONNX Runtime fuses a Clip with scalar bounds into the convolution before it. Min is not fused: its limits differ by
channel, which no fused activation can say. Clip's bounds are attributes below opset 11 and inputs from there on; Min
broadcasts from opset 8 on, below it the limits are spread over the whole shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto

from onnx_clp.file.store import Array, numpy_dtype
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import float_type
from onnx_clp.operators import read
from onnx_clp.operators.nodes import is_op

Float64 = NDArray[np.float64]

_CLIPPED: Final = (TensorProto.FLOAT, TensorProto.FLOAT16)
_MOST_EXPANDED: Final = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Ceiling:
    """A value to cap: `maker` makes it; `limits` of shape (channels,), at least 0, go by axis 1 of `rank`.

    `behind` says that `maker` is an activation the cap commutes with.
    """

    scope: GraphIndex
    value: str
    maker: NodeProto
    limits: Float64
    rank: int
    data_type: int
    behind: bool

    @property
    def shared(self) -> bool:
        """Whether one limit serves all channels, in a type that Clip takes everywhere."""
        return self.data_type in _CLIPPED and bool((self.stored == self.stored[:1]).all())

    @property
    def stored(self) -> Array:
        """The limits in the value's type, never infinite."""
        import ml_dtypes

        dtype = numpy_dtype(self.data_type)
        largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        return np.minimum(self.limits, largest).astype(dtype)


def clip_limits(scope: GraphIndex, node: NodeProto) -> tuple[float, float] | None:
    """A Clip's bounds, ±inf where it leaves one out; None where they are not constant numbers."""
    low, high = read.clip_limits(node, partial(_float_constant, scope))
    return None if low is None or high is None else (low, high)


def _float_constant(scope: GraphIndex, name: str) -> Array | None:
    found = scope.constant(name)
    return None if found is None or float_type(found.dtype) is None else found


def expansion(ceiling: Ceiling) -> tuple[int, ...] | None:
    """The whole recorded shape of the capped value; None where a size is open or there is too much of it."""
    proto = ceiling.scope.proto
    if not isinstance(proto, GraphProto):
        return None
    wanted = {ceiling.value, *(ceiling.maker.input[:1] if ceiling.behind else ())}
    for value in (*proto.value_info, *proto.output):
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        fits = len(dims) == ceiling.rank and dims[1] == len(ceiling.limits)
        if value.name in wanted and fits and 0 < math.prod(dims) <= _MOST_EXPANDED and min(dims) > 0:
            return tuple(dims)
    return None


def put(edit: GraphEdit, ceiling: Ceiling) -> None:
    """Put the cap in; what used the value gets the capped one."""
    if ceiling.shared:
        _put_shared(edit, ceiling)
        return
    scope, value = ceiling.scope, ceiling.value
    values = ceiling.stored.reshape(-1, *[1] * (ceiling.rank - 2))
    shape = expansion(ceiling) if scope.opset < 8 else None
    if shape is not None:
        values = np.broadcast_to(values, shape)
    make = partial(edit.store.make, values=values, data_type=ceiling.data_type)
    edit.add_after(scope, value, "Min", f"{value}_ceiling", make)


def _put_shared(edit: GraphEdit, ceiling: Ceiling) -> None:
    scope, maker, limit = ceiling.scope, ceiling.maker, ceiling.stored[0]
    base = f"{ceiling.value}_ceiling"
    make = partial(edit.store.make, values=np.asarray(limit), data_type=ceiling.data_type)
    relu = ceiling.behind and is_op(maker, "Relu")
    if relu or (ceiling.behind and is_op(maker, "Clip")):
        source = maker.input[0]
        if scope.opset < 11:
            low = np.zeros(()) if relu else read.LOW.of(maker, scope.constant)
            edit.turn_into(scope, maker, "Clip", [source])
            if low is not None:
                read.LOW.set(maker, float(low))
            read.HIGH.set(maker, float(limit))
            return
        if not relu:
            edit.put_constant(scope, maker, 2, base, make)
            return
        zero = partial(edit.store.make, values=np.zeros((), ceiling.stored.dtype), data_type=ceiling.data_type)
        floor = edit.add_constant(scope, f"{ceiling.value}_floor", zero)
        edit.turn_into(scope, maker, "Clip", [source, floor, edit.add_constant(scope, base, make)])
    elif scope.opset < 11:
        read.HIGH.set(edit.add_after(scope, ceiling.value, "Clip", base, None), float(limit))
    else:
        edit.add_after(scope, ceiling.value, "Clip", base, make, slot=2)
