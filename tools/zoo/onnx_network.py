"""An ONNX classifier as a torch module (torch), whole or from an inner value on, and its weights back into the file.

Only what images go through is computed; what is constant in the graph is taken as it is. Weights, biases and the scales
and shifts of normalisations can be trained, statistics stay as they are: every BatchNormalization works in inference
mode. Known are the operators of `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference
from torch import Tensor, nn
from torch.nn import functional

from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex

Arguments = Sequence[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Arguments, Attributes], Tensor]

_LEARNING = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,), "BatchNormalization": (1, 2)}
"""Operator -> input slots that hold what can be trained."""


@dataclass(frozen=True, slots=True)
class Computation:
    """A node that depends on the images: its operator, attributes, and the names of its inputs and of its output."""

    operator: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str


class OnnxNetwork(nn.Module):  # type: ignore[misc, unused-ignore]
    """The scores of a model's first output, float32 (n, classes).

    Args:
        model: an ONNX classifier of images with its weights in memory; not changed.
        start: the value that `forward` is given, one of `cuts`; None for the images, (n, channels, height, width).

    Attributes:
        weights: what can be trained; `by_name` is the same by initializer.

    Raises:
        UsageError: an operator is not known, or what is needed does not all pass through `start`.
    """

    def __init__(self, model: ModelProto, start: str | None = None) -> None:
        super().__init__()
        scope = ModelIndex(model, TensorStore()).main
        images = _images(model)
        self._model, self._output = model, model.graph.output[0].name
        self.start = start or images
        self._computations = _needed(_computations(scope), self.start, self._output, images)
        self._dims = _dims(model)
        names = {name for each in self._computations for name in each.inputs if name and scope.is_constant(name)}
        learning = sorted(_learning(self._computations, scope))
        self.weights = nn.ParameterList([nn.Parameter(_tensor(scope, name)) for name in learning])
        self.by_name = dict(zip(learning, self.weights, strict=True))
        self._constants = {name: _tensor(scope, name) for name in names - set(learning)}

    def forward(self, x: Tensor) -> Tensor:
        """The scores for values of `start`."""
        return self.values(x, (self._output,))[0]

    def values(self, x: Tensor, wanted: Sequence[str]) -> list[Tensor]:
        """Several values by their names, computed together."""
        known: dict[str, Any] = {**self._constants, **self.by_name, self.start: x}
        for each in self._computations:
            if each.operator == "Shape":
                known[each.output] = self._shape(each.inputs[0], known, len(x))
            else:
                given = [known[name] if name else None for name in each.inputs]
                known[each.output] = OPERATORS[each.operator](given, each.attributes)
        return [known[name] for name in wanted]

    def _shape(self, name: str, known: Mapping[str, Any], batch: int) -> Tensor:
        """A value's dimensions; those of one before `start` are known but for the batch."""
        return torch.tensor(known[name].shape if name in known else (batch, *self._dims[name][1:]))

    def trained(self) -> ModelProto:
        """The model with the weights as they are now; everything else is as it was."""
        out = ModelProto()
        out.CopyFrom(self._model)
        for tensor in out.graph.initializer:
            if tensor.name in self.by_name:
                values = self.by_name[tensor.name].detach().cpu().numpy()
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return out


def cuts(model: ModelProto) -> list[tuple[str, tuple[int, ...]]]:
    """The inner values of four dimensions that all images pass through, in graph order, with their dimensions.

    A dimension that is open, such as the batch, is 0.
    """
    scope = ModelIndex(model, TensorStore()).main
    dims, order = _dims(model), _computations(scope)
    counted = [each for each in order if not _of_shape(order)[each.output]]
    last = {name: place for place, each in enumerate(counted) for name in each.inputs if each.operator != "Shape"}
    found = []
    for place, each in enumerate(counted[:-1]):
        live = {one.output for one in counted[: place + 1] if last.get(one.output, -1) > place}
        given = last.get(_images(model), -1) > place
        if live == {each.output} and not given and len(dims.get(each.output, ())) == 4:
            found.append((each.output, dims[each.output]))
    return found


def _of_shape(order: Sequence[Computation]) -> dict[str, bool]:
    """Whether each value depends on the images' shape alone."""
    found: dict[str, bool] = {}
    for each in order:
        inner = [found[name] for name in each.inputs if name in found]
        found[each.output] = each.operator == "Shape" or (bool(inner) and all(inner))
    return found


def _images(model: ModelProto) -> str:
    held = {tensor.name for tensor in model.graph.initializer}
    return next(value.name for value in model.graph.input if value.name not in held)


def _computations(scope: GraphIndex) -> list[Computation]:
    """The nodes of the main graph whose output is not constant."""
    return [_computation(node) for node in scope.nodes if not scope.is_constant(node.output[0])]


def _computation(node: NodeProto) -> Computation:
    if node.op_type not in OPERATORS and node.op_type != "Shape":
        raise UsageError(
            f"{node.op_type}: not among the operators that can be trained; known are {', '.join(OPERATORS)}"
        )
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return Computation(node.op_type, attributes, tuple(node.input), node.output[0])


def _needed(order: Sequence[Computation], start: str, output: str, images: str) -> list[Computation]:
    """Those that lead from `start` to `output`; a shape needs nothing of what it is the shape of."""
    wanted, found = {output}, []
    for each in reversed(order):
        if each.output in wanted and each.output != start:
            found.append(each)
            wanted |= set() if each.operator == "Shape" else set(each.inputs)
    if start not in wanted:
        raise UsageError(f"{start}: the output does not depend on it")
    if start != images and images in wanted:
        raise UsageError(f"{start}: not everything passes through it")
    return found[::-1]


def _learning(order: Sequence[Computation], scope: GraphIndex) -> set[str]:
    """The initializers in slots that can be trained."""
    held = [
        each.inputs[slot]
        for each in order
        for slot in _LEARNING.get(each.operator, ())
        if slot < len(each.inputs) and each.inputs[slot] in scope.initializers
    ]
    return set(held)


def _tensor(scope: GraphIndex, name: str) -> Tensor:
    found = scope.constant(name)
    if found is None:
        raise UsageError(f"{name}: its value cannot be read")
    return torch.from_numpy(np.array(found))


def _dims(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Dimensions of every value that are known, 0 for those that are not."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    known = [*graph.input, *graph.value_info, *graph.output]
    return {one.name: tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in known}


def _conv(given: Arguments, attributes: Attributes) -> Tensor:
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or given[1].dim() != 4:
        raise UsageError("Conv: only those of images whose padding is given can be trained")
    x, pads = given[0], list(attributes.get("pads", (0, 0, 0, 0)))
    same = pads[:2] == pads[2:]
    out: Tensor = functional.conv2d(
        x if same else functional.pad(x, (pads[1], pads[3], pads[0], pads[2])),
        given[1],
        given[2] if len(given) > 2 else None,
        tuple(attributes.get("strides", (1, 1))),
        tuple(pads[:2]) if same else 0,
        tuple(attributes.get("dilations", (1, 1))),
        attributes.get("group", 1),
    )
    return out


def _max_pool(given: Arguments, attributes: Attributes) -> Tensor:
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or len(attributes["kernel_shape"]) != 2:
        raise UsageError("MaxPool: only those of images whose padding is given can be trained through")
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    x = functional.pad(given[0], (pads[1], pads[3], pads[0], pads[2]), value=-torch.inf) if any(pads) else given[0]
    out: Tensor = functional.max_pool2d(
        x,
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        0,
        tuple(attributes.get("dilations", (1, 1))),
        bool(attributes.get("ceil_mode", 0)),
    )
    return out


def _normalised(given: Arguments, attributes: Attributes) -> Tensor:
    x, scale, shift, mean, variance = given
    return functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, attributes.get("epsilon", 1e-5))


def _clip(given: Arguments, attributes: Attributes) -> Tensor:
    low, high = [*given[1:], None, None][:2]
    low = attributes.get("min") if low is None else float(low)
    high = attributes.get("max") if high is None else float(high)
    out: Tensor = torch.clamp(given[0], low, high)
    return out


def _gemm(given: Arguments, attributes: Attributes) -> Tensor:
    a, b = (one.T if attributes.get(flag) else one for one, flag in zip(given, ("transA", "transB"), strict=False))
    out: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return out + attributes.get("beta", 1.0) * given[2] if len(given) > 2 else out


def _mean(given: Arguments, attributes: Attributes) -> Tensor:
    axes = given[1].tolist() if len(given) > 1 and given[1] is not None else list(attributes["axes"])
    out: Tensor = given[0].mean(axes, keepdim=bool(attributes.get("keepdims", 1)))
    return out


def _pad(given: Arguments, attributes: Attributes) -> Tensor:
    ends = (given[1].tolist() if len(given) > 1 else list(attributes["pads"]),)[0]
    if attributes.get("mode", b"constant") != b"constant":
        raise UsageError("Pad: only one that pads by a constant can be trained")
    before, after = ends[: len(ends) // 2], ends[len(ends) // 2 :]
    pairs = [size for pair in zip(before[::-1], after[::-1], strict=True) for size in pair]
    value = float(given[2]) if len(given) > 2 and given[2] is not None else attributes.get("value", 0.0)
    return functional.pad(given[0], pairs, value=value)


def _reshape(given: Arguments, _attributes: Attributes) -> Tensor:
    x, wanted = given[0], given[1].tolist()
    out: Tensor = x.reshape([x.shape[at] if size == 0 else size for at, size in enumerate(wanted)])
    return out


def _unsqueeze(given: Arguments, attributes: Attributes) -> Tensor:
    out: Tensor = given[0]
    for axis in sorted(given[1].tolist() if len(given) > 1 else attributes["axes"]):
        out = out.unsqueeze(axis)
    return out


def _gather(given: Arguments, attributes: Attributes) -> Tensor:
    axis, places = attributes.get("axis", 0), given[1].long()
    out: Tensor = given[0].index_select(axis, places.reshape(-1))
    return out.squeeze(axis) if places.dim() == 0 else out


OPERATORS: dict[str, Operator] = {
    "Add": lambda given, _: given[0] + given[1],
    "BatchNormalization": _normalised,
    "Clip": _clip,
    "Concat": lambda given, attributes: torch.cat([torch.atleast_1d(one) for one in given], attributes["axis"]),
    "Conv": _conv,
    "Div": lambda given, _: given[0] / given[1],
    "Flatten": lambda given, attributes: given[0].flatten(attributes.get("axis", 1)),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, _: given[0].mean((2, 3), keepdim=True),
    "Identity": lambda given, _: given[0],
    "MatMul": lambda given, _: given[0] @ given[1],
    "Max": lambda given, _: reduce(torch.maximum, given),
    "MaxPool": _max_pool,
    "Min": lambda given, _: reduce(torch.minimum, given),
    "Mul": lambda given, _: given[0] * given[1],
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": lambda given, _: functional.relu(given[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda given, _: torch.sigmoid(given[0]),
    "Sub": lambda given, _: given[0] - given[1],
    "Transpose": lambda given, attributes: given[0].permute(tuple(attributes["perm"])),
    "Unsqueeze": _unsqueeze,
}
"""Operator -> (inputs, attributes) -> output; an input that is left out is None."""
