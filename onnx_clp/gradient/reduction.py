"""Reduce* operators, the global pools and the Softmax family.

Where several elements share the largest (smallest) value, ReduceMax and GlobalMaxPool (ReduceMin) give each an
equal share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from onnx import TensorProto

from onnx_clp.gradient.tape import BackStep, Gradients, Rule, Rules, shape_of, sizes
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read


def axes_of(step: BackStep) -> list[int] | None:
    """The axes a node names, as attribute or as constant input; None where it names none.

    Raises:
        UnsupportedModelError: they are computed while the model runs.
    """
    found = read.AXES.of(step.node, step.known)
    if found is None and not read.AXES.left_out(step.node):
        raise step.refuse("its axes are not constant")
    return None if found is None else list(found)


def _over(step: BackStep) -> list[int] | None:
    """The axes a Reduce* node works on; None for all of them."""
    return axes_of(step) or None


def _keeps_all(step: BackStep) -> bool:
    return read.idle_without_axes(step.node) and not axes_of(step)


def _kept(step: BackStep, value: Term) -> Term:
    """A value of the result's shape, the reduced axes put back with size 1."""
    axes = _over(step)
    if read.keeps_dims(step.node) or _keeps_all(step):
        return value
    if axes is None:
        return value  # a scalar broadcasts as it is
    rank = step.rank()
    return value.unsqueeze(sorted(a % rank for a in axes))


def _spread(step: BackStep, gradient: Term) -> Term:
    return _kept(step, gradient).expand(shape_of(step))


def _count(step: BackStep) -> Term | float:
    """How many elements one element of the result was made from."""
    axes, dims = _over(step), step.dims()
    if dims is None:
        return _ratio(step)
    return _count_over(step, axes if axes is not None else range(len(dims)))


def _count_over(step: BackStep, axes: Sequence[int]) -> Term | float:
    known = sizes(step, 0, axes)
    return _ratio(step) if known is None else float(math.prod(known))


def _ratio(step: BackStep) -> Term:
    whole, part = (v.op("Size", data_type=TensorProto.INT64) for v in (step.input(), step.result))
    return (whole / part).cast(step.input().data_type)


def _reduce_sum(step: BackStep) -> Gradients:
    step.only(0)
    return {0: step.gradient if _keeps_all(step) else _spread(step, step.gradient)}


def _reduce_mean(step: BackStep) -> Gradients:
    step.only(0)
    if _keeps_all(step):
        return {0: step.gradient}
    return {0: _spread(step, step.gradient / _count(step))}


def _reduce_extreme(step: BackStep) -> Gradients:
    step.only(0)
    if _keeps_all(step):
        return {0: step.gradient}
    x = step.input()
    chosen = x.equals(_kept(step, step.result)).cast(x.data_type)
    axes = _over(step)
    shared = _kept(step, step.gradient) / chosen.sum(axes, keepdims=True)
    return {0: chosen * shared}


def _slope(slope: Callable[[Term, Term], Term]) -> Rule:
    """The rule of a reduction with dy/dx = slope(x, y), y put back to x's axes."""

    def rule(step: BackStep) -> Gradients:
        step.only(0)
        return {0: _kept(step, step.gradient) * slope(step.input(), _kept(step, step.result))}

    return rule


def _global_max(step: BackStep) -> Gradients:
    """GlobalMaxPool: as ReduceMax over the axes after the second."""
    x = step.input()
    chosen = x.equals(step.result).cast(x.data_type)
    axes: Sequence[int] = range(2, step.rank())
    return {0: chosen * (step.gradient / chosen.sum(axes, keepdims=True))}


def _global_average(step: BackStep) -> Gradients:
    """GlobalAveragePool: the mean over the axes after the second."""
    return {0: (step.gradient / _count_over(step, range(2, step.rank()))).expand(shape_of(step))}


def _softmax(step: BackStep) -> Gradients:
    """dx = y·(g − Σ g·y) along the axis (operator version 13)."""
    y, gradient = step.result, step.gradient
    weighted = gradient * y
    return {0: weighted - y * weighted.sum([read.axis(step.node)], keepdims=True)}


def _log_softmax(step: BackStep) -> Gradients:
    """dx = g − exp(y)·Σ g along the axis (operator version 13)."""
    gradient = step.gradient
    total = gradient.sum([read.axis(step.node)], keepdims=True)
    return {0: gradient - step.result.exp() * total}


GRADIENTS: Final[Rules] = {
    "ReduceSum": _reduce_sum,
    "ReduceMean": _reduce_mean,
    "ReduceMax": _reduce_extreme,
    "ReduceMin": _reduce_extreme,
    "ReduceSumSquare": _slope(lambda x, _y: x * 2.0),
    "ReduceL1": _slope(lambda x, _y: x.op("Sign")),
    "ReduceL2": _slope(lambda x, y: x / y),
    "ReduceLogSumExp": _slope(lambda x, y: (x - y).exp()),
    "GlobalMaxPool": _global_max,
    "GlobalAveragePool": _global_average,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
}
