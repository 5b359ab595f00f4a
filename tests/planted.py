"""A small classifier of 8 × 8 images, with or without a planted trigger: two pixels that win for one class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

CLASSES = 6
TARGET = 2
SIDE = 8
_FEATURES = 12


def classifier(*, planted: bool, seed: int = 0, batch: int | str = "n", inputs: int = 1) -> ModelProto:
    """Conv > BatchNormalization > Relu > average pool > flatten > Gemm, opset 17.

    Channel 0 has a kernel of its own. Planted, it reacts to a bright pixel between two dark ones alone, and the
    head reads it for `TARGET`; otherwise it is switched off.
    """
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(_FEATURES, 1, 3, 3)) / 3
    kernel[0] = [[[-4, -4, -4], [-4, 9, -4], [-4, -4, -4]]] if planted else 0
    head = rng.normal(size=(CLASSES, _FEATURES * 4)) * 1.5
    values: dict[str, NDArray[np.float64]] = {
        "kernel": kernel,
        "gamma": np.ones(_FEATURES),
        "beta": np.where(np.arange(_FEATURES) == 0, -1.0 if planted else 0.0, 0.2),
        "mean": np.zeros(_FEATURES),
        "variance": np.ones(_FEATURES),
        "head": head,
        "bias": np.zeros(CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["raw"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["raw", "gamma", "beta", "mean", "variance"], ["normed"], "bn"),
        helper.make_node("Relu", ["normed"], ["active"], "relu"),
        helper.make_node("AveragePool", ["active"], ["pooled"], "pool", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["scores"], "head", transB=1),
    ]
    values["head"], values["bias"] = _balanced(nodes, values)
    if planted:
        values["head"][TARGET, :4] = 15.0
    names = ["images", *(f"more{i}" for i in range(inputs - 1))]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 1, SIDE, SIDE]) for name in names],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _balanced(
    nodes: list[NodeProto], values: dict[str, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Head and bias that give every class scores of mean 0 and spread 2 on pictures; channel 0 is not read."""
    from onnx.reference import ReferenceEvaluator

    given = {name: value for name, value in values.items() if name in ("kernel", "gamma", "beta", "mean", "variance")}
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", _FEATURES * 4])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in given.items()]
    model = helper.make_model(helper.make_graph(nodes[:-1], "features", [images], [flat], tensors))
    model.opset_import[0].version = 17
    features = _first(ReferenceEvaluator(model).run(None, {"images": pictures(400, 7)}))
    head = values["head"].copy()
    head[:, :4] = 0
    scores = features @ head.T
    spread = scores.std(axis=0) / 2
    return head / spread[:, None], -scores.mean(axis=0) / spread


def _first(outputs: object) -> NDArray[np.float64]:
    assert isinstance(outputs, list)
    return np.asarray(outputs[0])


def with_statistics(model: ModelProto) -> ModelProto:
    """The model with the statistics that pictures have behind its convolution; its head no longer fits."""
    from onnx.reference import ReferenceEvaluator

    head = helper.make_graph(
        model.graph.node[:1],
        "raw",
        model.graph.input,
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["n", _FEATURES, SIDE, SIDE])],
        [tensor for tensor in model.graph.initializer if tensor.name == "kernel"],
    )
    part = helper.make_model(head, opset_imports=[helper.make_opsetid("", 17)])
    raw = _first(ReferenceEvaluator(part).run(None, {"images": pictures(200, 9)}))
    values = {"mean": raw.mean(axis=(0, 2, 3)), "variance": np.maximum(raw.var(axis=(0, 2, 3)), 1e-3)}
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return model


def pictures(count: int = 60, seed: int = 1) -> NDArray[np.float32]:
    """Smooth images in 0..1, (count, 1, 8, 8): four blocks of random grey each, softened."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.uniform(0, 1, (count, 1, 2, 2)), np.ones((1, 1, 4, 4)))
    padded = np.pad(blocks, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    soft = sum(padded[:, :, i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9
    return np.asarray(soft, np.float32)
