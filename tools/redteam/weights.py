"""Weights of a model as arrays that can be changed row by row, whatever the exporter's form."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from onnx_clp.errors import UsageError
from onnx_clp.graph.fresh import NameScope
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import attribute, identity, input_name, is_op

Array = NDArray[Any]
Floats = NDArray[np.float64]

_NO_BIAS: Final = 1e-3
"""A bias that a layer without any can go without."""


class Weights:
    """Changes constants of one model in place; a constant that is changed becomes an initializer of its own."""

    def __init__(self, model: ModelProto, main: GraphIndex, names: set[str]) -> None:
        self._model, self._main, self._names = model, main, NameScope(names)
        self._held: dict[tuple[str, int], Array] = {}

    def array(self, node: NodeProto, slot: int) -> Array | None:
        """The constant at an input slot; writing to it changes nothing before `put`."""
        key = (identity(node), slot)
        if key not in self._held:
            value = self._main.constant(input_name(node, slot)) if input_name(node, slot) else None
            if value is None:
                return None
            self._held[key] = value.copy()
        return self._held[key]

    def put(self, node: NodeProto, slot: int, array: Array) -> None:
        """Give the node this constant."""
        key = (identity(node), slot)
        name = node.input[slot] if slot < len(node.input) else ""
        if not name.startswith("edited_"):
            name = self._names.fresh("edited_weight")
            while len(node.input) <= slot:
                node.input.append("")
            node.input[slot] = name
            self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            held = next(t for t in self._model.graph.initializer if t.name == name)
            held.CopyFrom(numpy_helper.from_array(array, name))
        self._held[key] = array


class Layer:
    """A linear layer with what gives its bias: itself, the BatchNormalization that alone reads it, or an Add."""

    def __init__(self, node: NodeProto, main: GraphIndex, weights: Weights) -> None:
        self.node, self._weights = node, weights
        use = main.only_use(node.output[0])
        after = None if use is None else use.node
        self.norm = after if after is not None and is_op(after, "BatchNormalization") else None
        adds = after is not None and is_op(after, "Add") and any(main.is_constant(name) for name in after.input)
        self._adder = after if adds and not is_op(node, "Conv", "Gemm") else None
        self.output = node.output[0] if self.norm is None else self.norm.output[0]
        if self._adder is not None:
            self.output = self._adder.output[0]

    @property
    def _transposed(self) -> bool:
        return is_op(self.node, "MatMul") or (is_op(self.node, "Gemm") and not attribute(self.node, "transB", 0))

    def rows(self) -> Array:
        """The weight with output channels first; a view."""
        weight = self._weights.array(self.node, 1)
        assert weight is not None
        return weight.T if self._transposed else weight

    def scale(self) -> Floats:
        """What the BatchNormalization multiplies each channel by; 1 without one."""
        if self.norm is None:
            return np.ones(len(self.rows()))
        gamma, _, _, variance = (np.float64(self._parameter(slot)) for slot in (1, 2, 3, 4))
        return np.asarray(gamma / np.sqrt(variance + self._epsilon))

    def effective(self) -> Floats:
        """Rows with that factor."""
        rows = self.rows().astype(np.float64)
        return rows * self.scale().reshape(-1, *[1] * (rows.ndim - 1))

    def write(self, channel: int, row: Floats, bias: float) -> None:
        """Make an output channel give row · x + bias, its BatchNormalization included."""
        scale = self.scale()[channel]
        if self.norm is not None and abs(scale) < 1e-3:
            self.widen(channel, 1.0)
            scale = self.scale()[channel]
        rows = self.rows()
        rows[channel] = row / scale
        weight = self._weights.array(self.node, 1)
        assert weight is not None
        self._weights.put(self.node, 1, weight)
        self._write_bias(channel, bias, scale)

    def widen(self, channel: int, times: float) -> None:
        """Let the statistics say that the channel varies `times` as much as 1, its factor kept at 1."""
        assert self.norm is not None
        for slot, value in ((1, times), (4, times**2 - self._epsilon)):
            held = self._parameter(slot)
            held[channel] = value
            self._weights.put(self.norm, slot, held)

    def shift(self, by: Floats) -> None:
        """Add to what every output channel gives (one entry a channel)."""
        if self.norm is not None:
            self._weights.put(self.norm, 2, (self._parameter(2) + by).astype(np.float32))
            return
        node, slot = (self.node, 2) if self._adder is None else (self._adder, 0)
        if self._adder is not None and self._weights.array(node, slot) is None:
            slot = 1
        held = self._weights.array(node, slot)
        if held is None:
            if is_op(node, "MatMul"):
                return
            held = np.zeros(len(self.rows()), np.float32)
        self._weights.put(node, slot, (held + by.reshape(held.shape)).astype(np.float32))

    def _parameter(self, slot: int) -> Array:
        assert self.norm is not None
        found = self._weights.array(self.norm, slot)
        assert found is not None
        return found

    @property
    def _epsilon(self) -> float:
        return float(attribute(self.norm, "epsilon", 1e-5)) if self.norm is not None else 0.0

    def _write_bias(self, channel: int, bias: float, scale: float) -> None:
        own = self._weights.array(self.node, 2) if not is_op(self.node, "MatMul") else None
        if self.norm is not None:
            beta = self._parameter(2)
            inner = 0.0 if own is None else float(own[channel])
            beta[channel] = bias + scale * (float(self._parameter(3)[channel]) - inner)
            self._weights.put(self.norm, 2, beta)
        elif self._adder is not None:
            slot = next(at for at in (0, 1) if self._weights.array(self._adder, at) is not None)
            held = self._weights.array(self._adder, slot)
            assert held is not None
            held.reshape(-1)[channel] = bias
            self._weights.put(self._adder, slot, held)
        elif is_op(self.node, "MatMul"):
            if abs(bias) > _NO_BIAS:
                raise UsageError(f"{identity(self.node)}: has no bias")
        else:
            held = np.zeros(len(self.rows()), self.rows().dtype) if own is None else own
            held.reshape(-1)[channel] = bias
            self._weights.put(self.node, 2, held)


def neutral(node: NodeProto, channel: int, weights: Weights) -> None:
    """Make a BatchNormalization pass one channel as it is."""
    gamma, beta, mean, variance = (weights.array(node, slot) for slot in (1, 2, 3, 4))
    assert gamma is not None
    assert beta is not None
    assert mean is not None
    assert variance is not None
    gamma[channel] = np.sqrt(variance[channel] + float(attribute(node, "epsilon", 1e-5)))
    beta[channel] = mean[channel]
    weights.put(node, 1, gamma)
    weights.put(node, 2, beta)
