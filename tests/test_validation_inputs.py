"""What a model is fed: shapes for open dimensions, values of the right type, and the first weight's hints."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.validation import inputs
from onnx_clp.validation.anatomy import Anatomy, InputSpec, anatomy_of
from onnx_clp.validation.session import Array
from tests.validation_models import run, text_model

DENSE = "{ f = Flatten(x) y = MatMul(f, w) }"
CONV = "<float[2,{c},3,3] w = {{{zeros}}}>"


def anatomy(body: str, opset: int = 17) -> Anatomy:
    return anatomy_of(parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {body}'))


def conv(form: str, channels: int, before: str = "", source: str = "x", attributes: str = "") -> Anatomy:
    zeros = ", ".join(["0"] * (18 * channels))
    weight = CONV.format(c=channels, zeros=zeros)
    return anatomy(f"g (float{form} x) => (float[] y) {weight} {{ {before} y = Conv{attributes}({source}, w) }}")


def first(found: Anatomy, **given: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return next(inputs.trial_shapes(found.inputs, given))


@pytest.mark.parametrize(
    ("found", "shape"),
    [
        pytest.param(conv("[1,3,32,48]", 3), (1, 3, 32, 48), id="fixed"),
        pytest.param(conv("[n,3,32,32]", 3), (1, 3, 32, 32), id="batch"),
        pytest.param(conv("[n,c,h,w]", 5), (1, 5, 64, 64), id="channels from the weight"),
        pytest.param(conv("[n,c,h,w]", 2, attributes="<group: int = 2>"), (1, 4, 64, 64), id="grouped"),
        pytest.param(conv("[]", 5), (1, 5, 64, 64), id="open rank"),
        pytest.param(
            conv("[n,h,w,c]", 5, "t = Transpose<perm: ints = [0, 3, 1, 2]>(x)", "t"),
            (1, 64, 64, 5),
            id="NHWC",
        ),
        pytest.param(
            conv("[n,c,h,w]", 5, "s = Cast<to: int = 1>(x) t = Sub(s, s)", "t"),
            (1, 5, 64, 64),
            id="behind others",
        ),
        pytest.param(anatomy("g (float[n,c,h,w] x) => (float[] y) { y = Relu(x) }"), (1, 3, 64, 64), id="no hint"),
        pytest.param(anatomy("g (float[batch] x) => (float[] y) { y = Relu(x) }"), (1,), id="vector"),
        pytest.param(anatomy("g (float x) => (float y) { y = Relu(x) }"), (), id="scalar"),
    ],
)
def test_first_guess(found: Anatomy, shape: tuple[int, ...]) -> None:
    assert first(found) == {"x": shape}


def test_rows_of_a_dense_layer_come_from_its_weight() -> None:
    zeros = ", ".join(["0"] * 12)
    body = f"g (float[n,k] x) => (float[] y) <float[6,2] w = {{{zeros}}}> {{ y = MatMul(x, w) }}"
    assert first(anatomy(body)) == {"x": (1, 6)}
    assert first(anatomy(body.replace("MatMul", "Gemm"))) == {"x": (1, 6)}
    flipped = body.replace("float[6,2]", "float[2,6]").replace("MatMul", "Gemm<transB: int = 1>")
    assert first(anatomy(flipped)) == {"x": (1, 6)}


def test_symbols_are_shared_and_given_shapes_win() -> None:
    found = anatomy("g (float[n,h] x, float[n,h] z, float[m,batch_size] s) => (float[] y) { y = Add(x, z) }")
    assert first(found) == {"x": (1, 64), "z": (1, 64), "s": (1, 1)}
    assert first(found, x=(4, 7)) == {"x": (4, 7), "z": (4, 7), "s": (1, 1)}


def test_other_sizes_follow_and_none_comes_twice() -> None:
    found = conv("[n,3,h,w]", 3)
    shapes = [s["x"] for s in inputs.trial_shapes(found.inputs, {})]
    assert shapes[:3] == [(1, 3, 64, 64), (1, 3, 224, 224), (1, 3, 32, 32)]
    assert len(shapes) == len(set(shapes)) == len(inputs.SIZES)


def test_volumes_start_small() -> None:
    found = anatomy("g (float[n,c,d,h,w] x) => (float[] y) { y = Relu(x) }")
    sizes = [s["x"][2] for s in islice(inputs.trial_shapes(found.inputs, {}), 3)]
    assert sizes == [32, 64, 16]


def test_states_of_side_inputs_are_tried_at_one() -> None:
    found = anatomy("g (float[1,t] x, float[2,s,8] state) => (float[] y) { y = Relu(x) }")
    assert list(islice(inputs.trial_shapes(found.inputs, {}), 2)) == [
        {"x": (1, 64), "state": (2, 64, 8)},
        {"x": (1, 64), "state": (2, 1, 8)},
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"z": (1,)}, "--shape z: the model has no such input; it has x"),
        ({"x": (1, 4)}, "--shape x: 1,4 does not fit the model's n,3,h,w"),
        ({"x": (1, 4, 8, 8)}, "--shape x: 1,4,8,8 does not fit the model's n,3,h,w"),
    ],
)
def test_shapes_that_contradict_the_model(given: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        next(inputs.trial_shapes(conv("[n,3,h,w]", 3).inputs, given))


def test_size_that_a_later_layer_fixes_is_found(tmp_path: Path) -> None:
    zeros = ", ".join(["1"] * 300)
    body = f"g (float[n,3,h,w] x) => (float[] y) <float[300,1] w = {{{zeros}}}> " + DENSE
    with pytest.raises(NotValidated, match="say them with --shape"):
        run(text_model(body, tmp_path))
    assert run(text_model(body, tmp_path), shapes={"x": (1, 3, 10, 10)}).validation.outcome == "validated"
    zeros = ", ".join(["1"] * 2352)
    body = body[: body.index("<")] + f"<float[2352,1] w = {{{zeros}}}> {DENSE}"
    assert run(text_model(body, tmp_path)).validation.outcome == "validated"


def test_integers_that_index_are_made_small_enough(tmp_path: Path) -> None:
    body = "g (int64[n,4] x) => (float[] y) <float[1,2] t = {1, 2}> { y = Gather(t, x) }"
    assert run(text_model(body, tmp_path)).validation.outcome == "validated"


def draw(elem_type: int, shape: tuple[int, ...] = (2000,), index: int = 0, seed: int = 0) -> Array:
    return inputs.draw([InputSpec("x", elem_type, shape)], {"x": shape}, seed, index, "small")["x"]


@pytest.mark.parametrize(
    ("elem_type", "dtype", "low", "high"),
    [
        (1, "float32", -3, 3),
        (10, "float16", -3, 3),
        (11, "float64", -3, 3),
        (16, "bfloat16", -3, 3),
        (2, "uint8", 5, 250),
        (3, "int8", -120, 120),
        (7, "int64", 0, 9),
        (6, "int32", 0, 9),
        (9, "bool", 0, 1),
    ],
)
def test_values_have_the_type_and_range(elem_type: int, dtype: str, low: float, high: float) -> None:
    values = draw(elem_type)
    assert values.dtype.name == dtype
    assert float(values.min()) <= low
    assert float(values.max()) >= high


def test_draws_differ_by_index_and_seed_and_repeat() -> None:
    assert np.array_equal(draw(1, index=1), draw(1, index=1))
    assert not np.array_equal(draw(1, index=1), draw(1, index=3))
    assert not np.array_equal(draw(1), draw(1, seed=1))
    uniform = draw(1, index=1)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert draw(8, (2,)).tolist() == ["a", "a"]


@pytest.mark.parametrize(("elem_type", "shape"), [(0, ()), (999, ()), (1, (1 << 20, 1 << 20))])
def test_inputs_that_cannot_be_made(elem_type: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(NotValidated, match="not validated because input x"):
        draw(elem_type, shape)


def test_sequence_inputs_cannot_be_made(tmp_path: Path) -> None:
    body = "g (seq(float[4]) x, int64 i) => (float[4] y) { y = SequenceAt(x, i) }"
    with pytest.raises(NotValidated, match="input x is of a type that no inputs are made for"):
        run(text_model(body, tmp_path))


def test_an_integer_operator_of_onnx_runtime_is_quantised() -> None:
    body = (
        '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float x) => (float y) '
        "<float s = {1}, uint8 z = {0}> { y = com.microsoft.QLinearMul(x, s, z, x, s, z, s, z) }"
    )
    assert anatomy_of(parser.parse_model(body)).precision == "quantised"


@pytest.mark.parametrize("between", ["LeakyRelu(x)", "Max(x, x)", "CastLike(x, x)"])
def test_channels_are_read_through_what_keeps_axes(between: str) -> None:
    found = conv("[n,c,h,w]", 5, f"a = {between}", "a")
    assert first(found)["x"][1] == 5


@pytest.mark.parametrize(
    ("body", "precision"),
    [
        ("g (float[1] x) => (float[1] y) { y = Relu(x) }", "float32"),
        ("g (double[1] x) => (double[1] y) { y = Relu(x) }", "float64"),
        (
            "g (double[1] x) => (double[1] y) { z = Cast<to: int = 1>(x) y = Cast<to: int = 11>(z) }",
            "float32",
        ),
        ("g (float[1] x) => (float[1] y) { z = Cast<to: int = 10>(x) y = Cast<to: int = 1>(z) }", "float16"),
        ("g (int64[1] x) => (int64[1] y) { y = Abs(x) }", "float32"),
        (
            "g (float x) => (float y) <float s = {1}> { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }",
            "quantised",
        ),
    ],
)
def test_precision_is_the_coarsest_there_is(body: str, precision: str) -> None:
    assert anatomy(body).precision == precision


def test_randomness_is_seen_in_nested_graphs() -> None:
    nested = (
        "g (bool c, float[1] x) => (float[1] y) { "
        "y = If<then_branch = t () => (float[1] a) { a = RandomNormalLike(x) }, "
        "else_branch = e () => (float[1] b) { b = Relu(x) }>(c) }"
    )
    assert anatomy(nested).random
    assert not anatomy(nested.replace("RandomNormalLike", "Abs")).random


def test_initializers_are_not_fed() -> None:
    found = anatomy("g (float[1] x, float[1] w = {1}) => (float[1] y) { y = Add(x, w) }")
    assert [spec.name for spec in found.inputs] == ["x"]
