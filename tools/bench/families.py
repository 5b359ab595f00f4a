"""Families of graphs that grow by blocks, to see how the time of a run grows with them.

Each maker takes the number of blocks and gives a model whose nodes, edges and stored numbers are proportional to it,
so that a run on twice the blocks should take at most twice the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from onnx import FunctionProto, ModelProto, TensorProto, helper

from tools.bench.models import Builder

Maker = Callable[[int], ModelProto]

_C: Final = 4
_SHAPE: Final[list[int | str]] = [1, _C, 4, 4]
_OPEN: Final = [None] * 4
_ROW: Final[list[int | str]] = [1, _C]


def _conv(b: Builder, x: str) -> str:
    return b.conv(x, _C, _C, 1)


def _normed(b: Builder, x: str) -> str:
    return b.batchnorm(_conv(b, x), _C)


def _affine(b: Builder, x: str) -> str:
    count = len(b.tensors)
    scale = b.tensor(f"s{count}", np.linspace(0.5, 1.5, _C).reshape(1, _C, 1, 1))
    shift = b.tensor(f"t{count}", np.linspace(-1, 1, _C).reshape(1, _C, 1, 1))
    return b.node("Add", [b.node("Mul", [x, scale]), shift])


def _separable(b: Builder, x: str) -> str:
    weight = b.tensor(f"d{len(b.tensors)}", np.ones((_C, 1, 3, 3)))
    x = b.node("Conv", [x, weight], group=_C, pads=[1] * 4)
    return b.node("Relu", [b.batchnorm(_conv(b, b.batchnorm(x, _C)), _C)])


def _squeezed(b: Builder, x: str) -> str:
    x = _normed(b, x)
    return b.node("Mul", [x, b.node("Sigmoid", [_conv(b, b.node("GlobalAveragePool", [x]))])])


def _shuffled(b: Builder, x: str) -> str:
    sizes = b.integers([_C // 2, _C - _C // 2])
    halves = b.many("Split", [x, sizes], 2, axis=1)
    return b.node("Concat", [halves[0], b.conv(halves[1], _C // 2, _C // 2, 1)], axis=1)


def _sliced(b: Builder, x: str) -> str:
    bounds = [[b.integers(v) for v in ends] for ends in (([0], [2], [1]), ([2], [_C], [1]))]
    parts = [b.node("Slice", [x, *ends]) for ends in bounds]
    return _conv(b, b.node("Concat", parts, axis=1))


def _quantised(b: Builder, x: str) -> str:
    count = len(b.tensors)
    scale, zero = b.tensor(f"q{count}", np.array(0.05)), b.typed(f"z{count}", np.array(0, np.int8))
    weight = b.typed(f"qw{count}", np.ones((_C, _C, 1, 1), np.int8))
    weight = b.node("DequantizeLinear", [weight, scale, zero])
    x = b.node("DequantizeLinear", [b.node("QuantizeLinear", [x, scale, zero]), scale, zero])
    return b.node("Relu", [b.node("Conv", [x, weight])])


def _chain(block: Callable[[Builder, str], str]) -> Maker:
    def make(count: int) -> ModelProto:
        b, x = Builder(), "x"
        for _ in range(count):
            x = block(b, x)
        return b.model(_SHAPE, x, None)

    return make


def _fan(block: Callable[[Builder, str], str], join: str) -> Maker:
    """`count` branches of one value, joined by one node, or all outputs where `join` is empty."""

    def make(count: int) -> ModelProto:
        b = Builder()
        ends = [block(b, "x") for _ in range(count)]
        if not join:
            return _with_outputs(b, ends)
        attributes = {"axis": 1} if join == "Concat" else {}
        return b.model(_SHAPE, b.node(join, ends, **attributes), None)

    return make


def _with_outputs(b: Builder, ends: list[str]) -> ModelProto:
    model = b.model(_SHAPE, ends[0], None)
    model.graph.output.extend(helper.make_tensor_value_info(end, TensorProto.FLOAT, _OPEN) for end in ends[1:])
    return model


def _all_outputs(block: Callable[[Builder, str], str]) -> Maker:
    """A chain whose every block's result is an output."""

    def make(count: int) -> ModelProto:
        b, ends = Builder(), ["x"]
        for _ in range(count):
            ends.append(block(b, ends[-1]))
        return _with_outputs(b, ends[1:])

    return make


def _functions(distinct: bool) -> Maker:
    """A chain of calls, of one function or of as many functions as calls."""

    def make(count: int) -> ModelProto:
        b, x, made = Builder(), "x", []
        for number in range(count):
            name = f"f{number if distinct else 0}"
            made.append(name)
            x = b.node(name, [x, b.tensor(f"w{number}", np.ones((_C, _C, 1, 1)))], domain="local")
        model = b.model(_SHAPE, x, None)
        model.opset_import.append(helper.make_opsetid("local", 1))
        model.functions.extend(_function(name) for name in dict.fromkeys(made))
        return model

    return make


def _function(name: str) -> FunctionProto:
    nodes = [helper.make_node("Conv", ["a", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    return helper.make_function("local", name, ["a", "w"], ["y"], nodes, [helper.make_opsetid("", 17)])


def _nested_calls(count: int) -> ModelProto:
    """Eight functions, each of which calls the one before, called in turn."""
    b, x = Builder(), "x"
    weight = b.tensor("w", np.ones((_C, _C, 1, 1)))
    model_functions = [_function("f0")]
    for depth in range(1, 8):
        nodes = [helper.make_node(f"f{depth - 1}", ["a", "w"], ["y"], domain="local")]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        model_functions.append(helper.make_function("local", f"f{depth}", ["a", "w"], ["y"], nodes, imports))
    for number in range(count):
        x = b.node(f"f{number % 8}", [x, weight], domain="local")
    model = b.model(_SHAPE, x, None)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(model_functions)
    return model


def _ifs(count: int) -> ModelProto:
    b, x = Builder(), "x"
    condition = b.typed("condition", np.array(True))
    for number in range(count):
        branches = []
        for name, op in (("then", "Relu"), ("else", "Neg")):
            inner = helper.make_node(op, [x], [f"{name}{number}"])
            out = helper.make_tensor_value_info(f"{name}{number}", TensorProto.FLOAT, _OPEN)
            branches.append(helper.make_graph([inner], name, [], [out]))
        x = _conv(b, b.node("If", [condition], then_branch=branches[0], else_branch=branches[1]))
    return b.model(_SHAPE, x, None)


def _skips(count: int) -> ModelProto:
    """Down and up again, every value on the way down added on the way up."""
    b, x, held = Builder(), "x", []
    for _ in range(count // 2):
        x = b.node("Relu", [_normed(b, x)])
        held.append(x)
    for other in reversed(held):
        x = b.node("Add", [_conv(b, x), other])
    return b.model(_SHAPE, x, None)


def _shared_weight(count: int) -> ModelProto:
    b, x = Builder(), "x"
    weight = b.tensor("shared", np.ones((_C, _C, 1, 1)) / _C)
    for _ in range(count):
        x = b.node("Relu", [b.batchnorm(b.node("Conv", [x, weight]), _C)])
    return b.model(_SHAPE, x, None)


def _gemms(count: int) -> ModelProto:
    b, x = Builder(), "x"
    for number in range(count):
        x = b.node(
            "Relu", [b.node("Gemm", [x, b.tensor(f"w{number}", np.eye(_C)), b.tensor(f"b{number}", np.ones(_C))])]
        )
    return b.model(_ROW, x, None)


def _matmuls(count: int) -> ModelProto:
    b, x = Builder(), "x"
    for number in range(count):
        x = b.node(
            "Add", [b.node("MatMul", [x, b.tensor(f"w{number}", np.eye(_C))]), b.tensor(f"b{number}", np.ones(_C))]
        )
    return b.model(_ROW, x, None)


def _dead(count: int) -> ModelProto:
    """A chain with a branch at every block that leads nowhere."""
    b, x = Builder(), "x"
    for _ in range(count):
        b.node("Relu", [b.node("Neg", [x])])
        x = _normed(b, x)
    return b.model(_SHAPE, x, None)


def _constants(count: int) -> ModelProto:
    """Weights from Constant nodes."""
    b, x = Builder(), "x"
    for number in range(count):
        value = helper.make_tensor(f"k{number}", TensorProto.FLOAT, [_C, _C, 1, 1], [1.0] * (_C * _C))
        x = b.node("Conv", [x, b.node("Constant", [], value=value)])
    return b.model(_SHAPE, x, None)


def _overridable(count: int) -> ModelProto:
    model = _chain(_normed)(count)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def _recorded(count: int) -> ModelProto:
    model = _chain(_normed)(count)
    for node in model.graph.node:
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, _SHAPE))
    return model


def _turned(b: Builder, x: str) -> str:
    return b.node("Transpose", [x], perm=[0, 1, 3, 2])


def _op(name: str, **attributes: object) -> Callable[[Builder, str], str]:
    return lambda b, x: b.node(name, [x], **attributes)


FAMILIES: Final[dict[str, Maker]] = {
    "conv": _chain(_conv),
    "conv-bn-relu": _chain(lambda b, x: b.node("Relu", [_normed(b, x)])),
    "residual": _chain(lambda b, x: b.node("Add", [_conv(b, x), x])),
    "residual-bn-relu": _chain(lambda b, x: b.node("Relu", [b.node("Add", [_normed(b, x), x])])),
    "residual-preact": _chain(lambda b, x: b.node("Add", [_conv(b, b.node("Relu", [b.batchnorm(x, _C)])), x])),
    "conv-mul-add": _chain(lambda b, x: _affine(b, _conv(b, x))),
    "affines": _chain(_affine),
    "relu": _chain(_op("Relu")),
    "identity": _chain(_op("Identity")),
    "transposes": _chain(
        lambda b, x: _op("Transpose", perm=[0, 1, 3, 2])(b, _op("Transpose", perm=[0, 1, 3, 2])(b, x))
    ),
    "reshapes": _chain(lambda b, x: b.node("Reshape", [b.node("Flatten", [x]), b.integers([1, _C, 4, 4])])),
    "batchnorm": _chain(lambda b, x: b.batchnorm(x, _C)),
    "instancenorm": _chain(
        lambda b, x: b.node(
            "InstanceNormalization",
            [_conv(b, x), b.tensor(f"g{len(b.tensors)}", np.ones(_C)), b.tensor(f"h{len(b.tensors)}", np.zeros(_C))],
        )
    ),
    "separable": _chain(_separable),
    "squeeze-excite": _chain(_squeezed),
    "swish": _chain(lambda b, x: (lambda y: b.node("Mul", [y, b.node("Sigmoid", [y])]))(_normed(b, x))),
    "shuffle": _chain(_shuffled),
    "slices": _chain(_sliced),
    "pools": _chain(lambda b, x: b.node("MaxPool", [_normed(b, x)], kernel_shape=[1, 1])),
    "quantised": _chain(_quantised),
    "skips": _skips,
    "branches-summed": _fan(lambda b, x: b.node("Relu", [_normed(b, x)]), "Sum"),
    "branches-concatenated": _fan(lambda b, x: b.node("Relu", [_normed(b, x)]), "Concat"),
    "branches-outputs": _fan(lambda b, x: b.node("Relu", [_normed(b, x)]), ""),
    "relu-outputs": _all_outputs(_op("Relu")),
    "conv-outputs": _all_outputs(lambda b, x: b.node("Relu", [_normed(b, x)])),
    "functions": _functions(True),
    "one-function": _functions(False),
    "nested-functions": _nested_calls,
    "ifs": _ifs,
    "shared-weight": _shared_weight,
    "gemm": _gemms,
    "matmul-add": _matmuls,
    "dead-branches": _dead,
    "constants": _constants,
    "overridable": _overridable,
    "recorded-shapes": _recorded,
}
"""Every family by name."""
