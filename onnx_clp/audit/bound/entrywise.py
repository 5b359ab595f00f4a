"""How bounds pass what works entry by entry, of one operand or of several (ONNX operator specifications)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.audit.bound.step import Rule, Step
from onnx_clp.numerics import intervals
from onnx_clp.numerics.intervals import Float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import operator

Array = NDArray[Any]

_SIXTHS: Final = (1 / 6, float(np.float32(1 / 6)))
"""The slope within HardSwish, as it is defined and as runtimes that follow its function body have it."""


_Ends = Callable[[Float64, Float64], Sequence[Float64]]


def _monotone(function: Callable[[Float64], Float64], slope: float) -> Rule:
    return lambda step: _applied(step.field(), lambda low, high: (function(low), function(high)), slope)


def _applied(field: Field, ends: _Ends, slope: Float64 | float) -> Field:
    return field.of(intervals.applied(field.spread, ends, slope))


def _between(low: Float64, high: Float64, value: float) -> Float64:
    """The value, where it lies in the interval, else the nearest end of that."""
    return np.asarray(np.clip(value, low, high))


def _bent(slope_below: Float64 | float, field: Field) -> Field:
    """x above 0, slope_below · x below."""

    def function(x: Float64) -> Float64:
        return np.asarray(np.where(x >= 0, x, slope_below * x))

    steepest = np.maximum(1.0, np.abs(slope_below))
    return _applied(
        field, lambda low, high: (function(low), function(high), function(_between(low, high, 0.0))), steepest
    )


def _prelu(step: Step) -> Field:
    low, high = step.field().by_channel(step.needed(1))
    if not np.array_equal(low, high):
        raise NoBoundError("PRelu with slopes that differ by place")
    return _bent(low, step.field())


def _elu(step: Step) -> Field:
    alpha = read.alpha(step.node)
    if alpha < 0:
        raise NoBoundError("Elu with a negative alpha")
    function = partial(_elu_of, alpha)
    return _applied(step.field(), lambda low, high: (function(low), function(high)), max(1.0, alpha))


def _elu_of(alpha: float, x: Float64) -> Float64:
    return np.asarray(np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))))


def _hard_sigmoid(step: Step) -> Field:
    alpha, beta = read.alpha(step.node), read.beta(step.node)
    return _applied(
        step.field(),
        lambda low, high: (np.clip(alpha * low + beta, 0, 1), np.clip(alpha * high + beta, 0, 1)),
        abs(alpha),
    )


def _hard_swish(step: Step) -> Field:
    def ends(low: Float64, high: Float64) -> Sequence[Float64]:
        """Where x · clip(x/6 + 0.5, 0, 1) may be least or largest: at the ends and at its lowest point, at -1.5."""
        return [
            x * np.clip(alpha * x + 0.5, 0, 1)
            for alpha in _SIXTHS
            for x in (low, high, _between(low, high, -0.25 / alpha))
        ]

    return _applied(step.field(), ends, 1.5 + 1e-6)


def _clip(step: Step) -> Field:
    low, high = read.clip_limits(step.node, step.value)
    if low is None or high is None:
        raise NoBoundError("Clip with limits that are not constant")
    # Where the lower limit lies above the upper one, that one holds (opset 13).
    return _applied(
        step.field(), lambda a, b: (np.minimum(np.maximum(a, low), high), np.minimum(np.maximum(b, low), high)), 1
    )


def _sigmoid(x: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-x)))


def _abs(step: Step) -> Field:
    return _applied(step.field(), lambda low, high: (np.abs(low), np.abs(high), np.abs(_between(low, high, 0.0))), 1)


# Of several operands


def _aligned(one: Field, other: Field) -> tuple[Field, Field]:
    """Two values that meet, each at the places of both."""
    one, other = one.stretched(other), other.stretched(one)
    same = one.sizes == other.sizes and one.axes == other.axes
    if not same:
        raise NoBoundError("values of different layouts that meet")
    return one, other


def _met(one: Field, other: Field, join: Callable[..., intervals.Spread]) -> Field:
    one, other = _aligned(one, other)
    rows, columns = one.rows.joined(other.rows), one.columns.joined(other.columns)
    spread = join(one.spread, other.spread, rows.moved * columns.moved)
    return Field(spread, one.axes, one.batch, rows, columns)


def _add(one: Field | Array, other: Field | Array) -> Field | Array:
    if isinstance(one, Field) and isinstance(other, Field):
        return _met(one, other, intervals.added)
    if isinstance(one, Field) and not isinstance(other, Field):
        low, high = one.by_channel(other)
        return replace(one, spread=intervals.shifted(one.spread, low, high))
    return _add(other, one) if isinstance(other, Field) else np.add(np.asarray(one), other)


def _mul(one: Field | Array, other: Field | Array) -> Field | Array:
    if isinstance(one, Field) and isinstance(other, Field):
        return _met(one, other, intervals.multiplied)
    if isinstance(one, Field) and not isinstance(other, Field):
        return one.of(intervals.scaled(one.spread, *one.by_channel(other)))
    return _mul(other, one) if isinstance(other, Field) else np.multiply(np.asarray(one), other)


def _pick(pick: Callable[..., Array]) -> Callable[[Field | Array, Field | Array], Field | Array]:
    def chosen(one: Field | Array, other: Field | Array) -> Field | Array:
        """What is picked of two operands entry by entry, be they bounds or constants."""
        if isinstance(one, Field) and isinstance(other, Field):
            return _met(one, other, partial(intervals.chosen, pick=pick))
        if isinstance(one, Field) and not isinstance(other, Field):
            least, largest = one.by_channel(other)
            return _applied(one, lambda low, high: (pick(low, least), pick(high, largest)), 1)
        return chosen(other, one) if isinstance(other, Field) else pick(one, other)

    return chosen


def _joint(join: Callable[[Field | Array, Field | Array], Field | Array]) -> Rule:
    def rule(step: Step) -> Field:
        """All operands one after the other."""
        if read.old_broadcast(step.node) != (False, None):
            raise NoBoundError(f"{operator(step.node)} that broadcasts as opset 6 does")
        found = reduce(join, step.operands)
        if not isinstance(found, Field):
            raise NoBoundError(operator(step.node))
        return found

    return rule


def _sub(one: Field | Array, other: Field | Array) -> Field | Array:
    return _add(one, _mul(other, np.asarray(-1.0)))


def _div(one: Field | Array, other: Field | Array) -> Field | Array:
    if isinstance(other, Field) or not np.all(np.asarray(other) != 0):
        raise NoBoundError("a division by what is not constant")
    return _mul(one, 1.0 / np.asarray(other, np.float64))


ENTRYWISE: Final[Mapping[str, Rule]] = {
    "Relu": _monotone(lambda x: np.maximum(x, 0), 1.0),
    "LeakyRelu": lambda step: _bent(read.alpha(step.node), step.field()),
    "PRelu": _prelu,
    "Elu": _elu,
    "Sigmoid": _monotone(_sigmoid, 0.25),
    "Tanh": _monotone(lambda x: np.tanh(x), 1.0),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Softplus": _monotone(lambda x: np.logaddexp(0, x), 1.0),
    "Clip": _clip,
    "Abs": _abs,
    "Neg": _monotone(lambda x: -x, 1.0),
    "Add": _joint(_add),
    "Sum": _joint(_add),
    "Sub": _joint(_sub),
    "Mul": _joint(_mul),
    "Div": _joint(_div),
    "Min": _joint(_pick(np.minimum)),
    "Max": _joint(_pick(np.maximum)),
}
