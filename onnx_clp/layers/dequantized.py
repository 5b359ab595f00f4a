"""A bias behind DequantizeLinear, whose steps follow its weight's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.quantized import put
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import input_name, set_attribute

Float64 = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class DequantizedBias:
    """An int32 bias behind DequantizeLinear, whose scale is the input's times the weight's."""

    scope: GraphIndex
    node: NodeProto
    slot: int
    source: NodeProto
    scale: Array

    def values(self) -> Float64 | None:
        """The dequantised bias of shape (channels,)."""
        found = self.scope.constant(self.node.input[self.slot])
        return None if found is None else as_float64(found)

    def write(self, edit: GraphEdit, values: Float64, data_type: int, factor: Float64 | None = None) -> None:
        """Store the bias in steps of a scale that follows the weight's `factor`."""
        scope, name = self.scope, self.node.input[self.slot]
        source = scope.producers.get(name)
        if source is None:  # stored as plain numbers by an earlier pass
            edit.put_constant(scope, self.node, self.slot, name, lambda n: edit.store.make(n, values, data_type))
            return
        scale = self.scale
        zero = scope.constant(input_name(source, 2)) if input_name(source, 2) else None
        steps = scope.constant(source.input[0])
        assert steps is not None
        new_scale = as_float64(scale).reshape(-1) * (np.ones(1) if factor is None else factor)
        new_scale = new_scale.astype(scale.dtype)
        with np.errstate(all="ignore"):
            rounded = np.rint(values / as_float64(new_scale))
        sole = scope.only_use(name) is not None
        fits = bool((np.abs(rounded) <= 2**31 - 1).all())
        widens = scale.size == 1 and new_scale.size > 1 and scope.opset < 13
        if not sole or not fits or widens or (zero is not None and zero.any()):
            plain = edit.add_constant(scope, f"{name}_folded", lambda n: edit.store.make(n, values, data_type))
            edit.set_input(scope, self.node, self.slot, plain)
            return
        put(edit, scope, source, 0, rounded.astype(steps.dtype))
        if factor is not None and (factor != 1).any():
            if scale.size == 1:
                set_attribute(source, "axis", 0)
                if zero is not None:
                    put(edit, scope, source, 2, np.broadcast_to(zero.reshape(-1), new_scale.shape))
            put(edit, scope, source, 1, new_scale)
