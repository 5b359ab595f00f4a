"""Random ONNX models: the steps of `random_steps`, and what stands between them in real networks, by seed.

Operators with several outputs, normalisations that take their statistics from the input, IBN blocks, weights of
quantisation-aware training, and functions of one name with overloads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from tests.random_steps import Array, Maker, Value

WIDE = 1e-2
"""The epsilon of what normalises by itself: a variance of nearly 0 shall not magnify rounding."""


class Blocks(Maker):
    """A maker that knows whole blocks too."""

    def more(self) -> list[Callable[[Value], None]]:
        return [
            *([self.instancenorm] * 2),
            *([self.layernorm] if self.opset >= 17 else []),
            *([self.groupnorm] if self.opset >= 18 else []),
            *([self.topk] if self.opset >= 10 else []),
            self.maxpool,
            self.pool,
            self.masked_dropout,
            *([self.ibn] * 2),
        ]

    # Normalisations

    def instancenorm(self, x: Value) -> None:
        if len(x.shape) < 3:
            return
        pair = [self.constant(self.array((x.shape[1],), kind)) for kind in ("factor", "any")]
        self.node("InstanceNormalization", [x.name, *pair], [x.shape], epsilon=WIDE)

    def groupnorm(self, x: Value) -> None:
        groups = [g for g in (1, 2, x.shape[1] if len(x.shape) > 1 else 1) if len(x.shape) > 1 and x.shape[1] % g == 0]
        if len(x.shape) < 3 or not groups:
            return
        group = self.pick(groups)
        entries = (group,) if self.opset < 21 else (x.shape[1],)
        pair = [self.constant(self.array(entries, kind)) for kind in ("factor", "any")]
        self.node("GroupNormalization", [x.name, *pair], [x.shape], epsilon=WIDE, num_groups=group)

    def layernorm(self, x: Value) -> None:
        if not x.shape:
            return
        axis = int(self.rng.integers(len(x.shape)))
        pair = [self.constant(self.array(x.shape[axis:], kind)) for kind in ("factor", "any")]
        self._along(
            "LayerNormalization", [x.name, *pair[: self.pick([1, 2])]], [x.shape], x.axis, axis=axis, epsilon=WIDE
        )

    def ibn(self, x: Value) -> None:
        """Conv > Split > InstanceNormalization | BatchNormalization > Concat > Relu (IBN-Net), either way round."""
        before = len(self.body.values)
        self.conv(x)
        whole = self.body.values[-1]
        if len(self.body.values) == before or whole.shape[1] < 2:
            return
        self.split_at(whole, int(self.rng.integers(1, whole.shape[1])))
        halves = self.body.values[-2:]
        steps = [self.instancenorm, self.batchnorm]
        for half, step in zip(halves, steps if self.chance(0.5) else steps[::-1], strict=True):
            step(half)
        parts = [value.name for value in self.body.values[-2:]]
        self._along("Concat", parts, [whole.shape], 1, axis=1)
        self.node("Relu", [self.body.values[-1].name], [whole.shape])

    # Several outputs

    def split_at(self, x: Value, first: int) -> None:
        """Split on axis 1 into `first` channels and the others."""
        sizes = [first, x.shape[1] - first]
        shapes = [(x.shape[0], size, *x.shape[2:]) for size in sizes]
        if self.opset >= 13:
            self._along("Split", [x.name, self._plain(np.array(sizes, np.int64), "split")], shapes, 1, axis=1)
        else:
            self._along("Split", [x.name], shapes, 1, axis=1, split=sizes)

    def topk(self, x: Value) -> None:
        """The greatest along an axis; their places are left alone, for near ties may change them."""
        if not x.shape:
            return
        axis = int(self.rng.integers(len(x.shape)))
        most = int(self.rng.integers(1, x.shape[axis] + 1))
        count = self._plain(np.array([most], np.int64), "k")
        shape = (*x.shape[:axis], most, *x.shape[axis + 1 :])
        self._along("TopK", [x.name, count], [shape, shape], x.axis, axis=axis)
        self.body.values.pop()

    def maxpool(self, x: Value) -> None:
        if len(x.shape) not in (3, 4) or min(x.shape[2:]) < 2:
            return
        shape = (*x.shape[:2], *(s - 1 for s in x.shape[2:]))
        self.node(
            "MaxPool",
            [x.name],
            [shape] * (self.pick([1, 2]) if self.opset >= 8 else 1),
            kernel_shape=[2] * (len(x.shape) - 2),
        )
        if len(self.body.nodes[-1].output) > 1:
            self.body.values.pop()

    def pool(self, x: Value) -> None:
        if len(x.shape) not in (3, 4):
            return
        op = self.pick(["GlobalAveragePool", "GlobalMaxPool"])
        self.node(op, [x.name], [(*x.shape[:2], *(1 for _ in x.shape[2:]))])

    def masked_dropout(self, x: Value) -> None:
        self.node("Dropout", [x.name], [x.shape, x.shape], x.axis)
        self.body.values.pop()

    # Weights of quantisation-aware training

    def weight(self, array: Array, channels: int) -> str:
        name = super().weight(array, channels)
        if self.opset < 10 or not self.chance(0.12):
            return name
        by_channel = self.opset >= 13 and self.chance(0.6)
        others = tuple(i for i in range(array.ndim) if i != channels)
        largest = np.abs(array).max(axis=others if by_channel else None)
        scale = np.maximum(largest / 127, 1e-3).astype(np.float32)
        kind = self.pick([np.int8, np.uint8])
        zero = np.full(scale.shape, 0 if kind is np.int8 else 128, kind)
        grid = [self._plain(scale, "scale"), self._plain(zero, "zero")]
        extra: dict[str, Any] = {"axis": channels} if by_channel else {}
        for op in ("QuantizeLinear", "DequantizeLinear"):
            made = self.name(op)
            self.body.nodes.append(helper.make_node(op, [name, *grid], [made], **extra))
            name = made
        return name

    # Functions with overloads

    def called(self) -> None:
        super().called()
        if self.chance(0.5):
            super().called()

    def model(self) -> ModelProto:
        made = super().model()
        if self.ir >= 10:
            for at, function in enumerate(made.functions[1:], 1):
                _overload(made, function.name, made.functions[0].name, f"o{at}")
        return made


def _overload(model: ModelProto, old: str, name: str, overload: str) -> None:
    """Give a function another's name, and an overload to tell them apart by."""
    for function in model.functions:
        if function.name == old:
            function.name, function.overload = name, overload
    for node in model.graph.node:
        if node.domain == "local" and node.op_type == old:
            node.op_type, node.overload = name, overload


def random_model(seed: int) -> ModelProto:
    """The model of a seed."""
    return Blocks(seed).model()
