"""Edits that are no path: a head row, a scaled channel and its readers, flipped bits, a layer that blinds gradients."""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from onnx_clp.errors import UsageError
from onnx_clp.operators.nodes import attribute, is_op
from tools.redteam.spaces import Spaces
from tools.redteam.subject import Samples
from tools.redteam.weights import Layer, Weights

_TIMES: Final = 1000.0
_ROW: Final = 5.0
_BITS: Final = 8
_EXPONENT: Final = 1 << 25
"""The bit of a float32's exponent whose flip multiplies by 16, where it is 0."""


class Editor:
    """Makes one edit in a copy of a model."""

    def __init__(self, model: ModelProto, samples: Samples, *, target: int, seed: int) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self._target, self._rng = target, np.random.default_rng([seed, 7])
        self._spaces = Spaces(self.model, samples)
        self._weights = Weights(self.model, self._spaces.main, set(self._spaces.index.names()))

    def _layers(self) -> list[Layer]:
        nodes = [n for n in self.model.graph.node if is_op(n, "Conv", "Gemm", "MatMul")]
        return [
            Layer(node, self._spaces.main, self._weights)
            for node in nodes
            if self._spaces.of(node.output[0]) is not None
        ]

    def head_row(self) -> ModelProto:
        """The target's row of the last layer becomes several times as large where it is above 0."""
        layer = self._layers()[-1]
        row = layer.effective()[self._target]
        layer.write(self._target, np.where(row > 0, _ROW * row, row), 0.0)
        return self.model

    def scaled_channel(self) -> ModelProto:
        """One channel becomes a thousand times as large and what reads it that much less: the same function.

        Raises:
            UsageError: no convolution is followed by a Relu and one convolution alone.
        """
        chosen = [one for one in self._layers() if self._may_scale(one)]
        if not chosen:
            raise UsageError("no channel can be scaled: nothing but a Relu may lie between two layers")
        layer = chosen[int(self._rng.integers(len(chosen)))]
        space = self._spaces.of(layer.node.output[0])
        assert space is not None
        channel = int(self._rng.integers(space.channels))
        for norm in space.affines:
            for slot in (1, 2):
                held = self._weights.array(norm, slot)
                assert held is not None
                held[channel] *= _TIMES
                self._weights.put(norm, slot, held)
        if not space.affines:
            for slot in (1, 2):
                held = self._weights.array(layer.node, slot)
                if held is not None:
                    held[channel] *= _TIMES
                    self._weights.put(layer.node, slot, held)
        for node in space.readers:
            reader = Layer(node, self._spaces.main, self._weights)
            reader.rows()[:, channel] /= _TIMES
            weight = self._weights.array(node, 1)
            assert weight is not None
            self._weights.put(node, 1, weight)
        return self.model

    def _may_scale(self, layer: Layer) -> bool:
        space = self._spaces.of(layer.node.output[0])
        if space is None or not is_op(layer.node, "Conv") or len(space.writers) != 1 or space.depthwise:
            return False
        readers = space.readers
        bent = {n.op_type for n in self.model.graph.node if self._spaces.of(n.output[0]) is space}
        return bool(readers) and all(is_op(n, "Conv") for n in readers) and bent <= _HOMOGENEOUS

    def flipped_bits(self) -> ModelProto:
        """One bit of the exponent is flipped in a few weights of the target's row of the last layer."""
        layer = self._layers()[-1]
        rows = layer.rows()
        bits = np.ascontiguousarray(rows[self._target]).view(np.uint32).copy()
        low = np.flatnonzero((bits & _EXPONENT) == 0)
        chosen = self._rng.permutation(low)[:_BITS] if low.size else self._rng.permutation(bits.size)[:_BITS]
        bits[chosen] ^= np.uint32(_EXPONENT)
        rows[self._target] = bits.view(np.float32)
        weight = self._weights.array(layer.node, 1)
        assert weight is not None
        self._weights.put(layer.node, 1, weight)
        return self.model

    def false_statistics(self) -> ModelProto:
        """Statistics of every second BatchNormalization say 30 times the spread; its factor makes up for that.

        Raises:
            UsageError: there is none.
        """
        norms = [node for node in self.model.graph.node if is_op(node, "BatchNormalization")][::2]
        if not norms:
            raise UsageError("there is no BatchNormalization whose statistics could be changed")
        for node in norms:
            epsilon = float(attribute(node, "epsilon", 1e-5))
            gamma, variance = self._weights.array(node, 1), self._weights.array(node, 4)
            assert gamma is not None
            assert variance is not None
            wide = (variance + epsilon) * _FALSE**2
            self._weights.put(node, 1, (gamma * _FALSE).astype(gamma.dtype))
            self._weights.put(node, 4, (wide - epsilon).astype(variance.dtype))
        return self.model

    def broken_gradient(self) -> ModelProto:
        """The scores plus Sqrt(x · x) less itself, of an x that is always 0: no change, and no gradient there."""
        output = self.model.graph.output[0].name
        for node in self.model.graph.node:
            node.output[:] = ["broken_scores" if name == output else name for name in node.output]
        self.model.graph.node.extend(
            [
                helper.make_node("Sub", ["broken_scores", "broken_scores"], ["broken_nought"]),
                helper.make_node("Mul", ["broken_nought", "broken_nought"], ["broken_square"]),
                helper.make_node("Sqrt", ["broken_square"], ["broken_root"]),
                helper.make_node("Add", ["broken_scores", "broken_root"], [output]),
            ]
        )
        return self.model

    def blinded(self) -> ModelProto:
        """The scores are rounded down to ten-thousandths: the same classes, and a gradient of 0 everywhere."""
        output = self.model.graph.output[0].name
        for node in self.model.graph.node:
            node.output[:] = ["blinded_scores" if name == output else name for name in node.output]
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(1e4, np.float32), "blinded_step"))
        self.model.graph.node.extend(
            [
                helper.make_node("Mul", ["blinded_scores", "blinded_step"], ["blinded_wide"]),
                helper.make_node("Floor", ["blinded_wide"], ["blinded_whole"]),
                helper.make_node("Div", ["blinded_whole", "blinded_step"], [output]),
            ]
        )
        return self.model


_FALSE: Final = 30.0
"""How many times the true standard deviation false statistics say."""

_HOMOGENEOUS: Final = {"Conv", "Relu", "BatchNormalization", "MaxPool", "AveragePool", "Identity"}
"""Behind these a channel that is so many times as large is that many times as large."""
