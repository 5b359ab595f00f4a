"""The gradient of a model as a graph: the walk, what it refuses, and losses of a class."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, parser

from onnx_clp.errors import UnsupportedModelError, UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.gradient.differentiate import Differentiated, differentiate
from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.gradient.preparing import prepared
from onnx_clp.graph.model import ModelIndex

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def model(text: str) -> onnx.ModelProto:
    made = parser.parse_model(HEAD + text)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(found: Differentiated, **inputs: NDArray[np.generic]) -> dict[str, NDArray[np.float32]]:
    onnx.checker.check_model(found.model, full_check=True)
    session = onnxruntime.InferenceSession(found.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


CLASSIFIER = """
g (float[batch, 3] x) => (float[batch, 4] y)
<float[3, 4] w = {1, -2, 3, 4, 5, -6, 7, 8, -9, 10, 11, 12}> {
  z = MatMul(x, w)
  y = Softmax <axis = 1> (z)
}
"""
X = np.asarray([[0.1, 0.2, -0.3], [0.3, -0.1, 0.05]], np.float32)
W = np.asarray([[1, -2, 3, 4], [5, -6, 7, 8], [-9, 10, 11, 12]], np.float32)


def test_users_of_a_value_add_up() -> None:
    found = differentiate(
        model(
            "g (float[n] x) => (float y) { a = Exp(x)\n b = Mul(a, x)\n c = Add(b, x)\n y = ReduceSum<keepdims=0>(c) }"
        ),
        "y",
        ["x", "a"],
    )
    x = np.asarray([0.5, -1.0], np.float32)
    out = run(found, x=x)
    assert np.allclose(out[found.gradients["x"]], np.exp(x) * (1 + x) + 1, rtol=1e-6)
    assert np.allclose(out[found.gradients["a"]], x)


def test_the_models_outputs_stay_and_the_input_model_is_not_changed() -> None:
    given = model(CLASSIFIER)
    before = given.SerializeToString(deterministic=True)
    builder = LossBuilder(given)
    loss = builder.cross_entropy(builder.logits())
    found = differentiate(builder.model, loss.name, ["x"])
    assert given.SerializeToString(deterministic=True) == before
    assert [o.name for o in found.model.graph.output] == ["y", found.scalar, found.gradients["x"]]
    lean = differentiate(builder.model, loss.name, ["x"], outputs=["z"])
    assert [o.name for o in lean.model.graph.output] == ["z", lean.scalar, lean.gradients["x"]]


@pytest.mark.parametrize("target", [[2], [3, 0]])
def test_cross_entropy_of_a_class(target: list[int]) -> None:
    builder = LossBuilder(model(CLASSIFIER))
    loss = builder.cross_entropy(builder.logits())
    found = differentiate(builder.model, loss.name, ["x"])
    out = run(found, x=X, target=np.asarray(target))
    exps = np.exp(X @ W)
    share = exps / exps.sum(axis=1, keepdims=True)
    hot = np.eye(4, dtype=np.float32)[np.broadcast_to(target, 2)]
    assert np.allclose(out[found.scalar], -np.log((share * hot).sum(axis=1)).mean(), rtol=1e-5)
    assert np.allclose(out[found.gradients["x"]], (share - hot) @ W.T / 2, rtol=1e-5, atol=1e-6)


def test_margin_of_a_class() -> None:
    builder = LossBuilder(model(CLASSIFIER))
    found = differentiate(builder.model, builder.margin(builder.logits()).name, ["x"])
    out = run(found, x=X, target=np.asarray([1]))
    z = X @ W
    rival = np.where(np.arange(4) == 1, -np.inf, z).argmax(axis=1)
    assert np.allclose(out[found.scalar], (z[:, 1] - z[[0, 1], rival]).mean(), rtol=1e-5)
    assert np.allclose(out[found.gradients["x"]], (W[:, [1, 1]] - W[:, rival]).T / 2, rtol=1e-5)


def test_a_loss_of_statistics() -> None:
    builder = LossBuilder(model("g (float[n, 2, 3, 3] x) => (float[n, 2, 3, 3] y) { y = Relu(x) }"))
    x = builder.value("x")
    stored = builder.constant([0.5, 2.0])
    loss = (x.variance((0, 2, 3)) - stored).square().sum() + 0.1 * x.mean((0, 2, 3)).square().sum()
    found = differentiate(builder.model, loss.name, ["x"])
    at = np.random.default_rng(1).standard_normal((4, 2, 3, 3)).astype(np.float32)
    out = run(found, x=at)
    mean, var, count = at.mean((0, 2, 3), keepdims=True), at.var((0, 2, 3), keepdims=True), 36
    assert np.allclose(out[found.scalar], ((var[0, :, 0, 0] - [0.5, 2]) ** 2).sum() + 0.1 * (mean**2).sum(), rtol=1e-5)
    off = var - np.asarray([0.5, 2.0]).reshape(1, 2, 1, 1)
    expected = 4 * off * (at - mean) / count + 0.2 * mean / count
    assert np.allclose(out[found.gradients["x"]], expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_lead_to_the_input_gets_no_nodes() -> None:
    text = "g (float[3] x, float[3] u) => (float y) { a = Exp(u)\n b = Mul(a, x)\n y = ReduceSum<keepdims=0>(b) }"
    given = model(text)
    found = differentiate(given, "y", ["x"])
    added = found.model.graph.node[len(given.graph.node) :]
    assert not any("u" in node.input for node in added)
    assert len(added) <= 3


def test_an_operator_without_a_rule_is_named() -> None:
    text = "g (float[3, 3] x) => (float y) { [here] a = Det(x)\n y = Identity(a) }"
    with pytest.raises(UnsupportedModelError, match=r"Det node 'here': there is no gradient rule .* Det"):
        differentiate(model(text), "y", ["x"])


def test_one_off_the_way_does_no_harm() -> None:
    text = "g (float[3, 3] x) => (float y, float d) { d = Det(x)\n y = ReduceSum<keepdims=0>(x) }"
    found = differentiate(model(text), "y", ["x"])
    assert (run(found, x=np.eye(3, dtype=np.float32))[found.gradients["x"]] == 1).all()


def test_an_unknown_value_and_an_independent_one_are_refused() -> None:
    text = "g (float[3] x, float[3] u) => (float y, float[3] v) { v = Neg(u)\n y = ReduceSum<keepdims=0>(x) }"
    with pytest.raises(UsageError, match="no value 'nothing'"):
        differentiate(model(text), "nothing", ["x"])
    with pytest.raises(UsageError, match="does not depend on 'u'"):
        differentiate(model(text), "y", ["u"])


def test_an_integer_cannot_be_differentiated() -> None:
    text = "g (float[3] x) => (int64 y) { y = ArgMax<axis = 0, keepdims = 0>(x) }"
    with pytest.raises(UsageError, match="not of a floating-point type"):
        differentiate(model(text), "y", ["x"])


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_an_old_model_is_converted(opset: int) -> None:
    text = (
        CLASSIFIER.replace("Softmax <axis = 1>", "Clip <min: float = -1.5, max: float = 2.0>")
        if opset == 9
        else CLASSIFIER
    )
    made = parser.parse_model(f'<ir_version: 4, opset_import: ["" : {opset}]>\n' + text)
    found = differentiate(made, "z", ["x"])
    assert [o.version for o in found.model.opset_import] == [16]
    assert np.allclose(run(found, x=X)[found.gradients["x"]], W.sum(axis=1), rtol=1e-5)


def test_data_types_are_kept() -> None:
    text = "g (float16[2, 2] x) => (float16 y) { a = Sigmoid(x)\n b = Mul(a, x)\n y = ReduceMean<keepdims=0>(b) }"
    found = differentiate(model(text), "y", ["x"])
    assert found.model.graph.output[-1].type.tensor_type.elem_type == TensorProto.FLOAT16
    x = np.asarray([[0.5, -1], [2, 0.1]], np.float16)
    share = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.allclose(run(found, x=x)[found.gradients["x"]], share * (1 + x * (1 - share)) / 4, rtol=1e-2)


@pytest.mark.parametrize("opset", [11, 15, 17])
@pytest.mark.parametrize("form", ["initializer", "constant"])
def test_sparse_constants_survive_the_conversion_to_a_later_opset(opset: int, form: str) -> None:
    dense = np.zeros((3, 4), np.float32)
    dense[0, 1], dense[2, 3] = 2, -1
    places = helper.make_tensor("places", TensorProto.INT64, [2], [1, 11])
    sparse = helper.make_sparse_tensor(helper.make_tensor("w", TensorProto.FLOAT, [2], [2.0, -1.0]), places, [3, 4])
    held = [helper.make_node("Constant", [], ["w"], sparse_value=sparse)] if form == "constant" else []
    graph = helper.make_graph(
        [*held, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        sparse_initializer=[sparse] if form == "initializer" else None,
    )
    made = prepared(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)]))
    value = ModelIndex(made, TensorStore()).main.constant("w")
    assert value is not None
    np.testing.assert_array_equal(value, dense)
