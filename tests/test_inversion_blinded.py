"""A gradient that one operator hides is found all the same, or the operator is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnx_clp.errors import UnsupportedModelError
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.subject import read_subject
from onnx_clp.validation.provider import choose

ENGINE = choose("cpu")
IMAGES = np.random.default_rng(5).uniform(0, 1, (6, 1, 8, 8)).astype(np.float32)

PLAIN = [helper.make_node("Identity", ["relu"], ["same"])]
BLINDERS = {
    "root of a square": [
        helper.make_node("Mul", ["relu", "relu"], ["square"]),
        helper.make_node("Sqrt", ["square"], ["same"]),
    ],
    "power and root": [
        helper.make_node("Pow", ["relu", "two"], ["square"]),
        helper.make_node("Pow", ["square", "half"], ["same"]),
    ],
    "exponential that overflows": [
        helper.make_node("Mul", ["relu", "million"], ["large"]),
        helper.make_node("Exp", ["large"], ["grown"]),
        helper.make_node("Min", ["grown", "one"], ["bounded"]),
        helper.make_node("Mul", ["relu", "bounded"], ["same"]),
    ],
    "norm of one element": [
        helper.make_node("Unsqueeze", ["relu", "axis"], ["single"]),
        helper.make_node("ReduceL2", ["single"], ["same"], axes=[1], keepdims=0),
    ],
}


def stored(folder: Path, middle: list[NodeProto], bias: float = 0.0) -> Path:
    """Conv > Relu > `middle` > GlobalAveragePool > Gemm, whose `middle` makes `same` of `relu`."""
    rng = np.random.default_rng(0)
    constants = {
        "kernel": rng.normal(size=(6, 1, 3, 3)).astype(np.float32),
        "bias": np.full(6, bias, np.float32),
        "head": rng.normal(size=(6, 4)).astype(np.float32),
        "two": np.float32(2),
        "half": np.float32(0.5),
        "million": np.float32(1e6),
        "one": np.float32(1),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["conv"], name="first"),
        helper.make_node("Relu", ["conv"], ["relu"]),
        *middle,
        helper.make_node("GlobalAveragePool", ["same"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "blinded",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), path)
    return path


def pulled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return Attack(read_subject(path, {}, None), ENGINE).pull(IMAGES, 1)


@pytest.mark.parametrize("kind", BLINDERS)
def test_an_operator_that_hides_gradients_hides_nothing(tmp_path: Path, kind: str) -> None:
    wanted_scores, wanted = pulled(stored(tmp_path, PLAIN))
    scores, gradient = pulled(stored(tmp_path, BLINDERS[kind]))
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-6)
    close = np.isclose(gradient, wanted, rtol=1e-3, atol=1e-6)
    assert close.mean() > 0.97
    assert np.abs(wanted).max() > 0


def test_values_that_are_no_numbers_are_refused_with_the_operator(tmp_path: Path) -> None:
    path = stored(tmp_path, PLAIN, bias=np.nan)
    with pytest.raises(UnsupportedModelError, match=r"Conv node 'first': its values are not finite"):
        pulled(path)
    with pytest.raises(UnsupportedModelError, match="'first'"):
        Attack(read_subject(path, {}, None), ENGINE).logits(IMAGES)
