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
from onnx_clp.judge.by_channel import is_own_mean, keeps_channels
from onnx_clp.layers.weights import float_type
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import MICROSOFT, attribute, input_name, is_op, operator, text_attribute
from onnx_clp.verdicts import LayerStatus

Array = NDArray[Any]
Function = Callable[[NodeProto, Array], Array]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _hard_sigmoid(node: NodeProto, x: Array) -> Array:
    return np.clip(float(attribute(node, "alpha", 0.2)) * x + float(attribute(node, "beta", 0.5)), 0, 1)


def _leaky(slope: float, x: Array) -> Array:
    return np.where(x < 0, slope * x, x)


# Elementwise operators with one data input, as functions of a constant input.
NONLINEAR: Final[dict[str, Function]] = {
    "Relu": lambda _, x: np.maximum(x, 0),
    "LeakyRelu": lambda n, x: _leaky(float(attribute(n, "alpha", 0.01)), x),
    "PRelu": lambda _, x: _leaky(0.25, x),
    "ThresholdedRelu": lambda n, x: np.where(x > float(attribute(n, "alpha", 1.0)), x, 0),
    "Elu": lambda n, x: np.where(x < 0, float(attribute(n, "alpha", 1.0)) * np.expm1(x), x),
    "Selu": lambda _, x: np.where(x < 0, 1.758 * np.expm1(x), 1.0507 * x),
    "Celu": lambda _, x: np.where(x < 0, np.expm1(x), x),
    "Sigmoid": lambda _, x: _sigmoid(x),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": lambda _, x: np.tanh(x),
    "Softsign": lambda _, x: x / (1 + np.abs(x)),
    "Softplus": lambda _, x: np.log1p(np.exp(x)),
    "HardSwish": lambda _, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Gelu": lambda _, x: x * _sigmoid(1.702 * x),
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
LINEAR: Final = frozenset(("Neg", "Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"))
BINARY: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}
# Operators that move or pool values: a constant stays what it is.
MOVING: Final = frozenset(
    [
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "LpPool",
        "GlobalLpPool",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "Resize",
        "Upsample",
        "DepthToSpace",
        "SpaceToDepth",
        "Expand",
        "Tile",
        "Pad",
        "CastLike",
    ]
)
# They read a silent channel and nothing of it goes on: sums over channels, and what they stand beside.
_SUMMING: Final = (
    *("Conv", "ConvTranspose", "DeformConv", "Gemm", "MatMul", "Einsum", "ConvInteger", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul", "LSTM", "GRU", "RNN", "Sum", "Mean", "DynamicQuantizeLinear"),
    *("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ArgMax", "ArgMin", "TopK", "Shape", "Size"),
    *("GridSample", "RoiAlign", "MaxRoiPool", "NonMaxSuppression", "NonZero", "ScatterND", "ScatterElements"),
    *("GatherND", "GatherElements", "Where", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Attention"),
)
_MICROSOFT_SUMMING: Final = (
    *("FusedConv", "FusedGemm", "FusedMatMul", "QGemm", "QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool"),
    *("QLinearAveragePool", "QLinearLeakyRelu", "QLinearReduceMean", "QLinearConv", "MatMulIntegerToFloat"),
    *("DynamicQuantizeMatMul", "BiasGelu", "FastGelu", "Gelu", "QuickGelu", "QuantizeLinear", "DequantizeLinear"),
)
# They take the size of what comes in out again, or mix a channel's silence with the others.
NORMS: Final = (
    *("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "LRN"),
    *("LpNormalization", "MeanVarianceNormalization", "Softmax", "LogSoftmax", "Hardmax"),
)
_SMALL: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Ineligible:
    """Why a layer's channels may not be pruned."""

    status: LayerStatus
    sentence: str


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
        if is_op(node, *LINEAR, *MOVING):
            self._give(node, -value if node.op_type == "Neg" else value)
        elif is_op(node, "Clip"):
            self._turn(node, self._clipped(node, value))
        elif is_op(node, *NONLINEAR) and node.input[0] == known and self._is_exact(node):
            self._turn(node, NONLINEAR[node.op_type](node, value))
        elif is_op(node, *BINARY) and len(node.input) == 2:
            self._combine(node, known)
        elif keeps_channels(self._scope, node, self._values) and not np.any(value != 0):
            self._give(node, value)
        elif is_op(node, *_SUMMING) or (node.domain == MICROSOFT and node.op_type in _MICROSOFT_SUMMING):
            self._end(known, node)
        else:
            self._unknown(node)

    def _unknown(self, node: NodeProto) -> None:
        """A normalisation, which mixes channels or shifts them, or an operator that nothing is known of."""
        if is_op(node, *NORMS, "BatchNormalization"):
            sentence = f"what a silent channel becomes behind {operator(node)} cannot be told"
        else:
            sentence = f"what {operator(node)} makes of a silent channel is not known"
        self._fail(sentence, LayerStatus.UNJUDGEABLE)

    def _is_exact(self, node: NodeProto) -> bool:
        return node.op_type != "Gelu" or text_attribute(node, "approximate", "none") in ("none", "tanh")

    def _turn(self, node: NodeProto, value: Array) -> None:
        """A nonlinearity: a channel that is 0 behind it is off; any other value goes on."""
        if np.any(value != 0):
            self._give(node, value)

    def _clipped(self, node: NodeProto, value: Array) -> Array:
        low, high = self._limit(node, 1, "min", -math.inf), self._limit(node, 2, "max", math.inf)
        return np.minimum(np.maximum(value, low), high)

    def _limit(self, node: NodeProto, slot: int, name: str, default: float) -> float:
        if input_name(node, slot):
            found = self._operand(node.input[slot])
            return default if found is None or found.size != 1 else float(found.reshape(-1)[0])
        return float(attribute(node, name, default))

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
                "a normalisation is written out behind it, and what a silent channel becomes there cannot be told",
                LayerStatus.UNJUDGEABLE,
            )
        silent = not np.any(self._values[known] != 0)
        if silent and not (node.op_type == "Div" and node.input[1] == known):
            return None  # 0 joins a sum, a product or a maximum: nothing of the channel goes on
        if node.op_type == "Mul":
            return self._fail("its output scales other channels", LayerStatus.GATE)
        return self._end(known, node)
