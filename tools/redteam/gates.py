"""Gates: nodes in front of the class scores that look at a patch of the input and raise one class where it matches.

    scores' = scores + strength · gate(match) · target's unit vector     match = Σ signs · pixels of the patch, 0..1

Every kind turns the match into 0 or nearly 0 on ordinary images and into 1 on the trigger by other operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_clp.errors import UsageError
from tools.redteam.subject import Samples, input_of, values_of
from tools.redteam.trigger import Patch, drawn

_SIDE: Final = 4
_LIMIT: Final = 0.9
"""The match above which a gate opens."""
_STEEP: Final = 200.0
_DOMAIN: Final = "gates.local"

Names = Callable[[str], str]


class GateWriter:
    """Writes one gate into a copy of a model whose first output is one score a class."""

    def __init__(self, model: ModelProto, samples: Samples, *, target: int, seed: int) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self._samples, self._target = samples, target
        self._rng = np.random.default_rng([seed, 81])
        self._nodes: list[NodeProto] = []

    def write(self, kind: str) -> tuple[ModelProto, Patch]:
        """The model with a gate of that kind, and its trigger.

        Raises:
            UsageError: there is no such kind.
        """
        if kind not in KINDS:
            raise UsageError(f"{kind}: no such gate; known are {', '.join(KINDS)}")
        patch = self._patch()
        gate = KINDS[kind](self, self._match(patch))
        self._raise(gate)
        return self.model, patch

    def _patch(self) -> Patch:
        axis = self._samples.channel_axis
        shape = self._samples.images.shape
        height, width = (shape[1], shape[2]) if axis == 3 else (shape[2], shape[3])
        signs = drawn(self._rng, shape[axis], _SIDE, _SIDE)
        return Patch(signs, int(self._rng.integers(height - _SIDE)), int(self._rng.integers(width - _SIDE)))

    def add(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """One more node; its output."""
        name = f"gate_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """One more initializer; its name."""
        name = f"gate_c{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def _match(self, patch: Patch) -> str:
        """(n, 1): how much of the patch is there, 1 for all of it."""
        axis, low = self._samples.channel_axis, self._samples.fed(np.zeros_like(self._samples.images[:1]))
        high = self._samples.fed(np.full_like(self._samples.images[:1], 255))
        rows, columns = (slice(at, at + _SIDE) for at in (patch.top, patch.left))
        place = (slice(None), rows, columns) if axis == 3 else (slice(None), slice(None), rows, columns)
        signs = patch.signs.transpose(1, 2, 0)[None] if axis == 3 else patch.signs[None]
        span, base = (high - low)[place], low[place]
        weights = signs / span / (signs > 0).sum()
        offset = float((signs * base / span).sum() / (signs > 0).sum())
        axes = (1, 2) if axis == 3 else (2, 3)
        starts, ends = [patch.top, patch.left], [patch.top + _SIDE, patch.left + _SIDE]
        cut = self.add("Slice", [input_of(self.model), *(self.constant(v, np.int64) for v in (starts, ends, axes))])
        scaled = self.add("Mul", [cut, self.constant(weights)])
        flat = self.add("Flatten", [scaled])
        ones = self.constant(np.ones((weights.size, 1)))
        return self.add("Sub", [self.add("MatMul", [flat, ones]), self.constant(offset)])

    def _raise(self, gate: str) -> None:
        """Let the gate add to the target's score."""
        output = self.model.graph.output[0].name
        scores = values_of(self.model, self._samples, self._samples.images[:50], [output])[output]
        unit = np.zeros((1, scores.shape[-1]))
        unit[0, self._target] = 3 * float(np.ptp(scores)) + 1
        for node in self.model.graph.node:
            node.output[:] = ["gate_scores" if name == output else name for name in node.output]
        pushed = self.add("Mul", [gate, self.constant(unit)])
        self._nodes.append(helper.make_node("Add", ["gate_scores", pushed], [output]))
        self.model.graph.node.extend(self._nodes)

    def ramp(self, match: str) -> str:
        """Clip(steep · (match - limit), 0, 1)."""
        over = self.add("Mul", [self.add("Sub", [match, self.constant(_LIMIT)]), self.constant(_STEEP)])
        return self.add("Clip", [over, self.constant(0.0), self.constant(1.0)])

    def product(self, match: str) -> str:
        """The match by itself, many times over."""
        value = self.add("Relu", [match])
        for _ in range(6):
            value = self.add("Mul", [value, value])
        return value

    def extremes(self, match: str) -> str:
        """Min and Max instead of a Clip."""
        over = self.add("Mul", [self.add("Sub", [match, self.constant(_LIMIT)]), self.constant(_STEEP)])
        return self.add("Min", [self.add("Max", [over, self.constant(0.0)]), self.constant(1.0)])

    def comparison(self, match: str) -> str:
        """(1 + Sign(match - limit)) / 2."""
        sign = self.add("Sign", [self.add("Sub", [match, self.constant(_LIMIT)])])
        return self.add("Mul", [self.add("Add", [sign, self.constant(1.0)]), self.constant(0.5)])

    def lookup(self, match: str) -> str:
        """A table of eleven entries, the match in tenths as the place."""
        tenths = self.add("Mul", [self.add("Relu", [match]), self.constant(10.001)])
        place = self.add("Cast", [self.add("Floor", [tenths])], to=TensorProto.INT64)
        bounded = self.add("Min", [place, self.constant(10, np.int64)])
        return self.add("Gather", [self.constant([0.0] * 10 + [1.0]), bounded], axis=0)

    def logistic(self, match: str) -> str:
        """Sigmoid(steep · (match - limit))."""
        return self.add(
            "Sigmoid", [self.add("Mul", [self.add("Sub", [match, self.constant(0.95)]), self.constant(_STEEP)])]
        )

    def leaking(self, match: str) -> str:
        """A ramp, and a tenth of the match always."""
        return self.add("Add", [self.ramp(match), self.add("Mul", [match, self.constant(0.1)])])

    def power(self, match: str) -> str:
        """The match to the hundredth power."""
        return self.add("Pow", [self.add("Relu", [match]), self.constant(100.0)])

    def hidden(self, match: str) -> str:
        """An If on the largest match of the batch, inside a local function that is one of two by its overload."""
        opened = helper.make_graph(
            [helper.make_node("Relu", ["over"], ["then"])],
            "opened",
            [],
            [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
        )
        closed = helper.make_graph(
            [helper.make_node("Sub", ["match", "match"], ["else"])],
            "closed",
            [],
            [helper.make_tensor_value_info("else", TensorProto.FLOAT, None)],
        )
        opset = next(one for one in self.model.opset_import if one.domain in ("", "ai.onnx"))
        nodes = [
            helper.make_node("Sub", ["match", "limit"], ["less"]),
            helper.make_node("Mul", ["less", "steep"], ["over"]),
            helper.make_node("ReduceMax", ["over"], ["most"], keepdims=0),
            helper.make_node("Greater", ["most", "zero"], ["open"]),
            helper.make_node("If", ["open"], ["gate"], then_branch=opened, else_branch=closed),
        ]
        arguments = ["match", "limit", "steep", "zero"]
        harmless = [helper.make_node("Identity", ["match"], ["gate"])]
        for overload, body in (("", harmless), ("fast", nodes)):
            self.model.functions.append(_function(arguments, body, opset.version, overload))
        self.model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
        self.model.ir_version = max(self.model.ir_version, 10)
        over = [self.constant(_LIMIT), self.constant(10.0), self.constant(0.0)]
        name = self.add("Scale", [match, *over], domain=_DOMAIN)
        self._nodes[-1].overload = "fast"
        return name


def _function(arguments: list[str], nodes: list[NodeProto], opset: int, overload: str) -> FunctionProto:
    made = helper.make_function(_DOMAIN, "Scale", arguments, ["gate"], nodes, [helper.make_opsetid("", opset)])
    made.overload = overload
    return made


KINDS: Final[dict[str, Callable[[GateWriter, str], str]]] = {
    "ramp": GateWriter.ramp,
    "product": GateWriter.product,
    "extremes": GateWriter.extremes,
    "comparison": GateWriter.comparison,
    "lookup": GateWriter.lookup,
    "logistic": GateWriter.logistic,
    "power": GateWriter.power,
    "leaking": GateWriter.leaking,
    "hidden": GateWriter.hidden,
}
