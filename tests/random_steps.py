"""The steps of random ONNX models: linear layers, affines and layout operators put together in every order, by seed.

Values are small and every operator is one that ONNX Runtime runs on the CPU, so that a wrong fold shows as a
difference far above rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = tuple[int, ...]

# Names that the package itself would give, and names that no identifier has.
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NAMES = ("W_folded", "W_bias", "W", "W_folded_2", "ä b", "x.1", "a/b:0", "v_before_add", "W_pruned")


@dataclass
class Value:
    """A value of the graph under construction."""

    name: str
    shape: Shape
    axis: int = 1  # where the channels of the last layer stand, as far as the maker followed them


@dataclass
class Body:
    """The nodes and constants of one graph or function; `outer` values can be read but not made here."""

    nodes: list[NodeProto] = field(default_factory=list)
    stored: list[TensorProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    inline: bool = False  # constants can only be Constant nodes


class Maker:
    """Grows one model from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([5, seed])
        self.opset = int(self.rng.choice([7, 9, 11, 12, 13, 14, 15, 17, 18, 20, 22]))
        self.ir = int(self.rng.choice([3, 4, 8, 10])) if self.opset < 22 else 10
        self.taken: set[str] = {"x"}
        self.shared: list[tuple[str, Array]] = []
        self.functions: list[onnx.FunctionProto] = []
        self.main = Body()
        self.body = self.main
        self.flags: list[str] = []

    # Small things

    def chance(self, odds: float) -> bool:
        return bool(self.rng.random() < odds)

    def pick(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def name(self, base: str = "v") -> str:
        wanted = self.pick(NAMES) if self.chance(0.1) else base
        count = 0
        name = wanted
        while name in self.taken:
            count += 1
            name = f"{wanted}{count}"
        self.taken.add(name)
        return name

    def array(self, shape: Shape, kind: str = "any") -> Array:
        values = self.rng.normal(0, 1, shape)
        if kind == "positive":
            values = self.rng.uniform(0.5, 1.8, shape)
        elif kind == "factor":
            values = self.rng.uniform(0.5, 1.6, shape) * np.where(self.rng.random(shape) < 0.3, -1, 1)
            if self.chance(0.1):
                values = np.where(self.rng.random(shape) < 0.3, 0, values)
        elif kind == "weight":
            values = values / np.sqrt(max(np.prod(shape) / max(shape), 1))
        return np.asarray(values, np.float32)

    # Constants

    def constant(self, array: Array, base: str = "k") -> str:
        """Store an array in one of the ways a file has; the name it can be read by."""
        again = [n for n, a in self.shared if a.shape == array.shape and a.dtype == array.dtype]
        if again and self.chance(0.15) and not self.body.inline:
            return str(self.pick(again))
        way = self.pick(["stored", "stored", "node", "computed", "transposed"])
        if way == "computed" and array.dtype == np.float32:
            return self._node_constant("Neg", self._plain(-array, base))
        if way == "transposed" and array.ndim > 1:
            return self._node_constant("Transpose", self._plain(np.ascontiguousarray(array.T), base))
        return self._plain(array, base, node=way == "node")

    def _node_constant(self, op: str, source: str) -> str:
        out = self.name("computed")
        self.body.nodes.append(helper.make_node(op, [source], [out]))
        return out

    def _plain(self, array: Array, base: str, *, node: bool = False) -> str:
        name = self.name(base)
        tensor = numpy_helper.from_array(array, name)
        if node or self.body.inline:
            self.body.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            if self.body is self.main:
                self.shared.append((name, array))
        else:
            # A stored constant of a nested graph sometimes lies in the main graph.
            outer = self.body is not self.main and self.chance(0.5)
            (self.main if outer or self.ir < 4 else self.body).stored.append(tensor)
            if outer or self.ir < 4 or self.body is self.main:
                self.shared.append((name, array))
        return name

    # Nodes

    def node(self, op: str, inputs: list[str], shapes: list[Shape], axis: int = 1, **attributes: Any) -> list[Value]:
        """Append a node with an output of each shape."""
        made = [Value(self.name(), s, axis) for s in shapes]
        label = self.pick(["", self.name(op)])
        self.body.nodes.append(helper.make_node(op, inputs, [v.name for v in made], label, **attributes))
        self.body.values += made
        return made

    def source(self) -> Value:
        """A value to go on from: mostly the newest, which makes chains."""
        return self.body.values[-1] if self.chance(0.75) else self.pick(self.body.values)

    def step(self) -> None:
        """Append something random."""
        if self.body.nodes and self.body.nodes[-1].op_type in LINEAR and self.chance(0.6):
            self.pick([self.affine, self.affine, self.batchnorm, self.layout])(self.body.values[-1])
            return
        steps = [self.conv] * 4 + [self.matmul] * 3 + [self.gemm] * 2 + [self.conv_transpose]
        steps += [self.affine] * 10 + [self.batchnorm] * 6 + [self.layout] * 5 + [self.concat] * 2
        steps += [self.split, self.activation, self.residual, self.resqueeze, self.resqueeze]
        self.pick(steps + self.more())(self.source())

    def more(self) -> list[Callable[[Value], None]]:
        """Further steps to choose from, each as often as it stands here."""
        return []

    def weight(self, array: Array, _channels: int) -> str:
        """Store the weight of a linear layer, whose outputs lie on an axis."""
        return self.constant(array, "W")

    def conv(self, x: Value) -> None:
        if len(x.shape) not in (3, 4) or min(x.shape[2:]) < 1:
            return
        channels = x.shape[1]
        group = self.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
        outputs = group * int(self.rng.integers(1, 4))
        kernel = tuple(int(min(self.pick([1, 1, 2, 3]), s)) for s in x.shape[2:])
        pads = self.pick([0, 0, 1])
        stride = self.pick([1, 1, 2])
        spatial = tuple((s + 2 * pads - k) // stride + 1 for s, k in zip(x.shape[2:], kernel, strict=True))
        inputs = [x.name, self.weight(self.array((outputs, channels // group, *kernel), "weight"), 0)]
        inputs += self.pick([[], [self.constant(self.array((outputs,)), "B")], [""]])
        extra: dict[str, Any] = {"group": group} if group > 1 or self.chance(0.3) else {}
        if pads:
            extra["pads"] = [pads] * 2 * len(kernel)
        if stride > 1:
            extra["strides"] = [stride] * len(kernel)
        self.node("Conv", inputs, [(x.shape[0], outputs, *spatial)], **extra)

    def conv_transpose(self, x: Value) -> None:
        if len(x.shape) != 4 or max(x.shape[2:]) > 8:
            return
        channels = x.shape[1]
        group = self.pick([g for g in (1, 2, channels) if channels % g == 0])
        per_group = int(self.rng.integers(1, 4))
        inputs = [x.name, self.weight(self.array((channels, per_group, 2, 2), "weight"), 1)]
        if self.chance(0.4):
            inputs.append(self.constant(self.array((per_group * group,)), "B"))
        shape = (x.shape[0], per_group * group, *(s * 2 for s in x.shape[2:]))
        self.node("ConvTranspose", inputs, [shape], strides=[2, 2], group=group)

    def matmul(self, x: Value) -> None:
        if not 1 <= len(x.shape) <= 4:
            return
        outputs = self.pick([x.shape[-1], int(self.rng.integers(1, 6))])
        ones = (1,) * int(self.pick([0, 0, 0, 0, 2]))
        weight = self.array((*ones, x.shape[-1], outputs), "weight")
        shape = np.matmul(np.empty(x.shape), weight).shape
        self.node("MatMul", [x.name, self.weight(weight, weight.ndim - 1)], [shape], axis=len(shape) - 1)

    def gemm(self, x: Value) -> None:
        if len(x.shape) != 2:
            return
        turn, turned = self.chance(0.3), self.chance(0.5)
        rows, inner = x.shape[::-1] if turn else x.shape
        outputs = int(self.rng.integers(1, 6))
        weight = self.array((outputs, inner) if turned else (inner, outputs), "weight")
        shapes = [(outputs,), (1, outputs), (rows, outputs), (1,), (rows, 1), ()]
        inputs = [x.name, self.weight(weight, 1 - int(turned))]
        if self.opset < 11 or self.chance(0.7):
            inputs.append(self.constant(self.array(self.pick(shapes)), "C"))
        extra = {"alpha": self.pick([1.0, 0.5]), "beta": self.pick([1.0, 1.0, 0.0, -0.5])}
        self.node("Gemm", inputs, [(rows, outputs)], transA=int(turn), transB=int(turned), **extra)

    def affine(self, x: Value) -> None:
        shape = self._operand_shape(x.shape, x.axis)
        op = self.pick(["Mul", "Add", "Sub", "Div"])
        name = self.constant(self.array(shape, "factor" if op == "Mul" else "positive"))
        inputs = [x.name, name] if op == "Div" or self.chance(0.7) else [name, x.name]
        wide = np.broadcast_shapes(x.shape, shape)
        self.node(op, inputs, [wide], axis=x.axis + len(wide) - len(x.shape))

    def _operand_shape(self, shape: Shape, channel: int) -> Shape:
        kind = self.rng.random()
        if kind < 0.2 or not shape:
            return self.pick([(), (1,), (1,) * len(shape)])  # type: ignore[no-any-return]
        axis = int(self.rng.integers(len(shape))) if kind > 0.85 else max(0, min(channel, len(shape) - 1))
        tail = (1,) * (len(shape) - axis - 1)
        head = (1,) * int(self.pick([0, axis, axis, 0 if kind < 0.95 else axis + 1]))
        return (*head, shape[axis], *tail)

    def batchnorm(self, x: Value) -> None:
        if len(x.shape) < 2:
            return
        channels = (x.shape[1],)
        inputs = [x.name, self.constant(self.array(channels, "factor"), "g"), self.constant(self.array(channels), "b")]
        inputs += [self.constant(self.array(channels), "m"), self._plain(self.array(channels, "positive"), "v")]
        extra = {"epsilon": self.pick([1e-5, 1e-3])} if self.chance(0.7) else {}
        self.node("BatchNormalization", inputs, [x.shape], **extra)

    def layout(self, x: Value) -> None:
        kind = self.pick(["Identity", "Dropout", "Cast", "Transpose", "Transpose", "Transpose"])
        if kind == "Cast":
            self.node("Cast", [x.name], [x.shape], x.axis, to=TensorProto.FLOAT)
        elif kind == "Transpose" and x.shape:
            perm = [int(p) for p in self.rng.permutation(len(x.shape))]
            axis = perm.index(x.axis) if x.axis in perm else 0
            if self.chance(0.2):
                self.node("Transpose", [x.name], [x.shape[::-1]], len(x.shape) - 1 - x.axis)
            else:
                self.node("Transpose", [x.name], [tuple(x.shape[p] for p in perm)], axis, perm=perm)
        elif kind != "Transpose":
            self.node(kind, [x.name], [x.shape], x.axis)

    def resqueeze(self, x: Value) -> None:
        ones = [i for i, s in enumerate(x.shape) if s == 1]
        if ones and self.chance(0.6):
            axis = self.pick(ones)
            self._axes("Squeeze", x, axis - len(x.shape) if self.opset >= 11 and self.chance(0.4) else axis,
                       (*x.shape[:axis], *x.shape[axis + 1 :]), x.axis - (axis < x.axis))  # fmt: skip
        elif len(x.shape) < 5:
            axis = int(self.rng.integers(len(x.shape) + 1))
            self._axes("Unsqueeze", x, axis, (*x.shape[:axis], 1, *x.shape[axis:]), x.axis + (axis <= x.axis))

    def _axes(self, op: str, x: Value, axis: int, shape: Shape, channel: int) -> None:
        if self.opset >= 13:
            self.node(op, [x.name, self._plain(np.array([axis], np.int64), "axes")], [shape], channel)
        else:
            self.node(op, [x.name], [shape], channel, axes=[axis])

    def concat(self, x: Value) -> None:
        if not x.shape:
            return
        axis = int(self.rng.integers(len(x.shape))) if self.chance(0.3) else min(x.axis, len(x.shape) - 1)
        fitting = [
            v
            for v in self.body.values
            if len(v.shape) == len(x.shape)
            and all(a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if i != axis)
        ]
        others = [self.pick(fitting) for _ in range(self.pick([1, 1, 2]))]
        parts = [x, *others] if self.chance(0.5) else [*others, x]
        total = sum(p.shape[axis] for p in parts)
        written = axis - len(x.shape) if self.opset >= 11 and self.chance(0.3) else axis
        shape = (*x.shape[:axis], total, *x.shape[axis + 1 :])
        if total <= 32:
            self._along("Concat", [p.name for p in parts], [shape], x.axis, axis=written)

    def split(self, x: Value) -> None:
        axes = [i for i, s in enumerate(x.shape) if s > 1]
        if not axes:
            return
        axis = x.axis if x.axis in axes and self.chance(0.7) else self.pick(axes)
        first = int(self.rng.integers(1, x.shape[axis]))
        sizes = [first, x.shape[axis] - first]
        shapes = [(*x.shape[:axis], s, *x.shape[axis + 1 :]) for s in sizes]
        if self.opset >= 13:
            inputs = [x.name, self._plain(np.array(sizes, np.int64), "split")]
            self._along("Split", inputs, shapes, x.axis, axis=axis)
        else:
            self._along("Split", [x.name], shapes, x.axis, axis=axis, split=sizes)

    def _along(self, op: str, inputs: list[str], shapes: list[Shape], channel: int, **attributes: Any) -> None:
        """A node with an attribute `axis`."""
        self.node(op, inputs, shapes, channel)
        self.body.nodes[-1].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    def activation(self, x: Value) -> None:
        self.node(self.pick(["Relu", "Sigmoid", "LeakyRelu", "Neg"]), [x.name], [x.shape], x.axis)

    def residual(self, x: Value) -> None:
        fitting = [v for v in self.body.values if v.shape == x.shape]
        self.node(self.pick(["Add", "Mul", "Sub"]), [x.name, self.pick(fitting).name], [x.shape])

    # Places

    def nested(self) -> None:
        """An If whose two branches read the values around it."""
        flag = self.name("flag")
        outer, start = self.body, self.source()
        bodies: list[GraphProto] = []
        for _ in range(2):
            self.body = Body(values=list(outer.values))
            for _ in range(int(self.rng.integers(1, 5))):
                self.step()
            known = {v.name for v in outer.values}
            made = [v for v in self.body.values if v.name not in known]
            last = made[-1] if made else self.node("Identity", [start.name], [start.shape])[0]
            answer = self.node("ReduceMean", [last.name], [()], keepdims=0)[0]
            bodies.append(self._graph(f"branch{len(bodies)}", [], [answer]))
        self.body = outer
        self.flags.append(flag)
        if outer is self.main:
            self.node("If", [flag], [()], then_branch=bodies[0], else_branch=bodies[1])

    def called(self) -> None:
        """A local function with constants of its own, called once or twice."""
        outer, start = self.body, self.source()
        self.body = Body(inline=True, values=[Value(self.name("arg"), start.shape)])
        argument = self.body.values[0].name
        for _ in range(int(self.rng.integers(2, 6))):
            self.step()
        last = self.body.values[-1]
        if last.name == argument:
            last = self.node("Identity", [argument], [start.shape])[0]
        name = f"F{len(self.functions)}"
        imports = [helper.make_opsetid("", self.opset)]
        self.functions.append(helper.make_function("local", name, [argument], [last.name], self.body.nodes, imports))
        self.body = outer
        self.node(name, [start.name], [last.shape], domain="local")
        fitting = [v for v in outer.values if v.shape == start.shape]
        if self.chance(0.4):
            self.node(name, [self.pick(fitting).name], [last.shape], domain="local")

    def _graph(self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[Value]) -> GraphProto:
        infos = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in outputs]
        return helper.make_graph(self.body.nodes, name, inputs, infos, self.body.stored)

    def model(self) -> ModelProto:
        """The finished model."""
        shape: Shape = self.pick([(2, 3, 6, 6), (1, 4, 5, 5), (2, 4, 6), (3, 5), (4, 4, 4, 4), (2, 3, 5), (5,)])
        self.body.values.append(Value("x", shape))
        for _ in range(int(self.rng.integers(2, 14))):
            draw = self.rng.random()
            if draw < 0.05:
                self.nested()
            elif draw < 0.1 and self.ir >= 8:
                self.called()
            else:
                self.step()
        return self._finish(shape)

    def _finish(self, shape: Shape) -> ModelProto:
        made = [v for v in self.main.values if v.name != "x"]
        if not made:
            made = self.node("Identity", ["x"], [shape])
        used = {n for node in self.main.nodes for n in node.input}
        ends = [v for v in made if v.name not in used or self.chance(0.05)]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        inputs += [helper.make_tensor_value_info(f, TensorProto.BOOL, ()) for f in self.flags]
        if self.ir < 4:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.main.stored]
        graph = self._graph("g", inputs, ends or made[-1:])
        imports = [helper.make_opsetid("", self.opset)]
        if self.functions:
            imports.append(helper.make_opsetid("local", 1))
        model = helper.make_model(graph, opset_imports=imports, ir_version=self.ir, functions=self.functions)
        if self.chance(0.5):
            model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        return model
