"""Which nodes are linear layers, how their axes and attributes are read, and why others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.find import find_layer, is_blocked
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.verdicts import Skipped, SkipReason
from tests.forms.build import initializer, model, overridable, rand
from tests.test_graph import indexed


def first(body: str, *edits: Any, **weights: Any) -> tuple[GraphIndex, NodeProto]:
    main = indexed(model(body, *edits, **weights)()).main
    return main, main.nodes[0]


def layer(body: str, *edits: Any, **weights: Any) -> LinearLayer:
    found = find_layer(*first(body, *edits, **weights))
    assert isinstance(found, LinearLayer), found
    return found


def refusal(body: str, *edits: Any, **weights: Any) -> Skipped:
    found = find_layer(*first(body, *edits, **weights))
    assert isinstance(found, Skipped)
    assert found.sentence
    return found


def test_a_convolution() -> None:
    found = layer(
        "y = Conv<group=3, strides=[2,1], dilations=[1,2], pads=[1,0,1,0]>(x, w, b)", w=rand(6, 1, 3, 2), b=rand(6)
    )
    assert (found.channels, found.inputs, found.rank, found.axis_from_end) == (6, 3, 4, 3)
    assert found.geometry is not None
    assert (found.geometry.kernel, found.geometry.strides, found.geometry.dilations) == ((3, 2), (2, 1), (1, 2))
    assert found.is_convolution
    assert not found.no_padding
    assert (found.layout.out_axis, found.layout.in_axis, found.layout.groups) == (0, 1, 3)
    np.testing.assert_array_equal(found.bias.values(), rand(6).astype(np.float64))
    assert found.output == "y"
    assert found.name == "y"
    assert found.weight_shape == (6, 1, 3, 2)


def test_a_node_name_is_the_layers_name() -> None:
    proto = model("y = Conv(x, w)", w=rand(4, 3, 1, 1))()
    proto.graph.node[0].name = "stem"
    main = indexed(proto).main
    found = find_layer(main, main.nodes[0])
    assert isinstance(found, LinearLayer)
    assert (found.name, found.operator) == ("stem", "Conv")


def test_a_grouped_transposed_convolution() -> None:
    found = layer("y = ConvTranspose<group=3, strides=[2,2]>(x, w)", w=rand(3, 4, 2, 2))
    assert (found.channels, found.inputs) == (12, 3)
    assert found.geometry is not None
    assert found.geometry.transposed
    assert found.layout.transposed
    assert not found.no_padding  # not every output position sees every tap


@pytest.mark.parametrize(
    ("attributes", "free"),
    [
        ("", True),
        ("<pads=[0,0,0,0]>", True),
        ("<pads=[0,0,0,1]>", False),
        ('<auto_pad="VALID">', True),
        ('<auto_pad="SAME_UPPER">', False),
        ('<auto_pad="SAME_LOWER">', False),
    ],
)
def test_padding(attributes: str, free: bool) -> None:
    assert layer(f"y = Conv{attributes}(x, w)", w=rand(4, 3, 2, 2)).no_padding is free


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm(turned: int) -> None:
    shape = (5, 3) if turned else (3, 5)
    found = layer(
        f"y = Gemm<transB={turned}, alpha=0.5, beta=2.0>(x, w, c)", x="float[2,3] x", w=rand(*shape), c=rand(5)
    )
    assert (found.channels, found.inputs, found.gain, found.rank) == (5, 3, 0.5, 2)
    assert found.geometry is None
    assert found.layout.out_axis == 1 - turned
    values = found.bias.values()
    assert values is not None
    np.testing.assert_allclose(values, 2 * rand(5).astype(np.float64))


def test_a_matmul_and_the_add_after_it() -> None:
    found = layer("k = MatMul(x, w) y = Add(b, k)", x="float[2,7,3] x", w=rand(3, 5), b=rand(5))
    assert (found.channels, found.inputs, found.rank, found.axis_from_end) == (5, 3, 3, 1)
    assert [n.op_type for n in found.inside] == ["Add"]
    assert found.output == "y"
    np.testing.assert_array_equal(found.bias.values(), rand(5))


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("k = MatMul(x, w) y = Add(k, b) z = Relu(k)", {"y": "float[2,5] y, float[2,5] z"}),
        ("k = MatMul(x, w) y = Add(k, x2)", {"x": "float[2,3] x, float[5] x2"}),
        ("k = MatMul(x, w) y = Add(k, b2)", {"b2": rand(2, 1)}),
        ("k = MatMul(x, w) y = Sub(k, b)", {}),
    ],
)
def test_an_add_that_is_no_bias(body: str, weights: dict[str, Any]) -> None:
    given = {"x": "float[2,3] x", "w": rand(3, 5), "b": rand(5)} | weights
    assert layer(body, **given).inside == []


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_convolution(fused: bool) -> None:
    attribute = '<activation="Relu">' if fused else ""
    body = f"y = com.microsoft.FusedConv{attribute}(x, w)"
    found = layer(body, imports='"com.microsoft" : 1', y="float[2,4,6,6] y", w=rand(4, 3, 1, 1))
    assert found.fused is fused
    assert found.operator == "com.microsoft.FusedConv"


@pytest.mark.parametrize(
    ("reason", "body", "edits", "weights"),
    [
        (SkipReason.NOT_CONSTANT, "y = Conv(x, w)", (), {"x": "float[2,3,6,6] x, float[4,3,1,1] w"}),
        (SkipReason.OVERRIDABLE, "y = Conv(x, w)", (overridable("w"),), {"w": rand(4, 3, 1, 1)}),
        (SkipReason.UNSUPPORTED_WEIGHT, "y = MatMul(w, x)", (), {"x": "float[3,2] x", "w": rand(5, 3)}),
        (SkipReason.UNSUPPORTED_WEIGHT, "y = MatMul(x, w)", (), {"x": "float[4,2,3] x", "w": rand(4, 3, 5)}),
        (SkipReason.UNSUPPORTED_WEIGHT, "y = MatMul(x, w)", (), {"x": "float[2,3] x", "w": rand(3)}),
        (
            SkipReason.UNSUPPORTED_WEIGHT,
            "y = MatMul(x, w)",
            (),
            {"x": "int64[2,3] x", "y": "int64[2,1] y", "w": np.ones((3, 1), np.int64)},
        ),
    ],
)
def test_why_a_linear_node_is_no_layer(reason: SkipReason, body: str, edits: Any, weights: dict[str, Any]) -> None:
    assert refusal(body, *edits, **weights).reason is reason


def test_an_overridable_weight_names_the_cure() -> None:
    found = refusal("y = Conv(x, w)", overridable("w"), w=rand(4, 3, 1, 1))
    assert "--freeze-inputs" in found.sentence


def test_other_nodes_are_no_linear_layers() -> None:
    for body in ("y = Relu(x)", "y = MaxPool<kernel_shape=[2,2]>(x)"):
        assert find_layer(*first(body)) is None
    main, node = first("y = com.acme.Conv(x, w)", imports='"com.acme" : 1', y="float[2,4,6,6] y", w=rand(4, 3, 1, 1))
    found = find_layer(main, node)
    assert isinstance(found, Skipped)
    assert "com.acme.Conv is of a domain" in found.sentence


def test_blocked_nodes_are_told() -> None:
    blocked = NodeProto(op_type="Conv", domain="com.microsoft.nchwc")
    assert is_blocked(blocked)
    assert not is_blocked(NodeProto(op_type="Conv", domain="com.microsoft"))


def test_the_weight_read_is_the_one_stored_whatever_is_edited_later() -> None:
    proto = model("y = Conv(x, w)", w=rand(4, 3, 1, 1))()
    main = indexed(proto).main
    found = find_layer(main, main.nodes[0])
    assert isinstance(found, LinearLayer)
    initializer(proto, "w").raw_data = bytes(48)
    np.testing.assert_array_equal(found.weight.values(), rand(4, 3, 1, 1))


@pytest.mark.parametrize("bias", ["", ", b", ", zero"])
def test_a_bias_that_is_absent_or_constant(bias: str) -> None:
    given = {"b": rand(4), "zero": np.zeros(4, np.float32)}
    used = {name: value for name, value in given.items() if bias.endswith(name) and bias}
    values = layer(f"y = Conv(x, w{bias})", w=rand(4, 3, 1, 1), **used).bias.values()
    assert values is not None
    np.testing.assert_array_equal(np.broadcast_to(values, 4), used.get("b", np.zeros(4)))


def test_a_bias_that_is_data_is_unknown() -> None:
    found = layer("y = Conv(x, w, b)", x="float[2,3,6,6] x, float[4] b", w=rand(4, 3, 1, 1))
    assert found.bias.values() is None


@pytest.mark.parametrize("operator", ["QLinearConv", "ConvInteger", "DequantizeLinear"])
def test_quantised_forms_are_layers_too(operator: str) -> None:
    q = np.arange(12, dtype=np.uint8).reshape(4, 3, 1, 1)
    scale, zero = np.array(0.5, np.float32), np.array(2, np.uint8)
    if operator == "QLinearConv":
        body, at = "y = QLinearConv(x, s, z, q, s, z, s, z)", 0
    elif operator == "ConvInteger":
        body, at = "c = ConvInteger(x, q, z, z) k = Cast<to=1>(c) y = Mul(k, s)", 0
    else:
        body, at = "w = DequantizeLinear(q, s, z) f = Cast<to=1>(x) y = Conv(f, w)", 2
    main, _ = first(
        body, x="uint8[1,3,6,6] x", y="uint8[1,4,6,6] y" if operator == "QLinearConv" else "", q=q, s=scale, z=zero
    )
    found = find_layer(main, main.nodes[at])
    assert isinstance(found, LinearLayer)
    assert (found.channels, found.inputs) == (4, 3)
    np.testing.assert_array_equal(found.weight.values(), (q.astype(np.float64) - 2) * 0.5)
    assert found.weight.data_type == TensorProto.FLOAT
