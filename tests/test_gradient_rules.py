"""Every gradient rule against central differences, and the forms that have none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onnx_clp.gradient.rules import FLAT, RULES
from tests.gradients import Case, check, draw

X = draw(2, 3, 4)
POSITIVE = np.abs(X) + 0.1
IMAGE = draw(2, 4, 5, 6)


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


def case(op: str, *inputs: Any, **more: Any) -> Any:
    """A row of the table, named after what it holds."""
    named = {k: more.pop(k) for k in ("wanted", "opset", "outputs", "linear", "dynamic", "reference") if k in more}
    made = Case(op, inputs, attributes=more, **named)
    label = "-".join(f"{k}={v}" for k, v in {**more, **named}.items())
    shapes = "x".join(str(list(i.shape)) if i is not None else "none" for i in inputs)
    return pytest.param(made, id=f"{op}-{shapes}-{label}".replace(" ", ""))


UNARY = [
    case("Relu", X),
    case("LeakyRelu", X, alpha=0.2),
    case("Sigmoid", X),
    case("HardSigmoid", X, alpha=0.3, beta=0.4),
    case("HardSigmoid", X * 5),
    case("HardSwish", X * 3),
    case("Tanh", X),
    case("Elu", X, alpha=0.7),
    case("Selu", X),
    case("Celu", X, alpha=0.6),
    case("Gelu", X, opset=20, reference=False),
    case("Gelu", X, opset=20, approximate="tanh"),
    case("Erf", X, reference=False),
    case("Softplus", X),
    case("Softsign", X),
    case("Mish", X),
    case("Swish", X, opset=24, alpha=1.3),
    case("ThresholdedRelu", X, alpha=0.5),
    case("Exp", X),
    case("Log", POSITIVE),
    case("Sqrt", POSITIVE),
    case("Abs", X),
    case("Neg", X),
    case("Reciprocal", POSITIVE),
    case("Sin", X),
    case("Cos", X),
    case("Clip", X, np.asarray(-0.5), np.asarray(0.7)),
    case("Clip", X, None, np.asarray(0.7)),
    case("Clip", X, np.asarray(-0.5)),
    case("Clip", X),
    case("Identity", X),
    case("Dropout", X),
    case("Softmax", X),
    case("Softmax", X, axis=1),
    case("LogSoftmax", X),
    case("LogSoftmax", X, axis=0),
]

BROADCAST = [
    case(op, a, b, wanted=(0, 1), dynamic=dynamic)
    for dynamic in (False, True)
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu")
    for a, b in [(X, np.abs(draw(2, 3, 4, seed=1)) + 0.1), (X, np.abs(draw(3, 1)) + 0.1), (X, np.abs(draw(1)) + 0.1)]
] + [
    case("Mul", draw(4), X, wanted=(0, 1)),
    case("Add", draw(3, 1), draw(2, 1, 4), wanted=(0, 1)),
    case("Add", draw(3, 1), draw(2, 1, 4), wanted=(0, 1), dynamic=True),
    case("Mul", X, np.asarray(2.5)),
    case("Pow", POSITIVE, np.abs(draw(4)), wanted=(0, 1)),
    case("Pow", X, np.asarray(2.0)),
    case("Pow", X, np.asarray(3.0)),
    case("Pow", X, np.asarray(3, np.int64)),
    case("Pow", POSITIVE, np.asarray(0.5)),
    case("Sum", X, draw(4), draw(3, 1), wanted=(0, 1, 2)),
    case("Mean", X, draw(4), draw(3, 1), wanted=(0, 1, 2)),
    case("Max", X, draw(2, 3, 4, seed=1), draw(4), wanted=(0, 1, 2)),
    case("Min", X, draw(2, 3, 4, seed=1), draw(4), wanted=(0, 1, 2), dynamic=True),
    case("Where", X > 0, X, draw(4), wanted=(1, 2)),
    case("Where", X > 0, X, draw(4), wanted=(2,)),
    case("Expand", draw(3, 1), ints(2, 1, 4)),
    case("Expand", draw(3, 1), ints(2, 1, 4), dynamic=True),
]

PRODUCTS = [
    case("MatMul", a, b, wanted=(0, 1), dynamic=dynamic)
    for dynamic in (False, True)
    for a, b in [
        (draw(3, 4), draw(4, 2)),
        (draw(2, 3, 4), draw(4, 2)),
        (draw(3, 4), draw(2, 4, 2)),
        (draw(4), draw(4, 2)),
        (draw(3, 4), draw(4)),
        (draw(4), draw(4)),
        (draw(2, 3, 4), draw(4)),
        (draw(4), draw(2, 4, 2)),
    ]
] + [
    case("MatMul", draw(2, 5, 3, 4), draw(5, 4, 2), wanted=(0, 1)),
    case("MatMul", draw(2, 1, 3, 4), draw(5, 4, 2), wanted=(0, 1)),
    case("MatMul", draw(2, 5, 3, 4), draw(2, 5, 4, 2), wanted=(0, 1)),
    *(
        case("Gemm", draw(*a), draw(*b), c, wanted=(0, 1, 2), transA=ta, transB=tb, alpha=0.5, beta=2.0)
        for c in (draw(3, 2), draw(2), draw(3, 1), np.asarray(0.5))
        for ta, a in ((0, (3, 4)), (1, (4, 3)))
        for tb, b in ((0, (4, 2)), (1, (2, 4)))
    ),
    case("Gemm", draw(3, 4), draw(4, 2), wanted=(0, 1)),
]

REDUCTIONS = [
    case(op, POSITIVE, ints(*axes), keepdims=keep, dynamic=dynamic)
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    for axes, keep, dynamic in [((1,), 1, False), ((0, -1), 0, False), ((2, 0), 0, True)]
] + [
    case("ReduceMean", X, keepdims=0),
    case("ReduceMean", X, keepdims=1, dynamic=True),
    case("ReduceMean", X, keepdims=0, axes=[1, 2], opset=17),
    case("ReduceMax", X, keepdims=0, axes=[-1], opset=17),
    case("ReduceSum", X, ints(), keepdims=0),
    case("ReduceSum", X, ints(), noop_with_empty_axes=1),
    case("ReduceLogSumExp", X, ints(1)),
    case("ReduceMax", X, keepdims=0),
    case("GlobalAveragePool", IMAGE),
    case("GlobalAveragePool", IMAGE, dynamic=True),
    case("GlobalMaxPool", IMAGE),
    case("GlobalMaxPool", IMAGE, dynamic=True),
]

SCALE, BIAS = draw(4, seed=2), draw(4, seed=3)
NORMALISATIONS = [
    case("BatchNormalization", IMAGE, SCALE, BIAS, draw(4, seed=4), np.abs(draw(4, seed=5)) + 0.1, epsilon=1e-3),
    case("BatchNormalization", draw(3, 4), SCALE, BIAS, draw(4, seed=4), np.abs(draw(4, seed=5)) + 0.1, dynamic=True),
    case("InstanceNormalization", IMAGE, SCALE, BIAS, epsilon=1e-3),
    case("InstanceNormalization", draw(2, 4, 7), SCALE, BIAS, dynamic=True),
    case("LayerNormalization", X, draw(4, seed=2), draw(4, seed=3)),
    case("LayerNormalization", X, draw(3, 4, seed=2), axis=1, epsilon=1e-3),
    case("LayerNormalization", X, draw(4, seed=2), draw(4, seed=3), dynamic=True),
    case("GroupNormalization", IMAGE, SCALE, BIAS, num_groups=2, opset=21, reference=False),
    case("GroupNormalization", IMAGE, SCALE, BIAS, num_groups=4, opset=21, reference=False, dynamic=True),
    case("RMSNormalization", X, draw(4), opset=23),
]

LAYOUT = [
    case("Reshape", X, ints(4, 6)),
    case("Reshape", X, ints(0, -1), dynamic=True),
    case("Flatten", X),
    case("Flatten", X, axis=2, dynamic=True),
    case("Squeeze", draw(2, 1, 3), ints(1)),
    case("Squeeze", draw(2, 1, 3), ints(1), dynamic=True),
    case("Unsqueeze", X, ints(0, 2), dynamic=True),
    case("Transpose", X),
    case("Transpose", X, perm=[1, 2, 0]),
    case("Concat", X, draw(2, 5, 4), wanted=(0, 1), axis=1),
    case("Concat", X, draw(2, 3, 2), wanted=(1,), axis=-1),
    case("Concat", X, draw(2, 5, 4), wanted=(0, 1), axis=1, dynamic=True),
    case("Concat", X, draw(2, 3, 2), wanted=(0, 1), axis=-1, dynamic=True),
    case("Split", X, ints(1, 3), axis=2, outputs=2),
    case("Split", X, axis=2, outputs=2, num_outputs=2, dynamic=True),
    case("Split", X, axis=-1, outputs=4, opset=17),
    case("Tile", X, ints(2, 1, 3)),
    case("Tile", X, ints(2, 1, 3), dynamic=True),
    case("DepthToSpace", draw(2, 8, 2, 3), blocksize=2),
    case("DepthToSpace", draw(2, 8, 2, 3), blocksize=2, mode="CRD", dynamic=True),
    case("SpaceToDepth", draw(2, 2, 4, 6), blocksize=2),
]

GROUPS = {
    "unary": UNARY,
    "broadcast": BROADCAST,
    "products": PRODUCTS,
    "reductions": REDUCTIONS,
    "normalisations": NORMALISATIONS,
    "layout": LAYOUT,
}
ROWS = [row for rows in GROUPS.values() for row in rows]


@pytest.mark.parametrize("row", ROWS)
def test_a_rule_is_the_derivative(row: Case) -> None:
    check(row)


__all__ = ["FLAT", "RULES", "math"]
