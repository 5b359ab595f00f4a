"""Constant channels that go into the bias of what reads them.

A channel that is c everywhere adds Σ W·c to every place of a convolution without padding, or of a Gemm:

    before:  y = Σ_i W_i * x_i + b,  x_j = c_j everywhere
    after:   y = Σ_{i≠j} W_i * x_i + (b + Σ_j (Σ_taps W_j)·c_j)

With zeros padded around x_j it adds less at the border, so there it stays. The sum is made in float64 and rounded once,
to the weight's type. Quantised layers, whose bias has a step of its own, and MatMul, which has none, take nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from onnx_clp.compaction import cuts
from onnx_clp.compaction.atoms import Float64, Ids, Mask, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.removal import Removal
from onnx_clp.compaction.survey import Survey
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.layers.weights import FLOAT_TYPES
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import input_name, is_op
from onnx_clp.operators.table import weight_slot

Array = NDArray[Any]

_BIAS: Final = 2


def takes_constants(survey: Survey, node: NodeProto, layout: KernelLayout, channels: int) -> bool:
    """Whether a layer's bias of `channels` entries can take what a constant input channel adds."""
    if node.op_type not in ("Conv", "FusedConv", "Gemm") or layout.groups != 1 or pads(survey, node):
        return False
    if node.op_type == "Gemm" and read.beta(node) != 1.0:
        return False
    name = input_name(node, _BIAS)
    if name:
        value = survey.constant(node, _BIAS)
        if value is None or value.shape != (channels,):
            return False
        try:
            cuts.check(survey.scope, node, _BIAS, 0, "bias")
        except UnfitError:
            return False
    return all(_is_plain(survey, part) for part in (node.input[1], name) if part)


def _is_plain(survey: Survey, name: str) -> bool:
    """Whether a constant is of a float type and not dequantised."""
    maker, stored = survey.scope.producer(name), survey.scope.stored(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        return False
    if stored is not None:
        return stored.data_type in FLOAT_TYPES
    value = survey.scope.constant(name)
    return value is not None and helper.np_dtype_to_tensor_dtype(value.dtype) in FLOAT_TYPES


def pads(survey: Survey, node: NodeProto) -> bool:
    """Whether a convolution pads its input; one of a single tap that asks for SAME does not."""
    if "Conv" not in node.op_type or node.op_type == "ConvTranspose":
        return False
    window = windows.window(node)
    if window.begins is not None:
        return not window.pads_nothing
    weight = input_name(node, weight_slot(node))
    return any(size != 1 for size in cuts.shape_of(survey.scope, weight)[2:])


@dataclass(frozen=True, slots=True, eq=False)
class Absorption:
    """A layer that can take constant channels: its weight's channel axes, what it reads, and the atoms it makes."""

    node: NodeProto
    layout: KernelLayout
    view: View
    made: Ids

    @property
    def able(self) -> Mask:
        """Which inputs it can take: those known to be constant and finite."""
        return np.asarray(np.isfinite(self.view.constant))

    def __call__(self, survey: Survey, edit: GraphEdit, removal: Removal) -> None:
        """Add to the bias what the inputs that go would have added; the weight must still be whole."""
        gone = np.flatnonzero(~removal.keeps(self.view.ids) & self.able & (self.view.constant != 0))
        if not gone.size:
            return
        stored, bias = survey.scope.stored(self.node.input[1]), survey.constant(self.node, _BIAS)
        weight = _values(survey, self.node.input[1])
        shift = self._shift(weight, gone)
        # A bias that was there is cut with the rest; a new one is made as long as it stays.
        whole = shift[removal.keeps(self.made)] if bias is None else as_float64(bias) + shift
        cuts.put(edit, survey.scope, self.node, _BIAS, whole.astype(weight.dtype))
        if stored is not None:
            survey.scope.store.release(stored)

    def _shift(self, weight: Array, gone: Ids) -> Float64:
        """What the inputs `gone` add to every output, float64 of shape (outputs,)."""
        taken = as_float64(np.take(weight, gone, axis=self.layout.in_axis))
        table = np.moveaxis(taken, (self.layout.out_axis, self.layout.in_axis), (0, 1))
        sums = table.reshape(*table.shape[:2], -1).sum(axis=2)
        factor = read.alpha(self.node) if self.node.op_type == "Gemm" else 1.0
        return np.asarray(factor * (sums @ self.view.constant[gone]))


def _values(survey: Survey, name: str) -> Array:
    stored = survey.scope.stored(name)
    value = survey.scope.store.array(stored) if isinstance(stored, TensorProto) else survey.scope.constant(name)
    assert value is not None
    return value
