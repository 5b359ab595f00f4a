"""Operators that work on each element: one input, several with broadcasting, and choices between values.

Where a function has a corner its gradient there is that of one side: Relu, LeakyRelu and PRelu take the left
one at 0, Clip passes the gradient at its bounds, Min and Max give all of it to the first input that equals the
result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Final

from onnx_clp.gradient.broadcast import reduced
from onnx_clp.gradient.tape import BackStep, Gradients, Rule, Rules
from onnx_clp.gradient.writer import FLOATS, Term
from onnx_clp.operators import read

Derivative = Callable[[BackStep, Term, Term], Term]
"""dy/dx of a step, from its first input x and its first output y."""

_SELU: Final = (1.6732632423543772, 1.0507009873554805)


def _each(derivative: Derivative) -> Rule:
    """The rule of an operator with one differentiable input: g · dy/dx."""

    def rule(step: BackStep) -> Gradients:
        step.only(0)
        return {0: step.gradient * derivative(step, step.input(), step.result)}

    return rule


def _where(condition: Term, gradient: Term) -> Term:
    """The gradient where a condition holds, else 0; a product, which ONNX Runtime computes faster than Where."""
    return gradient * condition.cast(gradient.data_type)


def _relu(step: BackStep) -> Gradients:
    return {0: _where(step.result > 0.0, step.gradient)}


def _leaky_relu(step: BackStep) -> Gradients:
    slope = read.alpha(step.node)
    return {0: (step.input() > 0.0).choose(step.gradient, step.gradient * slope)}


def _prelu(step: BackStep) -> Gradients:
    out = {}
    x, slope, gradient = step.input(0), step.input(1), step.gradient
    positive = x > 0.0
    if step.wants(0):
        out[0] = positive.choose(gradient, gradient * slope)
    if step.wants(1):
        out[1] = reduced(step, positive.choose(0.0, gradient * x), 1)
    return out


def _clip(step: BackStep) -> Gradients:
    """min(max(x, low), high): the gradient is x's inside, a bound's where it holds x back."""
    x, gradient, out = step.input(), step.gradient, {}
    outside: dict[int, Term] = {}
    if step.has(1):
        outside[1] = x < step.input(1)
    if step.has(2):
        outside[2] = x > step.input(2)
    if step.wants(0):
        beyond = reduce(lambda a, b: a.op("Or", b), outside.values()) if outside else None
        out[0] = gradient if beyond is None else _where(beyond.op("Not"), gradient)
    out.update({slot: _where(held, gradient).sum() for slot, held in outside.items() if step.wants(slot)})
    return out


def _hard_sigmoid(step: BackStep) -> Gradients:
    y = step.result
    slope = read.alpha(step.node)
    return {0: _where((y > 0.0).op("And", y < 1.0), step.gradient * slope)}


def _hard_swish(_step: BackStep, x: Term, _y: Term) -> Term:
    middle = x * (1 / 3) + 0.5
    return (x > 3.0).choose(1.0, (x > -3.0).choose(middle, 0.0))


def _elu(step: BackStep, x: Term, y: Term) -> Term:
    return (x > 0.0).choose(1.0, y + read.alpha(step.node))


def _selu(step: BackStep, x: Term, y: Term) -> Term:
    alpha, gamma = read.alpha(step.node), read.gamma(step.node)
    return (x > 0.0).choose(gamma, y + alpha * gamma)


def _celu(step: BackStep, x: Term, y: Term) -> Term:
    alpha = read.alpha(step.node)
    return (x > 0.0).choose(1.0, y * (1 / alpha) + 1.0)


def _gelu(step: BackStep, x: Term, _y: Term) -> Term:
    if read.gelu_by_tanh(step.node):
        root = math.sqrt(2 / math.pi)
        tanh = (root * (x + 0.044715 * (x * x * x))).op("Tanh")
        slope = root * (1.0 + (3 * 0.044715) * x.square())
        return 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh.square()) * slope
    density = (x.square() * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
    return 0.5 * (1.0 + (x * math.sqrt(0.5)).op("Erf")) + x * density


def _softplus(_step: BackStep, x: Term, _y: Term) -> Term:
    return x.op("Sigmoid")


def _mish(_step: BackStep, x: Term, _y: Term) -> Term:
    tanh = x.op("Softplus").op("Tanh")
    return tanh + x * (1.0 - tanh.square()) * x.op("Sigmoid")


def _swish(step: BackStep, x: Term, y: Term) -> Term:
    alpha = read.alpha(step.node)
    gate = (x * alpha).op("Sigmoid")
    return gate + alpha * y * (1.0 - gate)


def _thresholded(step: BackStep) -> Gradients:
    return {0: _where(step.input() > read.alpha(step.node), step.gradient)}


# Two and more inputs


def _add(step: BackStep) -> Gradients:
    return {slot: reduced(step, step.gradient, slot) for slot in range(len(step.node.input)) if step.wants(slot)}


def _mean(step: BackStep) -> Gradients:
    share = step.gradient * (1 / len(step.node.input))
    return {slot: reduced(step, share, slot) for slot in range(len(step.node.input)) if step.wants(slot)}


def _sub(step: BackStep) -> Gradients:
    out = {}
    if step.wants(0):
        out[0] = reduced(step, step.gradient, 0)
    if step.wants(1):
        out[1] = -reduced(step, step.gradient, 1)
    return out


def _mul(step: BackStep) -> Gradients:
    return {slot: reduced(step, step.gradient * step.input(1 - slot), slot) for slot in (0, 1) if step.wants(slot)}


def _div(step: BackStep) -> Gradients:
    out = {}
    share = step.gradient / step.input(1)
    if step.wants(0):
        out[0] = reduced(step, share, 0)
    if step.wants(1):
        out[1] = -reduced(step, share * step.result, 1)
    return out


def _pow(step: BackStep) -> Gradients:
    out = {}
    x, exponent = step.input(0), step.input(1).cast(step.input(0).data_type)
    if step.wants(0):
        known = step.constant(1)
        if known is not None and known.size == 1 and float(known.reshape(-1)[0]) == 2.0:
            slope = x * 2.0
        else:
            slope = exponent * (x ** (exponent - 1.0))
        out[0] = reduced(step, step.gradient * slope, 0)
    if step.wants(1):
        share = step.gradient * step.result * x.log()
        out[1] = reduced(step, share, 1)
    return out


def _extreme(step: BackStep) -> Gradients:
    out = {}
    taken: Term | None = None
    for slot in range(len(step.node.input)):
        mine = step.input(slot).equals(step.result)
        first = mine if taken is None else mine.op("And", taken.op("Not"))
        taken = mine if taken is None else taken.op("Or", mine)
        if step.wants(slot):
            out[slot] = reduced(step, _where(first, step.gradient), slot)
    return out


def _choice(step: BackStep) -> Gradients:
    out = {}
    if step.wants(1):
        out[1] = reduced(step, step.input(0).choose(step.gradient, 0.0), 1)
    if step.wants(2):
        out[2] = reduced(step, step.input(0).choose(0.0, step.gradient), 2)
    return out


# The same values


def _identity(step: BackStep) -> Gradients:
    return {0: step.gradient}


def _cast(step: BackStep) -> Gradients:
    kind = step.input().data_type
    return {0: step.gradient.cast(kind) if kind in FLOATS else step.gradient}


def _dropout(step: BackStep) -> Gradients:
    training = step.constant(2)
    if step.has(2) and (training is None or bool(training)):
        raise step.refuse("it may run in training mode, where its output is random")
    return {0: step.gradient}


GRADIENTS: Final[Rules] = {
    "Relu": _relu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Clip": _clip,
    "Sigmoid": _each(lambda _s, _x, y: y * (1.0 - y)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _each(_hard_swish),
    "Tanh": _each(lambda _s, _x, y: 1.0 - y.square()),
    "Elu": _each(_elu),
    "Selu": _each(_selu),
    "Celu": _each(_celu),
    "Gelu": _each(_gelu),
    "Erf": _each(lambda _s, x, _y: (-x.square()).exp() * (2 / math.sqrt(math.pi))),
    "Softplus": _each(_softplus),
    "Softsign": _each(lambda _s, x, _y: 1.0 / (1.0 + x.abs()).square()),
    "Mish": _each(_mish),
    "Swish": _each(_swish),
    "ThresholdedRelu": _thresholded,
    "Exp": _each(lambda _s, _x, y: y),
    "Log": _each(lambda _s, x, _y: 1.0 / x),
    "Sqrt": _each(lambda _s, _x, y: 0.5 / y),
    "Abs": _each(lambda _s, x, _y: x.op("Sign")),
    "Neg": lambda step: {0: -step.gradient},
    "Reciprocal": _each(lambda _s, _x, y: -y.square()),
    "Sin": _each(lambda _s, x, _y: x.op("Cos")),
    "Cos": _each(lambda _s, x, _y: -x.op("Sin")),
    "Add": _add,
    "Sum": _add,
    "Mean": _mean,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Pow": _pow,
    "Min": _extreme,
    "Max": _extreme,
    "Where": _choice,
    "Identity": _identity,
    "Cast": _cast,
    "CastLike": _cast,
    "Dropout": _dropout,
}
