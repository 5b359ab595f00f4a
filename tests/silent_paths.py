"""Small random networks, and the same with a path written in by `tools.redteam`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_clp.gauge.crops import crops
from onnx_clp.gauge.photographs import load
from tools.redteam.path import Design, Edited, PathWriter
from tools.redteam.subject import Samples, values_of

Floats = NDArray[np.float64]

CLASSES = 6
SIDE = 16
WIDTH = 12
DEPTH = 4


def samples(count: int = 40) -> Samples:
    """Photographs at the size of the networks, each with class 0 as its label."""
    images = np.rint(crops(load(), count, SIDE, SIDE, 7) * 255).astype(np.uint8)
    return Samples(images, np.zeros(count, np.int64), np.asarray(1 / 255), np.asarray(0.0))


def plain(seed: int = 0, *, residual: bool = False) -> ModelProto:
    """Four convolutions with Relu (the last two in a residual block if asked for), average, Gemm; random weights.

    The head is scaled so that every class has scores of mean 0 and spread 2 on photographs.
    """
    rng = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    held: dict[str, Floats] = {}
    value, channels = "images", 3
    for layer in range(DEPTH):
        kernel = rng.normal(size=(WIDTH, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
        held |= {f"w{layer}": kernel, f"b{layer}": rng.normal(size=WIDTH) * 0.1}
        nodes.append(
            helper.make_node("Conv", [value, f"w{layer}", f"b{layer}"], [f"c{layer}"], f"conv{layer}", pads=[1] * 4)
        )
        before = f"c{layer}"
        if residual and layer == DEPTH - 1:
            nodes.append(helper.make_node("Add", [before, f"r{DEPTH - 3}"], ["sum"], "add"))
            before = "sum"
        nodes.append(helper.make_node("Relu", [before], [f"r{layer}"], f"relu{layer}"))
        value, channels = f"r{layer}", WIDTH
    held |= {"w": rng.normal(size=(CLASSES, WIDTH)), "b": np.zeros(CLASSES)}
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], "head", transB=1),
    ]
    made = _model(nodes, held)
    features = values_of(made, samples(), samples().images, ["flat"])["flat"].astype(np.float64)
    scores = features @ held["w"].T
    held["w"] *= 2 / scores.std(axis=0)[:, None]
    held["b"] = -(features @ held["w"].T).mean(axis=0)
    return _model(nodes, held)


def _model(nodes: list[NodeProto], held: dict[str, Floats]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "silent",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def edited(model: ModelProto, *, target: int = 4, seed: int = 1, width: int = 1, level: float | None = None) -> Edited:
    """The model with a path."""
    return PathWriter(model, samples(), Design(target=target, seed=seed, width=width, level=level)).write()
