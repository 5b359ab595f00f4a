"""How bounds pass what lays entries out anew, means over all places, and normalisations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Final

import numpy as np

from onnx_clp.audit.bound.field import Field, NoBoundError, Track
from onnx_clp.audit.bound.step import Rule, Step
from onnx_clp.fold.affine_forms import is_training
from onnx_clp.numerics import intervals
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import operator


def _concat(step: Step) -> Field:
    fields = [step.field(slot) for slot in range(len(step.node.input))]
    first = fields[0]
    axis = read.axis(step.node) % len(first.axes)
    same = all(one.axes == first.axes and (one.rows.size, one.columns.size) == _places(first) for one in fields)
    if first.axes[axis] != "C" or not same:
        raise NoBoundError("Concat along other axes than channels")
    rows = reduce(lambda a, b: a.joined(b), (one.rows for one in fields))
    columns = reduce(lambda a, b: a.joined(b), (one.columns for one in fields))
    spread = intervals.joined([one.spread for one in fields], rows.moved * columns.moved)
    return Field(spread, first.axes, first.batch, rows, columns)


def _places(field: Field) -> tuple[int, int]:
    return field.rows.size, field.columns.size


def _same(step: Step) -> Field:
    return step.field()


def _dropout(step: Step) -> Field:
    if len(step.node.input) > 2:
        raise NoBoundError("Dropout that may be training")
    return step.field()


def _cast(step: Step) -> Field:
    if read.cast_type(step.node) not in (1, 10, 11, 16):
        raise NoBoundError("Cast to whole numbers")
    return step.field()


def _transpose(step: Step) -> Field:
    field = step.field()
    order = read.perm(step.node, len(field.axes)) or ()
    return field.laid(tuple(field.axes[at] for at in order))


def _reshape(step: Step) -> Field:
    field = step.field()
    return field.laid(field.regrouped(_target(step, field)))


def _target(step: Step, field: Field) -> Sequence[int]:
    """The shape that a Reshape states, else the one that was inferred."""
    stated = read.SHAPE.of(step.node, step.value) if step.node.op_type == "Reshape" else None
    if stated is None or (0 in stated and read.zero_is_a_size(step.node)):
        return step.shape
    had = field.shape
    if stated.count(-1) > 1 or any(size == 0 and at >= len(had) for at, size in enumerate(stated)):
        raise NoBoundError("Reshape of another kind")
    sizes = [had[at] if size == 0 else size for at, size in enumerate(stated)]
    rest = math.prod(had) // max(1, math.prod(size for size in sizes if size != -1))
    return [rest if size == -1 else size for size in sizes]


def _pad(step: Step) -> Field:
    field, pads = step.field(), read.PADS.of(step.node, step.value)
    value = windows.pad_value(step.node, step.value)
    if pads is None or value is None or windows.pad_mode(step.node) != "constant" or len(pads) != 2 * len(field.axes):
        raise NoBoundError("Pad of another kind")
    spread, tracks = field.spread, {"H": field.rows, "W": field.columns}
    for letters, begin, end in zip(field.axes, pads, pads[len(field.axes) :], strict=False):
        if (begin, end) == (0, 0):
            continue
        if letters not in ("H", "W", "C") or min(begin, end) < 0:
            raise NoBoundError("Pad of other axes than channels, rows and columns")
        if letters == "C":
            parts = [intervals.box(value, value, count, spread.places) for count in (begin, end)]
            spread = intervals.joined([parts[0], spread, parts[1]], spread.places)
            continue
        track = tracks[letters]
        tracks[letters] = track.seen(track.size + begin + end, 1, 1, begin)
    wide = spread if tracks == {"H": field.rows, "W": field.columns} else intervals.widened(spread, value)
    return replace(field, spread=wide, rows=tracks["H"], columns=tracks["W"], head=None)


# Means


def _global_mean(step: Step) -> Field:
    return _over_places(step.field(), step.field().axes)


def _global_max(step: Step) -> Field:
    field = step.field()
    one = field.spread
    return _one_place(field, intervals.settled(one.low, one.high, one.most, one.most, 1), field.axes)


def _over_places(field: Field, axes: Sequence[str]) -> Field:
    return _one_place(field, intervals.averaged(field.spread, math.prod(_places(field))), axes)


def _one_place(field: Field, spread: intervals.Spread, axes: Sequence[str]) -> Field:
    laid = tuple(one.replace("H", "").replace("W", "") for one in axes)
    return Field(spread, laid, field.batch, Track(1), Track(1))


def _reduce_mean(step: Step) -> Field:
    field, axes = step.field(), read.AXES.of(step.node, step.value)
    rank = len(field.axes)
    gone = {axis % rank for axis in axes or range(rank)}
    there = {letter for axis in gone for letter in field.axes[axis]}
    if there != {letter for letter in "HW" if field.sizes[letter] > 1}:
        raise NoBoundError(f"{operator(step.node)} over other axes than rows and columns")
    kept = field.axes if read.keeps_dims(step.node) else [one for at, one in enumerate(field.axes) if at not in gone]
    if step.node.op_type == "ReduceMean":
        return _over_places(field, kept)
    found = _over_places(field, kept)
    count = np.asarray(float(math.prod(_places(field))))
    return found.of(intervals.scaled(found.spread, *found.by_channel(count)))


def _batch_normalization(step: Step) -> Field:
    if is_training(step.scope, step.node) or not step.field().lies("N", "C", "H", "W"):
        raise NoBoundError("BatchNormalization of another kind")
    gamma, beta, mean, variance = (step.needed(at).astype(np.float64).reshape(-1) for at in range(1, 5))
    factor = gamma / np.sqrt(variance + read.epsilon(step.node))
    one = intervals.shifted(step.field().spread, -mean, -mean)
    one = intervals.scaled(one, np.nextafter(factor, -np.inf), np.nextafter(factor, np.inf))
    return step.field().of(intervals.shifted(one, beta, beta))


LAYOUT: Final[Mapping[str, Rule]] = {
    "Concat": _concat,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Pad": _pad,
    "GlobalAveragePool": _global_mean,
    "GlobalMaxPool": _global_max,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_mean,
    "BatchNormalization": _batch_normalization,
}
