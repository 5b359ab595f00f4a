"""Which values of a model share their channels: a path that enters one of them is in all of them.

A linear layer begins a new *space* of channels; what follows it (normalisations, activations, pooling, layout) stays in
it, an Add of two makes them one, and a depthwise convolution changes each of its channels for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import attribute, identity, input_name, is_op
from tools.redteam.subject import Samples, input_of, values_of

Ids = NDArray[np.int64]
Array = NDArray[Any]

_SAME: Final = (
    *("Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "Identity", "Cast", "Dropout", "Softmax", "BatchNormalization"),
    *("HardSigmoid", "HardSwish", "Tanh", "LogSoftmax"),
)
_AFFINE: Final = ("Add", "Sub", "Mul", "Div", "Max", "Min")
_RESHAPED: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_WINDOWS: Final = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad")
_REDUCED: Final = ("ReduceMean", "ReduceMax")


@dataclass(slots=True, eq=False)
class Writer:
    """A linear layer that begins a space; `reads` is the value it works on, `depth` its distance from the input."""

    node: NodeProto
    reads: str
    depth: int


@dataclass(slots=True, eq=False)
class Space:
    """Values that share their channels."""

    channels: int
    writers: list[Writer] = field(default_factory=list)
    depthwise: list[NodeProto] = field(default_factory=list)
    affines: list[NodeProto] = field(default_factory=list)
    readers: list[NodeProto] = field(default_factory=list)
    joined: Space | None = None

    @property
    def top(self) -> Space:
        """The space it was joined to, or itself."""
        return self if self.joined is None else self.joined.top


class Spaces:
    """The spaces of a model's main graph.

    Raises:
        UsageError: an operator is not known to keep channels apart, or a weight is no constant.
    """

    def __init__(self, model: ModelProto, samples: Samples) -> None:
        self.index = ModelIndex(model, TensorStore())
        self.main: GraphIndex = self.index.main
        self._input = input_of(model)
        self._from_input = {self._input}
        self._ids: dict[str, Ids] = {}
        self._space: dict[str, Space] = {}
        made = [name for node in model.graph.node for name in node.output if name]
        self._shapes = {k: v.shape for k, v in values_of(model, samples, samples.images[:1], made).items()}
        for node in self.main.nodes:
            self._visit(node)

    def of(self, value: str) -> Space | None:
        """The space that a value belongs to; None for the input and what depends on no channel."""
        found = self._space.get(value)
        return None if found is None else found.top

    def entries(self, value: str, channel: int) -> Ids:
        """Places along the last axis of a flat value (1, n) that belong to a channel."""
        return np.flatnonzero(self._ids[value].reshape(-1) == channel)

    def ids(self, value: str) -> Ids:
        """The channel of every entry of a value, of its shape for one image."""
        return self._ids[value]

    def depth(self, value: str) -> int:
        """How many linear layers lie before a value, on the shortest way."""
        space = self.of(value)
        return 0 if space is None else min((w.depth for w in space.writers), default=0)

    def _visit(self, node: NodeProto) -> None:
        data = [name for name in node.input if name and (name in self._ids or name in self._from_input)]
        if not data or self.main.is_constant(identity(node)):
            return
        if is_op(node, "Conv", "Gemm", "MatMul") and data[0] == node.input[0]:
            self._linear(node, data[0])
        elif data[0] in self._from_input and data[0] not in self._ids:
            self._from_input.add(node.output[0])
        else:
            self._keep(node, data)

    def _linear(self, node: NodeProto, data: str) -> None:
        weight = self.main.constant(input_name(node, 1))
        if weight is None:
            raise UsageError(f"{identity(node)}: its weight is not a constant")
        shape, groups = self._shapes[node.output[0]], int(attribute(node, "group", 1))
        axis = 1 if is_op(node, "Conv") else len(shape) - 1
        if groups > 1:
            if groups != shape[axis] or data not in self._ids:
                raise UsageError(f"{identity(node)}: grouped, and not depthwise")
            self._put(node.output[0], self._space[data], self._along(shape, axis, np.arange(groups)))
            self._space[data].top.depthwise.append(node)
            return
        space, before = Space(shape[axis]), self.of(data)
        space.writers.append(Writer(node, data, self.depth(data) + 1))
        if before is not None:
            before.readers.append(node)
        self._put(node.output[0], space, self._along(shape, axis, np.arange(shape[axis])))

    def _keep(self, node: NodeProto, data: list[str]) -> None:
        first, shape = data[0], self._shapes[node.output[0]]
        if is_op(node, "Shape"):
            return
        if is_op(node, *_SAME) or (is_op(node, *_AFFINE) and len(data) == 1):
            ids = self._ids[first] if self._ids[first].shape == shape else np.broadcast_to(self._ids[first], shape)
            if is_op(node, "BatchNormalization"):
                self._space[first].top.affines.append(node)
        elif is_op(node, *_AFFINE):
            first, ids = self._joined(node, data)
        elif is_op(node, "Transpose"):
            ids = self._ids[first].transpose(list(attribute(node, "perm")))
        elif is_op(node, *_RESHAPED):
            ids = self._ids[first].reshape(shape)
        elif is_op(node, *_WINDOWS, *_REDUCED):
            ids = self._windowed(node, self._ids[first], shape)
        elif all(self._shapes[name] == () or len(self._shapes[name]) == 1 for name in node.output):
            return
        else:
            raise UsageError(f"{identity(node)}: {node.op_type} is not known to keep channels apart")
        self._put(node.output[0], self._space[first], ids)

    def _joined(self, node: NodeProto, data: list[str]) -> tuple[str, Ids]:
        """An Add makes two spaces one; a Mul (a gate) stays in that of the larger factor."""
        large = max(data, key=lambda name: self._ids[name].size)
        if is_op(node, "Add", "Sub"):
            one, other = self._space[data[0]].top, self._space[data[1]].top
            if one.channels != other.channels:
                raise UsageError(f"{identity(node)}: adds values of unlike channels")
            if one is not other:
                for kind in ("writers", "depthwise", "affines", "readers"):
                    getattr(one, kind).extend(getattr(other, kind))
                other.joined = one
        return large, self._ids[large]

    def _windowed(self, node: NodeProto, ids: Ids, shape: tuple[int, ...]) -> Ids:
        """Pooling, padding and means over places keep the channel axis."""
        axis = _varying(ids)
        along = np.unique(ids)
        if len(shape) == ids.ndim:
            if shape[axis] != ids.shape[axis]:
                raise UsageError(f"{identity(node)}: changes how many channels there are")
            return self._along(shape, axis, along)
        return self._along(shape, len(shape) - 1, along)

    @staticmethod
    def _along(shape: tuple[int, ...], axis: int, along: Ids) -> Ids:
        wide = [1] * len(shape)
        wide[axis] = -1
        return np.broadcast_to(along.reshape(wide), shape)

    def _put(self, value: str, space: Space, ids: Ids) -> None:
        self._space[value], self._ids[value] = space, ids


def _varying(ids: Ids) -> int:
    """The axis along which channels change."""
    for axis in range(1, ids.ndim):
        first, second = ids.take(0, axis), ids.take(min(1, ids.shape[axis] - 1), axis)
        if not np.array_equal(first, second):
            return axis
    return 1
