"""Caps on directions in a graph: what they compute, where they go, where none can go, and that they are known again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from onnx_clp.cap import bound_directions
from onnx_clp.cap.bound_directions import Site
from onnx_clp.config import CleanConfig
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.numerics.directions import Direction
from onnx_clp.run.pipeline import clean
from onnx_clp.validation.runtime import load_runtime
from onnx_clp.verdicts import LayerStatus, Skipped, SkipReason

Array = NDArray[Any]
CHANNELS = 12
RNG = np.random.default_rng(7)
VALUES: dict[str, Array] = {
    "W": RNG.normal(size=(CHANNELS, 3, 3, 3)),
    "B": RNG.normal(size=CHANNELS),
    "H": RNG.normal(size=(CHANNELS, 5)),
}
BODY = "c = Conv(x, W, B) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) s = MatMul(f, H) y = Identity(s)"
TWO = [
    Direction(np.eye(CHANNELS)[2], np.eye(CHANNELS)[2] + 0.25 * np.eye(CHANNELS)[5], -0.5),
    Direction(np.full(CHANNELS, 1 / np.sqrt(CHANNELS)), np.full(CHANNELS, 1 / np.sqrt(CHANNELS)), 0.25),
]


def network(body: str = BODY, dtype: str = "float", opset: int = 17, result: str = "5") -> ModelProto:
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> '
        f"net ({dtype}[2,3,9,9] x) => ({dtype}[2,{result}] y) {{ {body} }}"
    )
    model = onnx.parser.parse_model(text)
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(kind), n) for n, a in VALUES.items())
    return model


def site_of(model: ModelProto, value: str) -> tuple[GraphEdit, Site | Skipped]:
    index = ModelIndex(model, TensorStore())
    return GraphEdit(index), bound_directions.examine(index.main, value, CHANNELS, "layer")


def capped(model: ModelProto, value: str, directions: list[Direction]) -> ModelProto:
    edit, site = site_of(model, value)
    assert isinstance(site, Site), site
    assert all(bound_directions.refusal(site, one) is None for one in directions)
    bound_directions.put(edit, site, directions)
    edit.finish()
    onnx.checker.check_model(model, full_check=True)
    return model


def outputs(model: ModelProto, *, runtime: bool = False, names: list[str] | None = None) -> Array:
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    feeds = {"x": (2 * np.random.default_rng(0).normal(size=(2, 3, 9, 9))).astype(kind)}
    if runtime:
        session = load_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(names, feeds)[0])
    found: Any = ReferenceEvaluator(model).run(names, feeds)
    return np.asarray(found[0])


def expected(value: Array, directions: list[Direction]) -> Array:
    """The caps on a value with channels on axis 1, in float64."""
    moved = np.moveaxis(value.astype(np.float64), 1, -1)
    rows = moved.reshape(-1, CHANNELS)
    for one in directions:
        rows = one.cut(rows)
    return np.moveaxis(rows.reshape(moved.shape), -1, 1)


@pytest.mark.parametrize(("dtype", "limit"), [("float", 1e-5), ("float16", 2e-2), ("double", 1e-12)])
@pytest.mark.parametrize("value", ["c", "f"])
def test_a_value_is_cut_where_its_readers_see_it(value: str, dtype: str, limit: float) -> None:
    plain = outputs(_showing(network(dtype=dtype), value), names=[value])
    model = capped(_showing(network(dtype=dtype), value), value, TWO)
    cut = outputs(model, names=[value])
    wanted = expected(plain, TWO)
    assert cut.dtype == plain.dtype
    assert np.abs(wanted - plain.astype(np.float64)).max() > 0.1
    np.testing.assert_allclose(cut.astype(np.float64), wanted, atol=limit * np.abs(wanted).max())
    if dtype == "float":
        np.testing.assert_allclose(outputs(model, runtime=True, names=[value]), wanted, atol=1e-4)


def _showing(model: ModelProto, value: str) -> ModelProto:
    """The model with a value among its outputs."""
    model.graph.output.append(onnx.ValueInfoProto(name=value))
    return onnx.shape_inference.infer_shapes(model)


def test_what_lies_below_the_cap_stays_to_the_bit() -> None:
    far = [Direction(one.u, one.v, -1e4) for one in TWO]
    for runtime in (False, True):
        plain = outputs(network(), runtime=runtime)
        assert (outputs(capped(network(), "c", far), runtime=runtime) == plain).all()
        assert (outputs(capped(network(), "f", far), runtime=runtime) == plain).all()
    assert (outputs(capped(network(), "c", TWO)) != plain).any()


def test_the_graph_gets_four_nodes_a_cap_and_keeps_its_output() -> None:
    model = capped(network(), "c", TWO)
    block = ["Conv", "Relu", "Conv", "Sub"]
    assert [n.op_type for n in model.graph.node] == [
        "Conv", *block, *block, "Relu", "GlobalAveragePool", "Flatten", "MatMul", "Identity"
    ]  # fmt: skip
    assert [o.name for o in model.graph.output] == ["y"]
    assert capped(network(), "c", []) == network()
    flat = capped(network(), "f", TWO[:1])
    assert [n.op_type for n in flat.graph.node][4:8] == ["Gemm", "Relu", "MatMul", "Sub"]


def test_a_graph_output_is_cut_and_keeps_its_name() -> None:
    model = network("y = Conv(x, W, B)", result=f"{CHANNELS},7,7")
    plain = outputs(model)
    capped(model, "y", TWO)
    assert [o.name for o in model.graph.output] == ["y"]
    np.testing.assert_allclose(outputs(model), expected(plain, TWO), atol=1e-4)


def test_a_second_cap_on_the_same_value_comes_first() -> None:
    one = capped(capped(network(), "c", TWO[:1]), "f", TWO[1:])
    plain = outputs(_showing(network(), "c"), names=["c"])
    twice = capped(capped(_showing(network(), "c"), "c", TWO[:1]), "c", TWO[1:])
    # The later cap sits behind the earlier one, which gave the value its name.
    np.testing.assert_allclose(outputs(twice, names=["c"]), expected(plain, TWO), atol=1e-4)
    assert outputs(one).shape == (2, 5)


@pytest.mark.parametrize(
    ("body", "value", "reason"),
    [
        (BODY, "x", SkipReason.NOT_AFFINE),
        (BODY, "nowhere", SkipReason.NOT_AFFINE),
        ("c = Conv(x, W, B) n = Shape(c) y = Cast<to = 1>(n)", "n", SkipReason.UNSUPPORTED_OPERATOR),
        ("c = Conv(x, W, B) n = Shape(c) y = Reshape(c, n)", "y", SkipReason.NOT_PER_CHANNEL),
    ],
)
def test_a_value_that_cannot_take_a_cap_says_why(body: str, value: str, reason: SkipReason) -> None:
    model = network(body)
    if reason is SkipReason.NOT_PER_CHANNEL:
        model.graph.output[0].type.tensor_type.ClearField("shape")
    if reason is SkipReason.UNSUPPORTED_OPERATOR:
        vector = onnx.helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [2, 4])
        model.graph.value_info.append(vector)
    found = site_of(model, value)[1]
    assert isinstance(found, Skipped)
    assert found.reason is reason
    assert isinstance(site_of(network(), "c")[1], Site)


def test_two_dimensions_need_a_gemm_that_broadcasts() -> None:
    old = network(opset=6)
    found = site_of(old, "f")[1]
    assert isinstance(found, Skipped)
    assert "opset 7" in found.sentence
    assert isinstance(site_of(old, "c")[1], Site)


def test_a_direction_that_does_not_fit_the_type_or_the_channels_is_refused() -> None:
    site = site_of(network(dtype="float16"), "c")[1]
    assert isinstance(site, Site)
    assert bound_directions.refusal(site, TWO[0]) is None
    large = bound_directions.refusal(site, Direction(TWO[0].u, TWO[0].v, -1e6))
    assert large is not None
    assert large.reason is SkipReason.NOT_FINITE
    short = bound_directions.refusal(site, Direction(TWO[0].u[:3], TWO[0].v[:3], 0.0))
    assert short is not None
    assert short.reason is SkipReason.WRONG_LENGTH


@pytest.mark.parametrize("value", ["c", "f"])
def test_the_parts_of_a_cap_are_known_again_and_never_judged(value: str) -> None:
    spiky = Direction(np.eye(CHANNELS)[2], np.eye(CHANNELS)[2], -0.5)
    model = capped(network(), value, [spiky])
    for options in ({}, {"include": ("*",)}):
        layers = clean(model, CleanConfig(validate=False, layers="all", u=2.0, **options)).report.layers  # type: ignore[arg-type]
        parts = [layer for layer in layers if "cap on a direction" in layer.reason]
        assert len(parts) == 2
        assert {layer.status for layer in parts} == {LayerStatus.EXCLUDED}
        assert not any(layer.pruned for layer in parts)
    index = ModelIndex(network(), TensorStore())
    assert not any(bound_directions.is_part(index.main, n) for n in index.main.nodes if n.op_type in ("Conv", "MatMul"))


def test_a_layer_with_one_channel_elsewhere_is_no_part_of_a_cap() -> None:
    body = "a = Conv(x, V) r = Relu(a) b = Conv(r, U) z = Identity(b) y = Sub(z, x)"
    model = network(body, result="3,9,9")
    for name, shape in (("V", (1, 3, 1, 1)), ("U", (3, 1, 1, 1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name))
    index = ModelIndex(model, TensorStore())
    assert not any(bound_directions.is_part(index.main, n) for n in index.main.nodes if n.op_type == "Conv")
    model.graph.node[3].op_type, model.graph.node[4].input[:] = "Identity", ["x", "b"]
    index = ModelIndex(model, TensorStore())
    assert [bound_directions.is_part(index.main, n) for n in index.main.nodes if n.op_type == "Conv"] == [False] * 2
    del model.graph.node[3]
    index = ModelIndex(model, TensorStore())
    assert [bound_directions.is_part(index.main, n) for n in index.main.nodes if n.op_type == "Conv"] == [True] * 2
