"""Every gradient rule against central differences, and the forms that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from scipy import stats

from onnx_clp.errors import UnsupportedModelError
from onnx_clp.gradient.differentiate import differentiate
from onnx_clp.gradient.rules import FLAT, GRADIENTS
from tests.gradients import Case, check, draw, runtime

X = draw(2, 3, 4)
POSITIVE = np.abs(X) + 0.1
IMAGE = draw(2, 4, 5, 6)


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


def case(op: str, *inputs: Any, **more: Any) -> Any:
    """A row of the table, named after what it holds."""
    named: dict[str, Any] = {
        k: more.pop(k) for k in ("wanted", "opset", "outputs", "linear", "dynamic", "reference") if k in more
    }
    made = Case(op, inputs, attributes=more, **named)
    label = "-".join(f"{k}={v}" for k, v in [*more.items(), *named.items()])
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
    case("Clip", X, np.asarray(-0.5), np.asarray(0.7), wanted=(0, 1, 2)),
    case("Clip", X, None, np.asarray(0.7), wanted=(2,)),
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


ELSEWHERE = {
    "test_gradient_windows": ("Conv", "ConvTranspose", "MaxPool", "AveragePool"),
    "test_gradient_selection": ("Slice", "Gather", "Pad", "Resize", "QuantizeLinear", "DequantizeLinear"),
    "test_casts_between_floats_pass": ("Cast", "CastLike"),
}


def test_every_rule_has_a_row() -> None:
    held = {row.values[0].op for row in ROWS} | {op for ops in ELSEWHERE.values() for op in ops}
    assert held == set(GRADIENTS)
    assert not FLAT & set(GRADIENTS)


def gradient(text: str, x: Any, opset: int = 18) -> Any:
    """d Σy / dx of a model in ONNX's text form."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    found = differentiate(parser.parse_model(head + text), "y", ["x"])
    onnx.checker.check_model(found.model, full_check=True)
    return runtime(found.model).run([found.gradients["x"]], {"x": x})[0]


def test_casts_between_floats_pass() -> None:
    text = """g (float[3] x) => (double y) <double[3] r = {1, 2, 3}> {
        a = Cast <to = 11> (x)
        b = Mul (a, r)
        c = CastLike (b, x)
        d = Mul (c, x)
        e = Cast <to = 11> (d)
        y = ReduceSum <keepdims = 0> (e)
    }"""
    x = np.asarray([0.5, -1, 2], np.float32)
    found = gradient(text, x)
    assert found.dtype == np.float32
    assert np.allclose(found, 2 * x * [1, 2, 3])


def test_a_cast_to_integers_stops_the_gradient() -> None:
    text = """g (float[3] x) => (float y) { a = Cast <to = 7> (x)
        b = Cast <to = 1> (a)
        c = Mul (b, x)
        y = ReduceSum <keepdims = 0> (c) }"""
    x = np.asarray([1.5, -1.25, 2], np.float32)
    assert np.allclose(gradient(text, x), [1, -1, 2])


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_is_its_closed_form(form: str) -> None:
    x = np.linspace(-4, 4, 33)
    text = (
        f'g (float[33] x) => (float y) {{ a = Gelu <approximate = "{form}"> (x)\n y = ReduceSum <keepdims = 0> (a) }}'
    )
    normal = stats.norm
    exact = normal.cdf(x) + x * normal.pdf(x)
    tolerance = 1e-6 if form == "none" else 2e-3  # the other is an approximation of it
    assert np.abs(gradient(text, x.astype(np.float32), 20) - exact).max() < tolerance


def test_gelu_as_exporters_write_it() -> None:
    text = """g (float[33] x) => (float y) <float root = {1.4142135}, float one = {1}, float half = {0.5}> {
        a = Div (x, root)
        b = Erf (a)
        c = Add (b, one)
        d = Mul (x, c)
        e = Mul (d, half)
        y = ReduceSum <keepdims = 0> (e)
    }"""
    x = np.linspace(-4, 4, 33)
    exact = stats.norm.cdf(x) + x * stats.norm.pdf(x)
    assert np.abs(gradient(text, x.astype(np.float32)) - exact).max() < 1e-6


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        ("Relu (x)", [-1, 0, 1], [0, 0, 1]),
        ("LeakyRelu <alpha = 0.5> (x)", [-1, 0, 1], [0.5, 0.5, 1]),
        ("Clip (x, zero, one)", [-1, 0, 1], [0, 1, 1]),
        ("Max (x, zero)", [-1, 0, 1], [0, 1, 1]),
        ("Max (zero, x)", [-1, 0, 1], [0, 0, 1]),
        ("Min (x, one)", [0, 1, 2], [1, 1, 0]),
        ("HardSigmoid <alpha = 0.5, beta = 0.0> (x)", [-1, 1, 2], [0, 0.5, 0]),
        ("Abs (x)", [-1, 0, 1], [-1, 0, 1]),
        ("ReduceMax <keepdims = 0> (x)", [2, 1, 2], [0.5, 0, 0.5]),
    ],
)
def test_corners_are_as_documented(op: str, x: list[float], expected: list[float]) -> None:
    body = f"{{ a = {op}\n y = ReduceSum <keepdims = 0> (a) }}"
    text = f"g (float[3] x) => (float y) <float zero = {{0}}, float one = {{1}}> {body}"
    assert gradient(text, np.asarray(x, np.float32)).tolist() == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "g (float[1, 2, 3, 3] x, float[2] s) => (float y, float[2] m, float[2] v) {"
            "[bn] a, m, v = BatchNormalization <training_mode = 1> (x, s, s, s, s)\n"
            "y = ReduceSum <keepdims = 0> (a) }",
            "'bn': cannot be differentiated: it is in training mode",
        ),
        (
            "g (float[1, 1, 2, 2] x) => (float y) { [cv] a = Conv (x, x)\n y = ReduceSum <keepdims = 0> (a) }",
            "'cv': cannot be differentiated: its input 1 depends on",
        ),
        (
            "g (float[1, 1, 4, 4] x) => (float y) {"
            "[mp] a = MaxPool <kernel_shape = [2, 2], storage_order = 1> (x)\n y = ReduceSum <keepdims = 0> (a) }",
            "'mp': cannot be differentiated: its storage_order is 1",
        ),
        (
            "g (float[4] x) => (float y) <bool t = {1}, float r = {0.5}> {"
            "[do] a = Dropout (x, r, t)\n y = ReduceSum <keepdims = 0> (a) }",
            "'do': cannot be differentiated: it may run in training mode",
        ),
        (
            "g (float[4] x, bool c) => (float y) { [if] a = If <"
            "then_branch = t () => (float[4] u) { u = Neg (x) },"
            "else_branch = e () => (float[4] w) { w = Exp (x) }> (c)\n"
            "b = Mul (a, x)\n y = ReduceSum <keepdims = 0> (b) }",
            "If node 'if': there is no gradient rule",
        ),
    ],
)
def test_a_form_without_a_rule_is_named(text: str, why: str) -> None:
    with pytest.raises(UnsupportedModelError, match=why):
        gradient(text, None)
