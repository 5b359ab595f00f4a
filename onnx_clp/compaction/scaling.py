"""Operators with a scale and an offset for every channel: normalisation at inference, and quantisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction.atoms import UNKNOWN, Float64, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.elementwise import steady
from onnx_clp.compaction.survey import Survey
from onnx_clp.fold.affine_forms import is_training
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.grids import integer_limits, level_type
from onnx_clp.operators.nodes import input_name

Array = NDArray[Any]


def batch_normalization(survey: Survey, node: NodeProto) -> list[int]:
    """BatchNormalization at inference (opset 1 to 15)."""
    view = _second_axis(survey, node)
    if is_training(survey.scope, node):
        raise UnfitError("it normalises by what it sees (training mode)")
    parts = [survey.constant(node, slot) for slot in range(1, 5)]
    known = [as_float64(p) for p in parts if p is not None]
    if len(known) < 4 or any(p.shape != known[0].shape or p.ndim != 1 for p in known):
        raise UnfitError("its statistics are not constant")
    sized = view.sized(len(known[0]))
    if sized is None:
        raise UnfitError("it has another number of channels")
    for slot in range(1, 5):
        survey.cut(node, slot, 0, sized.ids)
    gamma, beta, mean, variance = known
    with np.errstate(all="ignore"):
        made = (sized.constant - mean) * (gamma / np.sqrt(variance + read.epsilon(node))) + beta
    survey.give(node, sized.becomes(np.where(np.isfinite(made), made, UNKNOWN)))
    return [0]


def instance_normalization(survey: Survey, node: NodeProto) -> list[int]:
    """InstanceNormalization (opset 1 to 22): a constant channel gives its shift."""
    view = _second_axis(survey, node)
    shift = survey.constant(node, 2)
    sized = None if shift is None else view.sized(len(shift))
    if shift is None or sized is None:
        raise UnfitError("its scale and shift are not constant")
    for slot in (1, 2):
        survey.cut(node, slot, 0, sized.ids)
    survey.give(node, sized.becomes(np.where(np.isnan(sized.constant), UNKNOWN, as_float64(shift))))
    return [0]


def _second_axis(survey: Survey, node: NodeProto) -> View:
    view = survey.need(node)
    if view.axis != 1 and not (view.rank is None and view.from_end == 1 and view.spread):
        raise UnfitError("its channels come in along another axis")
    return view


def quantize(survey: Survey, node: NodeProto) -> list[int]:
    """QuantizeLinear (opset 10 to 23): x / scale + zero point, rounded and saturated."""
    view, scale, zero = _scaled(survey, node)
    low, high = _limits(survey, node)
    made = steady(lambda _, x: np.clip(np.rint(x / scale) + zero, low, high), node, view.constant)
    survey.give(node, view.becomes(np.where(np.isfinite(made), made, UNKNOWN)))
    return [0]


def _limits(survey: Survey, node: NodeProto) -> tuple[float, float]:
    dtype = level_type(node, survey.constant(node, 2))
    return integer_limits(dtype) if "int" in dtype.name else (-np.inf, np.inf)


def dequantize(survey: Survey, node: NodeProto) -> list[int]:
    """DequantizeLinear (opset 10 to 23): (x - zero point)·scale."""
    view = survey.need(node)
    if view.zero:
        same = view.zero == input_name(node, 2)
        survey.give(node, view.becomes(np.where((view.constant == 0) & same, 0.0, UNKNOWN)))
        return [0]
    view, scale, zero = _scaled(survey, node)
    survey.give(node, view.becomes(steady(lambda _, x: (x - zero) * scale, node, view.constant)))
    return [0]


def _scaled(survey: Survey, node: NodeProto) -> tuple[View, Float64, Float64]:
    """The channels of a node with a scale and a zero point, each a number or one a channel, and these."""
    view, parts = survey.need(node), []
    if read.quantized_block(node):
        raise UnfitError("it has a scale for every block")
    for slot in (1, 2):
        value = survey.constant(node, slot)
        if value is None and input_name(node, slot):
            raise UnfitError("its scale or zero point is not constant")
        if value is not None and value.size > 1:
            view = _per_channel(survey, node, view, slot, value)
        parts.append(np.zeros(1) if value is None else as_float64(value).reshape(-1))
    return view, parts[0], parts[1]


def _per_channel(survey: Survey, node: NodeProto, view: View, slot: int, value: Array) -> View:
    axis = read.axis(node)
    at = view.axis if axis >= 0 else -view.from_end
    sized = view.sized(value.size)
    if at != axis or sized is None or value.ndim != 1:
        raise UnfitError("it has a scale for every entry of another axis")
    survey.cut(node, slot, 0, sized.ids)
    return sized


def dynamic_quantize(survey: Survey, node: NodeProto) -> list[int]:
    """DynamicQuantizeLinear (opset 11): its range always holds 0, so a zero channel does not move it."""
    view = survey.need(node)
    survey.need_zero(node, view)
    silent = np.where(view.constant == 0, 0.0, UNKNOWN)
    survey.give(node, replace(view.becomes(silent), zero=node.output[2]))
    return [0]
