"""Layers on integers: QLinearConv, ConvInteger and their MatMul forms, and the operators between them.

A channel is silent where it is its zero point: a number, or the one that DynamicQuantizeLinear makes as it runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction import cuts
from onnx_clp.compaction.atoms import UNKNOWN, Float64
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.elementwise import operands, rank_of_result
from onnx_clp.compaction.linear import Kernel, join
from onnx_clp.compaction.spatial import pool
from onnx_clp.compaction.survey import Survey
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import input_name

Array = NDArray[Any]


def number(survey: Survey, node: NodeProto, slot: int, default: float = 0.0) -> float:
    """A zero point or scale that is one constant number; the default where it is left out."""
    if not input_name(node, slot):
        return default
    value = survey.constant(node, slot)
    if value is None or value.size != 1:
        raise UnfitError("a zero point or a scale of it is not one constant number")
    return float(as_float64(value).reshape(()))


def _layout(node: NodeProto, rank: int) -> KernelLayout:
    if "Conv" in node.op_type:
        return KernelLayout(0, 1, read.groups(node))
    if rank != 2:
        raise UnfitError("its weight holds several matrices")
    return KernelLayout(1, 0)


def _kernel(survey: Survey, node: NodeProto, slots: tuple[int, int, int, int]) -> tuple[Kernel, int]:
    """The kernel and its number of channels; `slots` of data, weight, and the zero points of both."""
    data, weight, data_zero, weight_zero = slots
    shape = cuts.shape_of(survey.scope, input_name(node, weight))
    least = 3 if "Conv" in node.op_type else 2
    if len(shape) < least or 0 in shape:
        raise UnfitError("its weight is not a constant")
    layout = _layout(node, len(shape))
    zero = survey.constant(node, weight_zero)
    if zero is None and input_name(node, weight_zero):
        raise UnfitError("its weight's zero point is not constant")
    named, silence = "", 0.0
    if input_name(node, data_zero) and not survey.scope.is_constant(node.input[data_zero]):
        named = node.input[data_zero]
    else:
        silence = number(survey, node, data_zero)
    from_end = len(shape) - 1 if least == 3 else 1
    rank = len(shape) if least == 3 else survey.scope.ranks.of(node.output[0])
    kernel = Kernel(node, data, weight, layout, from_end, from_end, rank, named, silence, _spread(zero, shape, layout))
    return kernel, shape[layout.out_axis]


def _spread(zero: Array | None, shape: tuple[int, ...], layout: KernelLayout) -> Array | None:
    """A weight's zero points, shaped to be taken from it."""
    if zero is None:
        return None
    wide = zero.astype(np.int32)
    if wide.size == 1:
        return wide.reshape(())
    if wide.size != shape[layout.out_axis]:
        raise UnfitError("its weight has another number of zero points than channels")
    return wide.reshape([-1 if at == layout.out_axis else 1 for at in range(len(shape))])


def _vectors(survey: Survey, node: NodeProto, slots: tuple[int, ...], channels: int) -> list[int]:
    """Those of the slots whose constant has an entry a channel."""
    found = []
    for slot in slots:
        value = survey.constant(node, slot)
        if value is None and input_name(node, slot):
            raise UnfitError("a scale or zero point of it is not constant")
        if value is not None and value.size == channels > 1:
            if value.ndim != 1:
                raise UnfitError("a scale or zero point of it has more dimensions than one")
            found.append(slot)
    return found


def rounded(survey: Survey, node: NodeProto) -> list[int]:
    """QLinearConv and QLinearMatMul (opset 10 to 21): a silent channel is what its bias rounds to."""
    kernel, channels = _kernel(survey, node, (0, 3, 2, 5))
    zero = number(survey, node, 7)
    vectors = _vectors(survey, node, (4, 5, 8), channels)
    value = survey.constant(node, 8)
    bias = np.zeros(channels) if value is None else as_float64(value)
    return join(survey, kernel, np.where(bias == 0, zero, UNKNOWN), vectors)


def products(survey: Survey, node: NodeProto) -> list[int]:
    """ConvInteger and MatMulInteger (opset 10): a silent channel is 0."""
    kernel, channels = _kernel(survey, node, (0, 1, 2, 3))
    return join(survey, kernel, np.zeros(channels), _vectors(survey, node, (3,), channels))


# Between them (com.microsoft, version 1)


def added(survey: Survey, node: NodeProto) -> list[int]:
    """QLinearAdd and QLinearMul: A, its scale and zero point, B, its own, and those of C."""
    views, values = operands(survey, node, [0, 3])
    first = views[0]
    survey.tied(views)
    real = [
        _real(v, number(survey, node, at + 1), number(survey, node, at + 2))
        for v, at in zip(values, (0, 3), strict=True)
    ]
    zero = [r == 0 for r in real]
    silent = zero[0] & zero[1] if node.op_type == "QLinearAdd" else zero[0] | zero[1]
    out = np.where(np.broadcast_to(silent, (len(first.ids),)), number(survey, node, 7), UNKNOWN)
    survey.give(node, first.moved(first.from_end, rank_of_result(survey, node, (0, 3))).becomes(out))
    return [0, 3]


def _real(values: Float64, scale: float, zero: float) -> Float64:
    return np.asarray((values - zero) * scale)


def activated(survey: Survey, node: NodeProto) -> list[int]:
    """QLinearLeakyRelu, QLinearSigmoid and pools on integers: X, its scale and zero point, and those of Y."""
    if node.op_type.endswith("Pool"):
        if windows.channels_last(node):
            raise UnfitError("its channels come in along another axis")
        pool(survey, node)
    else:
        survey.give(node, survey.need(node))
    view, before, after = survey.need(node), number(survey, node, 2), number(survey, node, 4)
    keeps = node.op_type in ("QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool")
    out = np.where((view.constant == before) & keeps & (not view.zero), after, UNKNOWN)
    survey.give(node, survey.views[node.output[0]].becomes(out))
    return [0]
