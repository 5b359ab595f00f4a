"""Small networks of the kinds that were once judged wrongly, refused, or passed over: what becomes of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_clp
from onnx_clp import CleanConfig
from onnx_clp.inversion.subject import read_subject
from onnx_clp.verdicts import LayerStatus
from tests.forms.build import Oracle, model, rand
from tests.forms.run import outputs
from tests.judging import OUTLIER, cleaned, exposed, layers, network, weight

CHANNELS = 12
TAIL = " r = Relu(c) y = Conv(r, w2)"

# Weights of quantisation-aware training

PER_TENSOR = np.float32(np.abs(weight(CHANNELS, 3, 3, 3)).max() / 127)
PER_CHANNEL = (np.abs(weight(CHANNELS, 3, 3, 3)).reshape(CHANNELS, -1).max(axis=1) / 127).astype(np.float32)
GRIDS: dict[str, Any] = {
    "st": PER_TENSOR,
    "zt": np.int8(0),
    "zu": np.uint8(128),
    "sc": PER_CHANNEL,
    "zc": np.zeros(CHANNELS, np.int8),
    "wt": np.ascontiguousarray(weight(CHANNELS, 3, 3, 3).transpose(1, 0, 2, 3)),
    "lo": np.int8(-127),
    "hi": np.int8(127),
}
FAKE = {
    "per tensor": "q = QuantizeLinear(w, st, zt) d = DequantizeLinear(q, st, zt) c = Conv(x, d)",
    "unsigned": "q = QuantizeLinear(w, st, zu) d = DequantizeLinear(q, st, zu) c = Conv(x, d)",
    "per channel": "q = QuantizeLinear<axis=0>(w, sc, zc) d = DequantizeLinear<axis=0>(q, sc, zc) c = Conv(x, d)",
    "axis from the end": (
        "q = QuantizeLinear<axis=-4>(w, sc, zc) d = DequantizeLinear<axis=-4>(q, sc, zc) c = Conv(x, d)"
    ),
    "no zero point": "q = QuantizeLinear<axis=0>(w, sc, zc) d = DequantizeLinear<axis=0>(q, sc) c = Conv(x, d)",
    "transposed convolution": (
        "q = QuantizeLinear<axis=1>(wt, sc, zc) d = DequantizeLinear<axis=1>(q, sc, zc) c = ConvTranspose(x, d)"
    ),
    "clipped between": (
        "q = QuantizeLinear<axis=0>(w, sc, zc) k = Clip(q, lo, hi) d = DequantizeLinear<axis=0>(k, sc, zc) "
        "c = Conv(x, d)"
    ),
    "quantised twice": (
        "q = QuantizeLinear<axis=0>(w, sc, zc) e = DequantizeLinear<axis=0>(q, sc, zc) "
        "k = QuantizeLinear(e, st, zt) d = DequantizeLinear(k, st, zt) c = Conv(x, d)"
    ),
}


@pytest.mark.parametrize("name", FAKE)
def test_a_weight_that_is_quantised_on_its_way_is_judged_as_the_layer_sees_it(name: str) -> None:
    result = cleaned(network(FAKE[name] + TAIL, **GRIDS))
    found = layers(result)["c"]
    assert (found.status, found.channels, found.pruned) == (LayerStatus.JUDGED, CHANNELS, (OUTLIER,))
    assert (exposed(result.model, "c")["c"][:, OUTLIER] == 0).all()


def test_so_is_one_that_operators_of_another_domain_quantise() -> None:
    proto = network(FAKE["per channel"] + TAIL, **GRIDS)
    proto.opset_import.add(domain="com.microsoft", version=1)
    for node in proto.graph.node:
        node.domain = "com.microsoft" if "Linear" in node.op_type else ""
    assert layers(cleaned(proto))["c"].pruned == (OUTLIER,)


def test_a_weight_whose_grid_depends_on_the_input_is_not_judged_and_says_why() -> None:
    body = "m = ReduceMax<keepdims=0>(x) t = Abs(m) q = QuantizeLinear(w, t, zt) d = DequantizeLinear(q, t, zt) "
    found = layers(cleaned(network(body + "c = Conv(x, d)" + TAIL, **GRIDS)))["c"]
    assert (found.status, found.pruned) == (LayerStatus.UNJUDGEABLE, ())
    assert "scale" in found.reason


# Convolutions of other names


def test_a_deformable_convolution_is_folded_and_judged() -> None:
    body = (
        "o = Conv<pads=[1,1,1,1]>(x, wo) n = DeformConv<pads=[1,1,1,1]>(x, w, o) c = BatchNormalization(n, g, s, m, v)"
    )
    given: dict[str, Any] = {"wo": rand(18, 3, 3, 3, seed=5), "g": np.ones(CHANNELS, np.float32), "s": rand(CHANNELS)}
    given |= {"m": rand(CHANNELS, seed=2), "v": np.ones(CHANNELS, np.float32)}
    found = next(one for one in cleaned(network(body + TAIL, **given)).report.layers if one.op == "DeformConv")
    assert (found.status, found.pruned, len(found.folded)) == (LayerStatus.JUDGED, (OUTLIER,), 1)


@pytest.mark.parametrize(
    ("operator", "domain", "inputs"),
    [
        ("QLinearConv", "com.microsoft", ["x", "s", "z", "q", "s", "z", "s", "z"]),
        ("QGemm", "com.microsoft", ["x", "s", "z", "q", "s", "z", "", "s", "z"]),
        ("FusedGemm", "com.microsoft", ["x", "q"]),
        ("FancyConv", "org.example", ["x", "q"]),
    ],
)
def test_a_layer_that_is_not_read_is_listed_with_the_reason(operator: str, domain: str, inputs: list[str]) -> None:
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["c"], "layer", domain=domain), helper.make_node("Relu", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {"s": PER_TENSOR, "z": np.int8(0)}.items()]
        + [numpy_helper.from_array(rand(4, 3, 3, 3), "q")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    result = onnx_clp.clean(helper.make_model(graph, opset_imports=opsets, ir_version=8), CleanConfig(validate=False))
    found = layers(result)["layer"]
    assert found.status is LayerStatus.UNJUDGEABLE
    assert operator in found.reason


@pytest.mark.parametrize(
    "body", ["a = Affine<alpha=2.0, beta=1.0>(x)", "a = ImageScaler<scale=2.0, bias=[1.0,1.0,1.0]>(x)"]
)
def test_the_experimental_operators_of_old_converters_are_let_through(body: str) -> None:
    given: dict[str, Any] = {"w": weight(CHANNELS, 3, 3, 3), "w2": weight(4, CHANNELS, 1, 1, seed=4)}
    proto = model(f"{body} c = Conv(a, w) r = Relu(c) y = Conv(r, w2)", x="float[1,3,8,8] x", opset=9, ir=4, **given)()
    assert layers(cleaned(proto))["c"].pruned == (OUTLIER,)


def test_an_operator_that_no_version_had_is_refused() -> None:
    given: dict[str, Any] = {"w": weight(CHANNELS, 3, 3, 3)}
    proto = model("a = Afine(x) y = Conv(a, w)", x="float[1,3,8,8] x", opset=9, ir=4, **given)()
    with pytest.raises(onnx_clp.ClpError, match="Afine"):
        cleaned(proto)


# Caps on values that are not their node's first output

NORMS: dict[str, Any] = {f"{tag}{part}": rand(6, seed=at) for at, tag in enumerate("pq") for part in "bm"}
NORMS |= {f"{tag}{part}": np.abs(rand(6, seed=at)) + 0.5 for at, tag in enumerate("pq") for part in "gv"}
HALVES = "c = Conv<pads=[1,1,1,1]>(x, w) e, f = Split<axis=1, num_outputs=2>(c) "
P, Q = ("BatchNormalization({}, " + ", ".join(f"{tag}{part}" for part in "gbmv") + ")" for tag in "pq")
CAPPED = {
    "the second half": (HALVES + f"n = {P.format('f')} ya = Relu(e) yb = Relu(n)", {"yb": "p"}),
    "the first half": (HALVES + f"n = {P.format('e')} ya = Relu(n) yb = Relu(f)", {"ya": "p"}),
    "both halves": (
        HALVES + f"n = {P.format('e')} m = {Q.format('f')} ya = Relu(n) yb = Relu(m)",
        {"ya": "p", "yb": "q"},
    ),
    "an IBN block": (
        HALVES + f"i = InstanceNormalization(e, pg, pb) n = {Q.format('f')} ya = Relu(i) yb = Relu(n)",
        {"yb": "q"},
    ),
    "beside a raw use": (HALVES + f"n = {P.format('f')} ya = Relu(f) yb = Relu(n)", {"yb": "p"}),
}


@pytest.mark.parametrize("name", CAPPED)
def test_a_cap_sits_on_the_value_that_is_named(name: str) -> None:
    body, capped = CAPPED[name]
    proto = network(body, y="float[1,6,8,8] ya, float[1,6,8,8] yb", **NORMS)
    result = cleaned(proto, prune=False, bound_activations=1.0, budget=1.0)
    onnx.checker.check_model(result.model, full_check=True)
    before, after = exposed(proto, "ya", "yb"), exposed(result.model, "ya", "yb")
    for value in ("ya", "yb"):
        wanted = before[value]
        if value in capped:
            top = NORMS[capped[value] + "b"] + np.abs(NORMS[capped[value] + "g"])
            wanted = np.minimum(wanted, np.maximum(top, 0).reshape(1, -1, 1, 1))
            assert not np.allclose(wanted, before[value])
        np.testing.assert_allclose(after[value], wanted, atol=1e-4)


@pytest.mark.parametrize("operator", ["Relu", "Mish", "Softplus", "Elu", "HardSwish", "Gelu"])
def test_caps_do_not_depend_on_the_activation_behind_them(operator: str) -> None:
    norm: dict[str, Any] = {"g": np.ones(CHANNELS, np.float32), "s": rand(CHANNELS), "m": rand(CHANNELS, seed=2)}
    norm |= {"v": np.ones(CHANNELS, np.float32)}
    body = f"n = Conv(x, w) c = BatchNormalization(n, g, s, m, v) r = {operator}(c) y = Conv(r, w2)"
    caps = cleaned(network(body, **norm), prune=False, bound_activations=2.5, budget=1.0).report.caps
    assert caps is not None
    assert (caps.capped, [left.name for left in caps.left]) == (1, ["y"])


# Inputs of every kind


def test_a_side_length_of_minus_one_is_open(tmp_path: Any) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,1,8,8] x) => (float[N,4] y) { p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w) }
    """)
    proto.graph.initializer.append(numpy_helper.from_array(rand(1, 4), "w"))
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -1
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(onnx_clp.UsageError, match="--shape x:1,1,224,8"):
        read_subject(tmp_path / "m.onnx", {}, None)
    assert read_subject(tmp_path / "m.onnx", {"x": (1, 1, 8, 8)}, None).shape == (1, 8, 8)


def test_what_nothing_reads_does_not_keep_a_normalisation_from_being_folded() -> None:
    norm: dict[str, Any] = {"g": rand(CHANNELS) + 1, "s": rand(CHANNELS), "m": rand(CHANNELS, seed=2)}
    norm |= {"v": np.ones(CHANNELS, np.float32)}
    body = "c = Conv(x, w) u = BatchNormalization(c, s, g, m, v) n = BatchNormalization(c, g, s, m, v) y = Relu(n)"
    proto = network(body, **norm)
    result = cleaned(proto, prune=False)
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Relu"]
    feed = {"x": rand(1, 3, 8, 8, seed=9)}
    wanted, got = (outputs(each, feed, Oracle.ORT)[0] for each in (proto, result.model))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_what_something_reads_does() -> None:
    norm: dict[str, Any] = {"g": rand(CHANNELS) + 1, "s": rand(CHANNELS), "m": rand(CHANNELS, seed=2)}
    norm |= {"v": np.ones(CHANNELS, np.float32)}
    body = "c = Conv(x, w) u = Sigmoid(c) n = BatchNormalization(c, g, s, m, v) y = Mul(n, u)"
    result = cleaned(network(body, **norm), prune=False)
    assert "BatchNormalization" in {node.op_type for node in result.model.graph.node}
