"""Conv, ConvTranspose, Gemm and MatMul: where channels begin, and where those before them end.

An output channel is constant when every input that its weights read is zero: then it is its bias. An input channel
may go when it is zero, when no output that stays reads it, or when it is constant and goes into the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.compaction import absorbing, cuts
from onnx_clp.compaction.absorbing import Absorption
from onnx_clp.compaction.atoms import UNKNOWN, Float64, Ids, Mask, View
from onnx_clp.compaction.cuts import GroupPick, UnfitError
from onnx_clp.compaction.removal import Demand, Grouping, Removal
from onnx_clp.compaction.survey import Maker, Survey, label, unknown
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.grids import along_axis
from onnx_clp.operators.nodes import input_name, is_op

Array = NDArray[Any]

_BLOCK: Final = 1 << 20
_LARGEST_TABLE: Final = 1 << 27
_NOT_FOLLOWED: Final = "its channels come in along another axis than it reads them by"


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A linear node: its weight (slot, channel axes) and how data comes in and goes out.

    Attributes:
        data, weight: input slots.
        from_end: the channel axis of the data, counted from the last.
        made_from_end, rank: the same for the output, and its dimensions.
        zero: the zero point that the data's silence is counted from: "" for the number `silence`, else a name.
    """

    node: NodeProto
    data: int
    weight: int
    layout: KernelLayout
    from_end: int
    made_from_end: int
    rank: int | None
    zero: str = ""
    silence: float = 0.0
    weight_zero: Array | None = None


def conv(survey: Survey, node: NodeProto) -> list[int]:
    """Conv and FusedConv (ONNX Conv, opset 1 to 22; com.microsoft FusedConv 1)."""
    activation = read.fused_activation(node)
    if input_name(node, 3) or activation not in ("", "Relu"):
        raise UnfitError("an addition or an activation that is not followed is part of it")
    kernel = _convolution(survey, node, KernelLayout(0, 1, read.groups(node)))
    bias = bias_vector(survey, node, 2)
    return join(survey, kernel, np.maximum(bias, 0) if activation else bias, [2])


def conv_transpose(survey: Survey, node: NodeProto) -> list[int]:
    """ConvTranspose (opset 1 to 22)."""
    kernel = _convolution(survey, node, KernelLayout(1, 0, read.groups(node), True))
    return join(survey, kernel, bias_vector(survey, node, 2), [2])


def _convolution(survey: Survey, node: NodeProto, layout: KernelLayout) -> Kernel:
    rank = len(_weight_shape(survey, node, 1, 3))
    return Kernel(node, 0, 1, layout, rank - 1, rank - 1, rank)


def _weight_shape(survey: Survey, node: NodeProto, slot: int, least: int) -> tuple[int, ...]:
    shape = cuts.shape_of(survey.scope, input_name(node, slot))
    if len(shape) < least or 0 in shape:
        raise UnfitError("its weight is not a constant")
    return shape


def gemm(survey: Survey, node: NodeProto) -> list[int]:
    """Gemm (opset 1 to 13): Y = alpha·A·B + beta·C."""
    shape = _weight_shape(survey, node, 1, 2)
    data_turned, turned = read.transposed(node)
    if data_turned:
        raise UnfitError("its data comes in transposed")
    layout = KernelLayout(0, 1) if turned else KernelLayout(1, 0)
    channels = shape[layout.out_axis]
    beta = read.beta(node)
    bias, value = np.zeros(channels), survey.constant(node, 2)
    slots: list[int] = []
    if value is not None:
        wide = np.broadcast_to(as_float64(value), np.broadcast_shapes(value.shape, (1, channels)))
        bias = beta * np.where((wide == wide[:1]).all(axis=0), wide[0], UNKNOWN)
        slots = [2] if value.ndim and value.shape[-1] == channels > 1 else []
    elif input_name(node, 2):
        raise UnfitError("its bias is not a constant")
    if read.alpha(node) == 0:
        raise UnfitError("its factor alpha is 0")
    return join(survey, Kernel(node, 0, 1, layout, 1, 1, 2), bias, slots)


def matmul(survey: Survey, node: NodeProto) -> list[int]:
    """MatMul (opset 1 to 13) by a constant matrix on the right."""
    shape = _weight_shape(survey, node, 1, 2)
    if int(np.prod(shape[:-2])) != 1:
        raise UnfitError("its weight holds several matrices")
    rank = len(shape)
    made = survey.scope.ranks.of(node.output[0])
    kernel = Kernel(node, 0, 1, KernelLayout(rank - 1, rank - 2), 1, 1, made)
    return join(survey, kernel, np.zeros(shape[-1]), [])


def bias_vector(survey: Survey, node: NodeProto, slot: int) -> Float64:
    """The bias input of a convolution, one entry a channel; zeros where it is left out."""
    name = input_name(node, slot)
    layout_shape = cuts.shape_of(survey.scope, node.input[1])
    transposed = node.op_type == "ConvTranspose"
    channels = layout_shape[1] * read.groups(node) if transposed else layout_shape[0]
    if not name:
        return np.zeros(channels)
    value = survey.constant(node, slot)
    if value is None or value.shape != (channels,):
        raise UnfitError("its bias is not a constant of its shape")
    return as_float64(value)


def join(survey: Survey, kernel: Kernel, bias: Float64, vectors: list[int]) -> list[int]:
    """Note a linear node: `bias` is what a silent channel gives, `vectors` the slots with an entry a channel."""
    node, layout = kernel.node, kernel.layout
    used = _taps(survey, kernel)
    groups, outputs, inputs = used.shape
    view = _data(survey, kernel, groups * inputs)
    silent = _silent(view, kernel)
    alive = (used & ~silent.reshape(groups, 1, inputs)).any(axis=2).reshape(-1)
    made = View(kernel.made_from_end, kernel.rank, survey.atoms.make(groups * outputs), np.where(alive, UNKNOWN, bias))
    survey.sources.append(Maker(node, made.ids, made.constant))
    _note(survey, kernel, view, made, used, silent)
    try:
        for slot in vectors:
            if input_name(node, slot):
                axis = len(cuts.shape_of(survey.scope, node.input[slot])) - 1
                survey.cut(node, slot, axis, made.ids, "bias")
        _cut_weight(survey, kernel, layout.out_axis, made)
    except UnfitError as unfit:
        survey.atoms.pin(made.ids, f"{label(node)}: {unfit}")
    try:
        _cut_weight(survey, kernel, layout.in_axis, view)
    except UnfitError as unfit:
        survey.atoms.pin(view.ids, f"{label(node)}: {unfit}")
    survey.give(node, made)
    return [kernel.data, *vectors]


def _cut_weight(survey: Survey, kernel: Kernel, axis: int, view: View) -> None:
    """Note that the weight loses what `view` loses; that of a grouped convolution is cut in one with its groups."""
    if kernel.layout.groups == 1:
        survey.cut(kernel.node, kernel.weight, axis, view.ids, "weight")
        return
    cuts.check(survey.scope, kernel.node, kernel.weight, axis)
    if kernel.layout.transposed and _scaled_along(survey, kernel.node, kernel.weight) == 1:
        raise UnfitError("its weight's scales cannot tell the channels of several groups apart")


def _data(survey: Survey, kernel: Kernel, count: int) -> View:
    view = survey.view(kernel.node, kernel.data)
    if view is not None and view.from_end == kernel.from_end:
        sized = view.sized(count)
        if sized is not None:
            return sized
    if view is not None:
        survey.atoms.pin(view.ids, f"{label(kernel.node)}: {_NOT_FOLLOWED}")
    ids = survey.fixed(count, f"{label(kernel.node)} reads what no linear layer makes")
    return View(kernel.from_end, None, ids, unknown(count))


def _silent(view: View, kernel: Kernel) -> Mask:
    if kernel.zero or view.zero:
        return np.asarray((view.constant == 0) & (kernel.zero == view.zero))
    return np.asarray(view.constant == kernel.silence)


def _note(survey: Survey, kernel: Kernel, view: View, made: View, used: Mask, silent: Mask) -> None:
    node, layout = kernel.node, kernel.layout
    name = label(node)
    known = ~np.isnan(view.constant)
    if not view.zero and absorbing.takes_constants(survey, node, layout, len(made.ids)):
        absorption = Absorption(node, layout, view, made.ids)
        survey.first.append(partial(absorption, survey))
        silent = np.asarray(silent | absorption.able)
    if used.size > _LARGEST_TABLE:
        used, outputs = np.asarray(used.any(axis=1, keepdims=True)), None
    else:
        outputs = made.ids
    survey.demands.append(Demand(name, view.ids, silent, known, used, outputs, absorbing.pads(survey, node)))
    if layout.groups == 1:
        return
    taken, given = view.ids.reshape(layout.groups, -1), made.ids.reshape(layout.groups, -1)
    survey.groupings.append(Grouping(name, taken, given))
    survey.changes.append(partial(_regroup, survey, kernel, taken, given))


def _scaled_along(survey: Survey, node: NodeProto, slot: int) -> int | None:
    """The axis along which the weight at a slot has a scale each; None where it has one for all, or none."""
    maker = survey.scope.producer(node.input[slot])
    if maker is None or not is_op(maker, "DequantizeLinear"):
        return None
    scale = survey.scope.constant(maker.input[1])
    return read.axis(maker) if scale is not None and scale.size > 1 else None


def _regroup(survey: Survey, kernel: Kernel, taken: Ids, given: Ids, edit: GraphEdit, removal: Removal) -> None:
    inputs, outputs = removal.keeps(taken), removal.keeps(given)
    if inputs.all() and outputs.all():
        return
    first, second = (inputs, outputs) if kernel.layout.transposed else (outputs, inputs)
    cuts.cut(edit, survey.scope, kernel.node, kernel.weight, GroupPick(first, second))
    read.set_groups(kernel.node, int(inputs.any(axis=1).sum()))


def _taps(survey: Survey, kernel: Kernel) -> Mask:
    """Which output reads which input, of shape (groups, outputs, inputs) counted within a group."""
    layout = kernel.layout
    table = _nonzero(survey, kernel)
    if layout.out_axis > layout.in_axis and not layout.transposed:
        table = table.T
    first, second = table.shape
    if layout.groups < 1 or first % layout.groups:
        raise UnfitError("its groups do not divide its channels")
    grouped = table.reshape(layout.groups, first // layout.groups, second)
    return grouped.transpose(0, 2, 1) if layout.transposed else grouped


def _nonzero(survey: Survey, kernel: Kernel) -> Mask:
    """Where any tap of a kernel is not zero, over the weight's two channel axes in the order they are stored."""
    values = _steps(survey, kernel)
    axes = sorted((kernel.layout.out_axis, kernel.layout.in_axis))
    values = (
        values.reshape([values.shape[a] for a in axes] + [-1])
        if axes == [0, 1]
        else values.reshape(values.shape[axes[0]], values.shape[axes[1]], 1)
    )
    out = np.empty(values.shape[:2], bool)
    rows = max(_BLOCK // max(values[0].size, 1), 1)
    for start in range(0, len(values), rows):
        out[start : start + rows] = (values[start : start + rows] != 0).any(axis=2)
    name = kernel.node.input[kernel.weight]
    stored = survey.scope.stored(name)
    if stored is not None:
        survey.scope.store.release(stored)
    return out


def _steps(survey: Survey, kernel: Kernel) -> Array:
    """The weight, or its integers counted from their zero points, so that 0 is no weight."""
    scope, name = survey.scope, kernel.node.input[kernel.weight]
    maker = scope.producer(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        return _dequantized_steps(survey, maker)
    stored = scope.stored(name)
    values = scope.store.array(stored) if isinstance(stored, TensorProto) else scope.constant(name)
    if values is None:
        raise UnfitError("its weight cannot be evaluated")
    return values if kernel.weight_zero is None else values.astype(np.int32) - kernel.weight_zero


def _dequantized_steps(survey: Survey, maker: NodeProto) -> Array:
    values, scale = survey.constant(maker, 0), survey.constant(maker, 1)
    if values is None or scale is None:
        raise UnfitError("its quantised weight is not a constant")
    steps = values.astype(np.float32)
    zero = survey.constant(maker, 2)
    if zero is None:
        if input_name(maker, 2):
            raise UnfitError("its weight's zero point is not a constant")
        return steps
    axis, block = read.axis(maker), read.quantized_block(maker)
    size = steps.shape[axis] if scale.size > 1 else 1
    return steps - along_axis(zero.astype(np.float32), steps.ndim, axis, size, block)
