"""Recognisers: every way an exporter writes a per-channel affine, as one `ChannelAffine`.

A recogniser is one function and one row of `RECOGNISERS`. It gets the node, the slot its data comes in by and a
`Frame` (the data's channel axis), and gives an `Affine` or the reason why the node is none. Constants may be
stored or computed in the graph in any way `graph.GraphIndex.constant` understands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import float_type, overridable_sentence
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, input_name, is_op
from onnx_clp.verdicts import Skipped, SkipReason

Array = NDArray[Any]

_TRAINING: Final = Skipped(SkipReason.TRAINING, "it is in training mode: it normalises by the batch it sees")


@dataclass(frozen=True, slots=True)
class Frame:
    """The data's channel axis, counted from the last axis (1), its rank and its channels (None: unknown)."""

    axis_from_end: int
    rank: int | None
    channels: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A recognised affine.

    Attributes:
        affine: its coefficients, one entry a channel.
        normalises: it scales channels differently, as a normalisation does (a scalar factor does not).
        blocked: why it may not be folded although its coefficients are known.
    """

    affine: ChannelAffine
    normalises: bool
    blocked: Skipped | None = None


@dataclass(frozen=True, slots=True)
class Recogniser:
    """One form: which input is `data` (None: the node is none), and the affine that is `read` off the node."""

    data: Callable[[GraphIndex, NodeProto], int | None]
    read: Callable[[GraphIndex, NodeProto, Frame], Affine | Skipped]


def data_slot(scope: GraphIndex, node: NodeProto) -> int | None:
    """The slot of the one input that is data, for a node that may be an affine; None for any other node."""
    return RECOGNISERS[node.op_type].data(scope, node) if is_op(node, *RECOGNISERS) else None


def _first(scope: GraphIndex, node: NodeProto) -> int | None:
    """The first input is data."""
    return 0 if node.input and not scope.is_constant(node.input[0]) else None


def _either(scope: GraphIndex, node: NodeProto) -> int | None:
    """One of two inputs is data, the other a parameter."""
    steady = [_is_parameter(scope, name) for name in node.input]
    return None if len(steady) != 2 or steady[0] == steady[1] else steady.index(False)


def _dividend(scope: GraphIndex, node: NodeProto) -> int | None:
    """The first of two inputs is data, the other a parameter."""
    return 0 if _either(scope, node) == 0 else None


def _is_parameter(scope: GraphIndex, name: str) -> bool:
    return scope.is_constant(name) or scope.is_overridable(name)


def recognise(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    """The affine a node computes on data with this channel axis; `data_slot` must have found its data."""
    if has_reference(node):
        return Skipped(SkipReason.REFERENCE_ATTRIBUTE, "an attribute takes its value from the function's call")
    found = RECOGNISERS[node.op_type].read(scope, node, frame)
    if isinstance(found, Affine) and not found.affine.is_finite:
        return Skipped(SkipReason.NOT_FINITE, "its factor or offset is not a finite number")
    return found


# BatchNormalization


def _by_position(scope: GraphIndex, node: NodeProto) -> Skipped:
    scale = scope.constant(input_name(node, 1))
    sentence = "spatial=0 normalises every position on its own"
    if scale is not None and scale.ndim == 1:
        sentence = f"spatial=0 asks for a number for every position, and it holds {scale.size}, as for channels"
    return Skipped(SkipReason.NOT_PER_CHANNEL, sentence)


def _batchnorm(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    """ONNX BatchNormalization, opset 1 to 15."""
    if not read.by_channel(node):
        return _by_position(scope, node)
    parameters: list[Array] = []
    for slot, what in enumerate(("scale", "bias", "mean", "variance"), start=1):
        name = input_name(node, slot)
        if scope.is_overridable(name):
            return Skipped(SkipReason.OVERRIDABLE, overridable_sentence(what))
        value = scope.constant(name)
        if value is None:
            return Skipped(SkipReason.NOT_CONSTANT, f"its {what} is not a constant")
        if float_type(value.dtype) is None:
            return Skipped(SkipReason.NOT_AFFINE, f"its {what} is of type {value.dtype}")
        parameters.append(value.reshape(-1))
    lengths = {p.size for p in parameters}
    if len(lengths) != 1 or (frame.channels is not None and lengths != {frame.channels}):
        listed = ", ".join(str(p.size) for p in parameters)
        want = "each other" if frame.channels is None else f"{frame.channels} channels"
        return Skipped(SkipReason.WRONG_LENGTH, f"its parameters have lengths {listed}, which do not fit {want}")
    if frame.rank is None:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "the number of dimensions of its input is not known")
    if frame.axis_from_end != frame.rank - 1:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "it normalises another axis than the layer's channels")
    epsilon = read.epsilon(node)
    gamma, beta, mean, variance = parameters
    affine = ChannelAffine.of_batchnorm(gamma, beta, mean, variance, epsilon)
    if float((as_float64(variance) + epsilon).min(initial=1.0)) <= 0:
        return Skipped(SkipReason.NOT_FINITE, "its variance is not above -epsilon")
    return Affine(affine, True, _obstacle(scope, node))


def _obstacle(scope: GraphIndex, node: NodeProto) -> Skipped | None:
    if is_training(scope, node):
        return _TRAINING
    used = any(scope.uses(name) for name in node.output[1:] if name)
    return Skipped(SkipReason.TRAINING, "its statistics are used, as only training mode has them") if used else None


def is_training(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether a BatchNormalization normalises by the batch it sees, which is no fixed affine."""
    if scope.opset >= 14:
        return read.trains(node)
    if scope.opset >= 7:
        return any(node.output[1:])
    return not read.marked_as_test(node)


# Elementwise


def _operand(scope: GraphIndex, node: NodeProto, frame: Frame) -> Array | Skipped:
    """The constant operand as float64 of shape (channels,) or (1,)."""
    slot = data_slot(scope, node)
    assert slot is not None
    name = node.input[1 - slot]
    if scope.is_overridable(name):
        return Skipped(SkipReason.OVERRIDABLE, overridable_sentence("constant"))
    value = scope.constant(name)
    if value is None:
        return Skipped(SkipReason.NOT_CONSTANT, "its constant cannot be evaluated")
    if float_type(value.dtype) is None:
        return Skipped(SkipReason.NOT_AFFINE, f"it works on {value.dtype}")
    shape = _aligned_shape(scope, node, value, frame)
    if isinstance(shape, Skipped):
        return shape
    return _per_channel(as_float64(value).reshape(shape), frame)


def _aligned_shape(scope: GraphIndex, node: NodeProto, value: Array, frame: Frame) -> tuple[int, ...] | Skipped:
    """The operand's shape as it aligns with the data's last axes; below opset 7 by `broadcast` and `axis`."""
    if scope.opset >= 7 or value.ndim == 0:
        return value.shape
    broadcasts, axis = read.old_broadcast(node)
    if not broadcasts or data_slot(scope, node) != 0:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "it does not broadcast its constant")
    if axis is None:
        return value.shape
    if frame.rank is None:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "the data's rank is unknown")
    start = axis + (frame.rank if axis < 0 else 0)
    if not 0 <= start <= frame.rank - value.ndim:
        return Skipped(SkipReason.NOT_PER_CHANNEL, f"its axis {axis} is none of the data's")
    return (*value.shape, *[1] * (frame.rank - start - value.ndim))


def _per_channel(value: Array, frame: Frame) -> Array | Skipped:
    beyond = value.ndim > (frame.axis_from_end if frame.rank is None else frame.rank)
    if beyond:
        return Skipped(SkipReason.NOT_PER_CHANNEL, f"its constant of shape {value.shape} adds a dimension")
    for at, size in enumerate(value.shape):
        if size != 1 and value.ndim - at != frame.axis_from_end:
            return Skipped(SkipReason.NOT_PER_CHANNEL, f"its constant of shape {value.shape} varies along another axis")
    flat = value.reshape(-1)
    if flat.size != 1 and frame.channels is not None and flat.size != frame.channels:
        return Skipped(
            SkipReason.NOT_PER_CHANNEL,
            f"its constant of shape {value.shape} does not fit {frame.channels} channels",
        )
    return flat


def _affine(frame: Frame, scale: Array | float, shift: Array | float) -> Affine | Skipped:
    scale, shift = np.atleast_1d(np.asarray(scale, np.float64)), np.atleast_1d(np.asarray(shift, np.float64))
    count = frame.channels
    if count is None:
        count = shift.size if scale.size == 1 else scale.size
    affine = ChannelAffine(np.broadcast_to(scale, (count,)), np.broadcast_to(shift, (count,)))
    return Affine(affine, scale.size > 1)


def _multiply(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    value = _operand(scope, node, frame)
    return value if isinstance(value, Skipped) else _affine(frame, value, 0.0)


def _add(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    value = _operand(scope, node, frame)
    return value if isinstance(value, Skipped) else _affine(frame, 1.0, value)


def _subtract(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    value = _operand(scope, node, frame)
    if isinstance(value, Skipped):
        return value
    return _affine(frame, 1.0, -value) if data_slot(scope, node) == 0 else _affine(frame, -1.0, value)


def _divide(scope: GraphIndex, node: NodeProto, frame: Frame) -> Affine | Skipped:
    value = _operand(scope, node, frame)
    if isinstance(value, Skipped):
        return value
    with np.errstate(all="ignore"):
        return _affine(frame, 1.0 / value, 0.0)


RECOGNISERS: Final[Mapping[str, Recogniser]] = {
    "BatchNormalization": Recogniser(_first, _batchnorm),
    "Mul": Recogniser(_either, _multiply),
    "Add": Recogniser(_either, _add),
    "Sub": Recogniser(_either, _subtract),
    "Div": Recogniser(_dividend, _divide),
}
