"""Random networks of the kinds that channels are followed through, with channels switched off at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
T = TypeVar("T")
Value = tuple[str, int, int]
"""A value of shape (2, channels, size, size): its name, channels and size."""

SIZE = 6


class Network:
    """Builds one network; `seed` decides everything."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.values: list[Value] = [("x", 3, SIZE)]
        self.layers: list[str] = []
        self.count = 0

    def pick(self, choices: list[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def constant(self, values: Array) -> str:
        self.count += 1
        name = f"k{self.count}"
        kind = np.int64 if values.dtype.kind == "i" else np.float32
        self.stored.append(numpy_helper.from_array(values.astype(kind), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        names = []
        for _ in range(outputs):
            self.count += 1
            names.append(f"v{self.count}")
        # The node keeps this name when a fold hands its output's name on.
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names

    def give(self, name: str, channels: int, size: int) -> Value:
        value = (name, channels, size)
        self.values.append(value)
        return value

    def random(self, *shape: int) -> Array:
        """Never near 0, so that what is 0 was switched off."""
        values = self.rng.normal(size=shape)
        return np.sign(values) * (0.2 + np.abs(values))

    # Layers

    def weights(self, outputs: int, inputs: int, kernel: int) -> tuple[Array, Array]:
        """A weight and a bias with some outputs off, some silent but for their bias, and some inputs unread."""
        weight, bias = self.random(outputs, inputs, kernel, kernel) / np.sqrt(inputs), self.random(outputs)
        off = self.rng.random(outputs) < self.pick([0.0, 0.2, 0.5])
        weight[off], bias[off] = 0, 0
        weight[self.rng.random(outputs) < 0.05] = 0
        weight[:, self.rng.random(inputs) < self.pick([0.0, 0.0, 0.3])] = 0
        return weight, bias

    def conv(self, x: Value, outputs: int = 0, kernel: int = 0) -> Value:
        name, channels, size = x
        group = self.pick([g for g in (1, 1, 1, 2, channels) if channels % g == 0]) if not outputs else 1
        outputs = outputs or group * int(self.rng.integers(1, 4 if group > 1 else 9))
        kernel = kernel or self.pick([1, 3])
        weight, bias = self.weights(outputs, channels // group, kernel)
        inputs = [name, self.constant(weight)] + ([self.constant(bias)] if self.chance(0.7) else [])
        made = self.node("Conv", inputs, group=group, pads=[kernel // 2] * 4)[0]
        self.layers.append(made)
        return self.give(made, outputs, size)

    def transposed(self, x: Value) -> Value:
        name, channels, size = x
        group = self.pick([g for g in (1, 2, channels) if channels % g == 0])
        each = int(self.rng.integers(1, 4))
        weight, bias = self.weights(each, channels, 1)
        weight = np.swapaxes(weight, 0, 1) * (1 if group == 1 else (self.rng.random((channels, each, 1, 1)) < 0.8))
        wide = np.tile(bias, group) * (self.rng.random(each * group) < 0.5)
        made = self.node("ConvTranspose", [name, self.constant(weight), self.constant(wide)], group=group)[0]
        self.layers.append(made)
        return self.give(made, each * group, size)

    # What stands between

    def activation(self, x: Value) -> Value:
        name, channels, size = x
        kind = self.pick(["Relu", "Relu", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh", "PRelu", "SiLU", "Cap"])
        if kind == "PRelu":
            made = self.node("PRelu", [name, self.constant(self.random(channels, 1, 1))])[0]
        elif kind == "SiLU":
            made = self.node("Mul", [name, self.node("Sigmoid", [name])[0]])[0]
        elif kind == "Cap":
            relu = self.node("Relu", [name])[0]
            made = self.node("Min", [relu, self.constant(np.abs(self.random(1, channels, 1, 1)))])[0]
        else:
            made = self.node(kind, [name])[0]
        return self.give(made, channels, size)

    def affine(self, x: Value) -> Value:
        name, channels, size = x
        factor, shift = self.random(channels, 1, 1), self.random(channels, 1, 1)
        off = self.rng.random(channels) < self.pick([0.0, 0.3])
        factor[off], shift[off] = 0, 0
        relu = self.node("Relu", [name])[0]
        if self.chance(0.5):
            made = self.node("Add", [self.node("Mul", [relu, self.constant(factor)])[0], self.constant(shift)])[0]
        else:
            parts = [factor.reshape(-1), shift.reshape(-1), np.zeros(channels), np.ones(channels)]
            made = self.node("BatchNormalization", [relu, *(self.constant(p) for p in parts)])[0]
        return self.give(made, channels, size)

    def residual(self, x: Value) -> Value:
        like = [v for v in self.values if v[1:] == x[1:] and v[0] not in ("x", x[0])]
        if not like:
            return x
        made = self.node(self.pick(["Add", "Add", "Add", "Mul", "Max", "Sub"]), [x[0], self.pick(like)[0]])[0]
        return self.give(made, *x[1:])

    def concat(self, x: Value) -> Value:
        like = [v for v in self.values if v[2] == x[2]]
        parts = [x, *(self.pick([*like, ("x", 3, SIZE)] if x[2] == SIZE else like) for _ in range(self.pick([1, 2])))]
        made = self.node("Concat", [p[0] for p in parts], axis=self.pick([1, -3]))[0]
        return self.give(made, sum(p[1] for p in parts), x[2])

    def split(self, x: Value) -> Value:
        name, channels, size = x
        if channels < 2:
            return x
        first = int(self.rng.integers(1, channels))
        sizes = self.constant(np.asarray([first, channels - first]))
        one, other = self.node("Split", [name, sizes], 2, axis=1)
        self.give(one, first, size)
        return self.give(other, channels - first, size)

    def slice(self, x: Value) -> Value:
        name, channels, size = x
        start, end = sorted(self.rng.integers(0, channels + 1, 2).tolist())
        if start == end:
            return x
        limits = [self.constant(np.asarray([v])) for v in (start, self.pick([end, end - channels or 1 << 40]), 1)]
        return self.give(self.node("Slice", [name, *limits])[0], end - start, size)

    def gather(self, x: Value) -> Value:
        name, channels, size = x
        taken = self.rng.integers(-channels, channels, int(self.rng.integers(1, channels + 2)))
        return self.give(self.node("Gather", [name, self.constant(taken)], axis=1)[0], len(taken), size)

    def excite(self, x: Value) -> Value:
        name, channels, size = x
        pooled = self.give(self.node("GlobalAveragePool", [name])[0], channels, 1)
        middle = self.conv(pooled, 3, 1)
        wide = self.conv((self.node("Relu", [middle[0]])[0], 3, 1), channels, 1)
        gate = self.node(self.pick(["Sigmoid", "HardSigmoid"]), [wide[0]])[0]
        return self.give(self.node("Mul", [name, gate])[0], channels, size)

    def island(self, x: Value) -> Value:
        name, channels, size = x
        turned = self.node("Transpose", [name], perm=[0, 2, 3, 1])[0]
        shift = self.random(channels) * (self.rng.random(channels) < 0.5)
        moved = self.node("Relu", [self.node("Add", [turned, self.constant(shift)])[0]])[0]
        return self.give(self.node("Transpose", [moved], perm=[0, 3, 1, 2])[0], channels, size)

    def shuffle(self, x: Value) -> Value:
        name, channels, size = x
        if channels % 2:
            return x
        split = self.constant(np.asarray([2, 2, channels // 2, size, size]))
        wide = self.node("Transpose", [self.node("Reshape", [name, split])[0]], perm=[0, 2, 1, 3, 4])[0]
        back = self.constant(np.asarray([2, channels, size, size]))
        return self.give(self.node("Reshape", [wide, back])[0], channels, size)

    def measured(self, x: Value) -> Value:
        """Laid out or resized to what Shape says of it, or scaled by the number of its channels."""
        name, channels, size = x
        own = self.node("Shape", [name])[0]
        kind = self.pick(["Reshape", "Resize", "Resize", "scale"])
        if kind == "Reshape":
            made = self.node("Reshape", [name, own])[0]
        elif kind == "Resize":
            limits = [self.constant(np.asarray([v])) for v in (0, 2)]
            start = self.node("Slice", [own, *limits])[0]
            both = self.node("Concat", [start, self.constant(np.asarray([size, size]))], axis=0)[0]
            made = self.node("Resize", [name, "", "", both], mode="nearest")[0]
        else:
            count = self.node("Gather", [own, self.constant(np.asarray(self.pick([1, 2])))], axis=0)[0]
            factor = self.node("Cast", [count], to=TensorProto.FLOAT)[0]
            made = self.node("Mul", [name, factor])[0]
        return self.give(made, channels, size)

    def pool(self, x: Value) -> Value:
        kind = self.pick(["MaxPool", "AveragePool"])
        made = self.node(kind, [x[0]], kernel_shape=[3, 3], pads=[1, 1, 1, 1])[0]
        return self.give(made, *x[1:])

    def step(self) -> None:
        makers: list[Callable[[Value], Value]] = [self.conv, self.conv, self.conv, self.conv, self.conv, self.conv]
        makers += [self.activation] * 5 + [self.residual] * 4
        makers += (
            [self.concat] * 2 + [self.affine] * 2 + [self.split, self.slice, self.gather, self.excite, self.island]
        )
        makers += [self.pool, self.transposed, self.shuffle, self.measured]
        self.pick(makers)(self.values[-1] if self.chance(0.75) else self.pick(self.values))

    def head(self, x: Value) -> str:
        """From an image to an answer: a convolution, a dense layer on all of it, or on its means."""
        name, channels, size = x
        kind = self.pick(["conv", "flatten", "means", "tokens"])
        if kind == "conv":
            return self.conv(x, 3, 1)[0]
        if kind == "flatten":
            flat = (
                self.node("Flatten", [name])[0]
                if self.chance(0.5)
                else self.node(
                    "Reshape", [name, self.constant(np.asarray([self.pick([0, 2, -1]), channels * size * size]))]
                )[0]
            )
            rows = channels * size * size
        elif kind == "means":
            flat, rows = self.node("ReduceMean", [name, self.constant(np.asarray([2, 3]))], keepdims=0)[0], channels
        else:
            tokens = self.node("Reshape", [name, self.constant(np.asarray([0, channels, -1]))])[0]
            flat, rows = self.node("Transpose", [tokens], perm=[0, 2, 1])[0], channels
        weight = self.random(rows, 4) / np.sqrt(rows)
        made = self.node("MatMul", [flat, self.constant(weight)])[0]
        self.layers.append(made)
        return made

    def model(self) -> ModelProto:
        self.conv(self.values.pop(), kernel=3)
        for _ in range(int(self.rng.integers(2, 14))):
            self.step()
        used = {name for node in self.nodes for name in node.input}
        ends = [v for v in self.values if v[0] not in used] or self.values[-1:]
        made = [self.head(v) if self.chance(0.85) else v[0] for v in ends]
        outputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(made)]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, SIZE, SIZE])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        whole = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        if self.chance(0.5):
            del whole.graph.value_info[:]
        return whole


def network(seed: int) -> Network:
    """The network of a seed; `model` builds it."""
    return Network(seed)
