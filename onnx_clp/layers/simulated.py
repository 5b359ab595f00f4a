"""Weights of quantisation-aware training: floats that the graph quantises and dequantises on their way to the layer.

    W (float) > QuantizeLinear > DequantizeLinear > Conv

What the layer sees is the rounded weight, so that is what is judged. A silent channel gets 0 in W, which the zero-point
stands for. A factor would move the weights off their grid, so nothing is folded in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.quantized import Quantized, put, read_constant, refusal
from onnx_clp.layers.weights import Scaling, float_type
from onnx_clp.numerics.affine import KernelLayout, channel_factor
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.grids import Grid, level_type
from onnx_clp.operators.nodes import input_name, is_quantizer
from onnx_clp.verdicts import Skipped

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedWeight:
    """A float weight behind QuantizeLinear and DequantizeLinear nodes (ONNX, opset 10 to 23).

    `floats` is the weight as stored, `parts` as it is rounded.
    """

    scope: GraphIndex
    node: NodeProto
    slot: int
    quantizer: NodeProto
    dequantizer: NodeProto
    floats: Array
    parts: Quantized

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's dimensions."""
        return self.floats.shape

    @property
    def data_type(self) -> int:
        """The type it is dequantised to."""
        return float_type(self.parts.scale.dtype) or 1

    def values(self) -> Array:
        """The weight as the layer sees it."""
        return self.parts.real()

    def release(self) -> None:
        """The values stay in memory; they are small."""

    def refuses(self, scaling: Scaling, layout: KernelLayout) -> Skipped | None:  # noqa: ARG002
        """Nothing but silence can be put into it."""
        same = (scaling.output == 1).all() and (scaling.input is None or (scaling.input == 1).all())
        return None if same else refusal("its weight is rounded on the way to the layer, so a factor would move it")

    def write(self, edit: GraphEdit, scaling: Scaling, layout: KernelLayout) -> None:
        """Store zeros for the silent channels, in a copy of the two nodes where others read them too."""
        silent = channel_factor(as_float64(scaling.zeroed), self.floats.shape, layout, output=True) > 0
        values = np.where(silent, 0, self.floats).astype(self.floats.dtype)
        if self._is_shared():
            self._write_copy(edit, values)
        else:
            put(edit, self.scope, self.quantizer, 0, values)

    def _is_shared(self) -> bool:
        between, behind = self.quantizer.output[0], self.dequantizer.output[0]
        return self.scope.only_use(between) is None or self.scope.only_use(behind) is None

    def _write_copy(self, edit: GraphEdit, values: Array) -> None:
        name = self.node.input[self.slot]
        data_type = int(helper.np_dtype_to_tensor_dtype(values.dtype))
        stored = edit.add_constant(
            self.scope, f"{name}_pruned", partial(edit.store.make, values=values, data_type=data_type)
        )
        for source, what in ((self.quantizer, "quantized"), (self.dequantizer, "dequantized")):
            copy = NodeProto()
            copy.CopyFrom(source)
            copy.ClearField("name")
            copy.input[0] = stored
            stored = copy.output[0] = edit.names.fresh(f"{name}_{what}")
            edit.add_node(self.scope, copy)
        edit.set_input(self.scope, self.node, self.slot, stored)


def find_simulated(
    scope: GraphIndex, node: NodeProto, slot: int, dequantizer: NodeProto
) -> SimulatedWeight | Skipped | None:
    """The weight at an input slot where a quantiser makes what `dequantizer` reads; None where none does."""
    quantizer = scope.producer(input_name(dequantizer, 0))
    if quantizer is None or not is_quantizer(quantizer):
        return None
    floats = read_constant(scope, input_name(quantizer, 0), "weight")
    if isinstance(floats, Skipped):
        return floats
    if float_type(floats.dtype) is None:
        return refusal(f"its weight is of type {floats.dtype}")
    grids = [_grid(scope, part, floats) for part in (quantizer, dequantizer)]
    for grid in grids:
        if isinstance(grid, Skipped):
            return grid
    first, second = (grid for grid in grids if isinstance(grid, Quantized))
    rounded = Grid(first.scale, first.zero, first.axis, first.block).quantized(floats, first.values.dtype)
    parts = Quantized(rounded, second.scale, second.zero, second.axis, second.block)
    return SimulatedWeight(scope, node, slot, quantizer, dequantizer, floats, parts)


def _grid(scope: GraphIndex, node: NodeProto, floats: Array) -> Quantized | Skipped:
    """Scale, zero-point and axis of one of the two nodes, over as many values as the weight has."""
    scale = read_constant(scope, input_name(node, 1), "weight scale")
    if isinstance(scale, Skipped):
        return scale
    zero: Array | None = None
    if input_name(node, 2):
        found = read_constant(scope, node.input[2], "weight zero-point")
        if isinstance(found, Skipped):
            return found
        zero = found
    dtype = level_type(node, zero)
    if dtype.kind not in "iu" and "int" not in dtype.name:
        return refusal(f"its weight is rounded to {dtype}")
    axis = read.axis_of_quantization(node, floats.ndim)
    grid = Quantized(np.zeros(floats.shape, dtype), scale, zero, axis, read.quantized_block(node))
    return grid if grid.fits else refusal("its weight's scales or zero-points do not fit its shape")
