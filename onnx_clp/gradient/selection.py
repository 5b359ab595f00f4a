"""Operators that read along an axis by a rule of their own: Slice, Gather, Pad with edge values, Resize.

Along one axis each is y = M·x with a matrix M that does not depend on x, so the gradient is Mᵀ·g. Slice, Gather and
Pad pick (a row of M holds a single 1), and M comes from sending 0, 1, 2, … through the operator itself; Resize
interpolates, and M is the resized unit matrix.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import TensorProto

from onnx_clp.gradient.tape import BackStep, Gradients, Rules, sizes
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read, windows

_INT64: Final = TensorProto.INT64


def _back(gradient: Term, matrix: Term, axis: int, rank: int) -> Term:
    """Mᵀ·g along an axis, M of shape (output, input)."""
    if axis == rank - 1:
        return gradient.op("MatMul", matrix)
    if axis == rank - 2:
        return matrix.transpose([1, 0]).op("MatMul", gradient, data_type=gradient.data_type)
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    return gradient.transpose(swap).op("MatMul", matrix).transpose(swap)


def _picking(step: BackStep, index: Term, axis: int) -> Term:
    """The matrix that picks the elements `index` (int64 vector) along an axis of the first input."""
    return index.unsqueeze([1]).equals(_positions(step, axis)).cast(step.gradient.data_type)


def _size(step: BackStep, axis: int) -> Term:
    """The size of the first input along an axis, int64 vector of one."""
    known = sizes(step, 0, [axis])
    if known is not None:
        return step.writer.ints(known)
    return step.writer.shape(step.input()).slice([axis], [axis + 1], [0], [1])


def _positions(step: BackStep, axis: int) -> Term:
    """0, 1, 2, … along an axis of the first input."""
    known = sizes(step, 0, [axis])
    return step.writer.ints(range(known[0])) if known is not None else _count_up(_size(step, axis).squeeze([0]))


def _count_up(end: Term) -> Term:
    zero, one = (end.writer.constant(n, _INT64) for n in (0, 1))
    return zero.op("Range", end, one)


def _entry(step: BackStep, slot: int, at: int) -> Term:
    """One entry of a vector input, as a vector of one."""
    known = step.constant(slot)
    if known is not None:
        return step.writer.ints([int(known.reshape(-1)[at])])
    return step.input(slot).slice([at], [at + 1], [0], [1]).cast(_INT64)


# Slice


def _slice(step: BackStep) -> Gradients:
    """Put the gradient back where it was read, zeros elsewhere."""
    step.only(0)
    rank = step.rank()
    axes = _named_axes(step, rank)
    gradient = step.gradient
    for at, axis in enumerate(axes):
        gradient = _unsliced(step, gradient, at, axis, rank)
    return {0: gradient}


def _named_axes(step: BackStep, rank: int) -> list[int]:
    """The axes of an optional input, by default as many as the first parameter has entries."""
    if not read.AXES.left_out(step.node):
        named = read.AXES.of(step.node, step.known)
        if named is None:
            raise step.refuse("its axes are not constant")
        return [a % rank for a in named]
    count = step.writer.values.static(step.node.input[1])
    if count is None:
        raise step.refuse("the number of its axes is not known")
    return list(range(count[0]))


def _unsliced(step: BackStep, gradient: Term, at: int, axis: int, rank: int) -> Term:
    start, end, stride = step.constant(1), step.constant(2), step.constant(4)
    known = sizes(step, 0, [axis])
    if known is None or start is None or end is None or (step.has(4) and stride is None):
        return _scattered(step, gradient, at, axis, rank)
    by = int(stride.reshape(-1)[at]) if stride is not None else 1
    taken = np.arange(known[0])[slice(*_limits(int(start.reshape(-1)[at]), int(end.reshape(-1)[at]), by, known[0]))]
    if by == 1 and taken.size:
        return _bordered(gradient, axis, rank, int(taken[0]), known[0] - 1 - int(taken[-1]))
    inverse = np.full(known[0], taken.size)
    inverse[taken] = np.arange(taken.size)
    return _bordered(gradient, axis, rank, 0, 1).op("Gather", step.writer.ints(inverse.tolist()), axis=axis)


def _limits(start: int, end: int, by: int, size: int) -> tuple[int, int | None, int]:
    """ONNX start and end (clamped, negative ones counted from the end) as Python's slice takes them."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if by > 0:
        return min(max(start, 0), size), min(max(end, 0), size), by
    last = min(max(end, -1), size - 1)
    return min(max(start, -1), size - 1), None if last < 0 else last, by


def _bordered(gradient: Term, axis: int, rank: int, before: int, after: int) -> Term:
    """The gradient with zeros before and after it along an axis."""
    if not before and not after:
        return gradient
    pads = [0] * (2 * rank)
    pads[axis], pads[rank + axis] = before, after
    return gradient.op("Pad", gradient.writer.ints(pads))


def _scattered(step: BackStep, gradient: Term, at: int, axis: int, rank: int) -> Term:
    """The same with numbers that are known only while the model runs."""
    by = _entry(step, 4, at) if step.has(4) else step.writer.ints([1])
    zero = step.writer.ints([0])
    taken = _positions(step, axis).op("Slice", _entry(step, 1, at), _entry(step, 2, at), zero, by)
    count = step.writer.shape(taken)
    nowhere = count.expand(_size(step, axis))
    inverse = nowhere.op("ScatterElements", taken, _count_up(count.squeeze([0])), axis=0)
    return _bordered(gradient, axis, rank, 0, 1).op("Gather", inverse, axis=axis)


# Gather


def _gather(step: BackStep) -> Gradients:
    """Add the gradient up where its elements were read."""
    step.only(0)
    writer, rank = step.writer, step.rank()
    axis = read.axis(step.node) % rank
    index = step.input(1).cast(_INT64).reshape([-1])
    index = (index < 0).choose(index + _size(step, axis), index)
    shape = writer.shape(step.input())
    before, after = shape.slice([0], [axis], [0], [1]), shape.slice([axis + 1], [rank], [0], [1])
    merged = step.gradient.reshape(writer.op("Concat", before, writer.ints([-1]), after, axis=0))
    return {0: _back(merged, _picking(step, index, axis), axis, rank)}


# Pad


def _pad(step: BackStep) -> Gradients:
    """Constant borders: the part inside them. Other modes: each border goes back to where its values were read."""
    step.only(0)
    mode = windows.pad_mode(step.node)
    if mode == "constant":
        return {0: _inside(step)}
    rank, gradient = step.rank(), step.gradient
    axes = _named_axes(step, rank) if step.has(3) else list(range(rank))
    known = step.constant(1)
    for at, axis in enumerate(axes):
        if known is not None and not known[at] and not known[len(axes) + at]:
            continue
        pads = step.writer.op("Concat", _entry(step, 1, at), _entry(step, 1, len(axes) + at), axis=0)
        index = _positions(step, axis).op("Pad", pads, mode=mode)
        gradient = _back(gradient, _picking(step, index, axis), axis, rank)
    return {0: gradient}


def _inside(step: BackStep) -> Term:
    """The gradient without the borders; where Pad cut (negative pads) zeros are put back."""
    pads, rank = step.constant(1), step.rank()
    if pads is None or (pads < 0).any():
        more = ["", step.node.input[3]] if step.has(3) else []
        return step.writer.op("Pad", step.gradient, (-step.input(1)).name, *more)
    axes = _named_axes(step, rank) if step.has(3) else list(range(rank))
    count = len(axes)
    cut = [at for at in range(count) if pads[at] or pads[count + at]]
    if not cut:
        return step.gradient
    ends = [-int(pads[count + at]) or int(np.iinfo(np.int64).max) for at in cut]
    return step.gradient.slice([int(pads[at]) for at in cut], ends, [axes[at] for at in cut], [1] * len(cut))


# Resize


def _resize(step: BackStep) -> Gradients:
    """Every mode: along each axis y = M·x, M the unit matrix resized the same way."""
    step.only(0)
    if windows.crops(step.node):
        raise step.refuse("its coordinate_transformation_mode is tf_crop_and_resize")
    if windows.keeps_ratio(step.node):
        raise step.refuse("its keep_aspect_ratio_policy is not stretch")
    rank, gradient = step.rank(), step.gradient
    named = read.AXES.of(step.node, step.known)
    axes = [a % rank for a in (range(rank) if named is None else named)]
    for at, axis in enumerate(axes):
        if not _stays(step, at, axis):
            gradient = _back(gradient, _resized_unit(step, at, axis), axis, rank)
    return {0: gradient}


def _stays(step: BackStep, at: int, axis: int) -> bool:
    """Whether an axis keeps its size."""
    scales = step.constant(2)
    if scales is not None and scales.size:
        return float(scales.reshape(-1)[at]) == 1.0
    before, after = step.dims(), step.writer.values.dims(step.node.output[0])
    return before is not None and after is not None and before[axis] is not None and before[axis] == after[axis]


def _resized_unit(step: BackStep, at: int, axis: int) -> Term:
    writer = step.writer
    size = _size(step, axis)
    unit = step.gradient.like(0.0).expand(writer.op("Concat", size, size, axis=0)).op("EyeLike")
    kept = windows.attributes_of_all_axes(step.node)
    if step.has(3):
        wanted = writer.op("Concat", _entry(step, 3, at), size, axis=0)
        return writer.op("Resize", unit, "", "", wanted, **kept)
    scales = step.constant(2)
    one = writer.constant([1.0], TensorProto.FLOAT)
    if scales is not None:
        factor = writer.constant(scales.reshape(-1)[at : at + 1], TensorProto.FLOAT)
    else:
        factor = step.input(2).slice([at], [at + 1], [0], [1])
    return writer.op("Resize", unit, "", writer.op("Concat", factor, one, axis=0), **kept)


GRADIENTS: Final[Rules] = {"Slice": _slice, "Gather": _gather, "Pad": _pad, "Resize": _resize}
