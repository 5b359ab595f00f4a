"""What follows a value, evaluated as if a channel of it were silent: the constant 0, or another one.

Elementwise operators are computed, operators that move or pool values pass the constant on, and whatever sums over
channels ends the walk: there it has to be 0. Of an operator without a rule nothing is known.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex, Use
from onnx_clp.judge.own_channel import is_own_mean, keeps_channels
from onnx_clp.layers.weights import float_type
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import MICROSOFT, is_op, operator
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait
from onnx_clp.verdicts import LayerStatus

Array = NDArray[Any]
Function = Callable[[NodeProto, Array], Array]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _hard_sigmoid(node: NodeProto, x: Array) -> Array:
    return np.clip(read.alpha(node) * x + read.beta(node), 0, 1)


def _leaky(slope: float, x: Array) -> Array:
    return np.where(x < 0, slope * x, x)


# Elementwise operators with one data input, as functions of a constant input.
NONLINEAR: Final[dict[str, Function]] = {
    "Relu": lambda _, x: np.maximum(x, 0),
    "LeakyRelu": lambda n, x: _leaky(read.alpha(n), x),
    "QLinearLeakyRelu": lambda n, x: _leaky(read.alpha(n), x),
    "PRelu": lambda _, x: _leaky(0.25, x),
    "ThresholdedRelu": lambda n, x: np.where(x > read.alpha(n), x, 0),
    "Elu": lambda n, x: np.where(x < 0, read.alpha(n) * np.expm1(x), x),
    "Selu": lambda _, x: np.where(x < 0, 1.758 * np.expm1(x), 1.0507 * x),
    "Celu": lambda _, x: np.where(x < 0, np.expm1(x), x),
    "Sigmoid": lambda _, x: _sigmoid(x),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": lambda _, x: np.tanh(x),
    "Softsign": lambda _, x: x / (1 + np.abs(x)),
    "Softplus": lambda _, x: np.log1p(np.exp(x)),
    "HardSwish": lambda _, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Gelu": lambda _, x: x * _sigmoid(1.702 * x),
    "QuickGelu": lambda _, x: x * _sigmoid(1.702 * x),
    "Mish": lambda _, x: x * np.tanh(np.log1p(np.exp(x))),
    "Swish": lambda _, x: x * _sigmoid(x),
    "Erf": lambda _, x: np.tanh(1.2 * x),
    "Exp": lambda _, x: np.exp(x),
    "Abs": lambda _, x: np.abs(x),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Sin": lambda _, x: np.sin(x),
    "Cos": lambda _, x: np.cos(x),
    "Cosh": lambda _, x: np.cosh(x),
    "Sinh": lambda _, x: np.sinh(x),
    "Tan": lambda _, x: np.tan(x),
    "Atan": lambda _, x: np.arctan(x),
    "Acos": lambda _, x: np.arccos(x),
    "Log": lambda _, x: np.log(x),
    "Reciprocal": lambda _, x: 1 / x,
    "Round": lambda _, x: np.round(x),
    "Floor": lambda _, x: np.floor(x),
    "Ceil": lambda _, x: np.ceil(x),
    "Sign": lambda _, x: np.sign(x),
}
BINARY: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}
# They read a silent channel and nothing of it goes on: sums over channels, and what they stand beside.
_ENDING: Final = (
    *(Kind.LINEAR, Kind.RECURRENT, Kind.ATTEND, Kind.JOINT, Kind.COMPARE, Kind.PICK, Kind.SCATTER, Kind.SEARCH),
    *(Kind.SIZES, Kind.RESAMPLE, Kind.QUANTISE),
)
_SMALL: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Ineligible:
    """Why a layer's channels may not be pruned."""

    status: LayerStatus
    sentence: str


def _passes(node: NodeProto) -> bool:
    """Whether a constant goes on as it is, or as its negative: moved, pooled, or stored in another type.

    What a Pad puts around, and what a Concat joins, is no part of the channel.
    """
    if is_a(node, Kind.PICK, Kind.SEARCH):
        return False
    stored = is_a(node, Kind.RETYPE, Kind.QUANTISE) and keeps(node, Trait.CHANNELS)
    return stored or keeps(node, Trait.EVEN) or is_op(node, "Neg", "Pad", "Concat")


def _ends(node: NodeProto) -> bool:
    return (
        is_a(node, *_ENDING)
        or (is_a(node, Kind.REDUCE) and keeps(node, Trait.NEUTRAL))
        or keeps(node, Trait.READS_SHAPE)
        or (node.domain == MICROSOFT and is_a(node, Kind.LAYOUT, Kind.POOL, Kind.GLOBAL_POOL, Kind.REDUCE))
    )


class Silence:
    """Evaluates what follows a value as if the value were 0 (or another constant)."""

    def __init__(self, scope: GraphIndex, name: str, value: float = 0.0) -> None:
        self._scope = scope
        self._position = scope.positions()
        self._values: dict[str, Array] = {name: np.asarray(value)}
        self._queue: list[tuple[int, int]] = []
        self._queued: set[int] = set()
        self._nodes: dict[int, NodeProto] = {}
        self._trouble: Ineligible | None = None
        self._push(name)

    def trouble(self) -> Ineligible | None:
        """What goes wrong, if anything."""
        with np.errstate(all="ignore"):
            while self._queue and self._trouble is None:
                _, key = heapq.heappop(self._queue)
                self._visit(self._nodes[key])
        return self._trouble

    def _push(self, name: str) -> None:
        for use in self._scope.uses(name):
            if use.node is None or use.scope is not self._scope:
                self._end(name, use)
            elif id(use.node) not in self._queued:
                self._queued.add(id(use.node))
                self._nodes[id(use.node)] = use.node
                heapq.heappush(self._queue, (self._position[id(use.node)], id(use.node)))

    def _end(self, name: str, use: Use | NodeProto) -> None:
        """The value reaches something that is no elementwise operator: it must be 0 there."""
        if np.any(self._values[name] != 0):
            node = use if isinstance(use, NodeProto) else use.node
            where = "a graph output" if node is None else operator(node)
            self._fail(f"a silent channel would not reach {where} as 0")

    def _fail(self, sentence: str, status: LayerStatus = LayerStatus.NOT_ZERO_KEEPING) -> None:
        self._trouble = self._trouble or Ineligible(status, sentence)

    def _give(self, node: NodeProto, value: Array) -> None:
        for name in node.output:
            if name:
                self._values[name] = value
                self._push(name)

    def _visit(self, node: NodeProto) -> None:
        known = next(n for n in node.input if n in self._values)
        value = self._values[known]
        if _passes(node):
            self._give(node, -value if node.op_type == "Neg" else value)
        elif is_op(node, "Clip"):
            self._turn(node, self._clipped(node, value))
        elif is_a(node, Kind.POINTWISE) and node.input[0] == known:
            self._bend(node, value)
        elif is_op(node, *BINARY) and len(node.input) == 2:
            self._combine(node, known)
        elif keeps_channels(self._scope, node, self._values) and not np.any(value != 0):
            self._give(node, value)
        elif _ends(node):
            self._end(known, node)
        elif keeps(node, Trait.ZERO | Trait.CHANNELS) and not is_a(node, Kind.NORMALISE) and not np.any(value != 0):
            self._give(node, value)
        else:
            self._unknown(node)

    def _bend(self, node: NodeProto, value: Array) -> None:
        """An operator of one operand, by its rule, or where it keeps zeros."""
        if node.op_type in NONLINEAR and self._is_exact(node):
            self._turn(node, NONLINEAR[node.op_type](node, value))
        elif keeps(node, Trait.ZERO) and not np.any(value != 0):
            self._turn(node, value)
        else:
            self._unknown(node)

    def _unknown(self, node: NodeProto) -> None:
        """A normalisation, which mixes channels or shifts them, or an operator that nothing is known of."""
        if is_a(node, Kind.NORMALISE, Kind.SHARE):
            sentence = f"what a silent channel becomes behind {operator(node)} is not known"
        else:
            sentence = f"what {operator(node)} makes of a silent channel is not known"
        self._fail(sentence, LayerStatus.UNJUDGEABLE)

    def _is_exact(self, node: NodeProto) -> bool:
        return node.op_type != "Gelu" or read.gelu_by_tanh(node) is not None

    def _turn(self, node: NodeProto, value: Array) -> None:
        """A nonlinearity: a channel that is 0 behind it is off; any other value goes on."""
        if np.any(value != 0):
            self._give(node, value)

    def _clipped(self, node: NodeProto, value: Array) -> Array:
        low, high = read.clip_limits(node, self._operand)
        return np.minimum(np.maximum(value, -math.inf if low is None else low), math.inf if high is None else high)

    def _operand(self, name: str) -> Array | None:
        if name in self._values:
            return self._values[name]
        found = self._scope.constant(name)
        if found is None or found.size >= _SMALL or (float_type(found.dtype) is None and found.dtype.kind not in "iu"):
            return None
        return as_float64(found)

    def _combine(self, node: NodeProto, known: str) -> None:
        operands = [self._operand(name) for name in node.input]
        if operands[0] is not None and operands[1] is not None:
            try:
                value = BINARY[node.op_type](operands[0], operands[1])
            except ValueError:
                return self._end(known, node)
            alike = node.input[0] == node.input[1] and node.op_type in ("Mul", "Div")
            clips = alike or node.op_type in ("Max", "Min", "Pow")
            return self._turn(node, value) if clips else self._give(node, value)
        other = node.input[0] if node.input[1] == known else node.input[1]
        if node.op_type in ("Sub", "Div") and is_own_mean(self._scope, other, self._values):
            return self._fail(
                "a normalisation is written out behind it, and what a silent channel becomes there is not known",
                LayerStatus.UNJUDGEABLE,
            )
        silent = not np.any(self._values[known] != 0)
        if silent and not (node.op_type == "Div" and node.input[1] == known):
            return None  # 0 joins a sum, a product or a maximum: nothing of the channel goes on
        if node.op_type == "Mul":
            return self._fail("its output scales other channels", LayerStatus.GATE)
        return self._end(known, node)
