"""A small network with something to fold, and ways to spoil or bend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_clp.modelfile.reader import every_tensor

Array = NDArray[Any]
Edit = Callable[[ModelProto], object]

BN_NAMES = ("scale", "shift", "mean", "var")


def network(channels: int = 16, dtype: type[np.floating] = np.float32) -> ModelProto:
    """x[1,3,8,8] > Conv(w) > BatchNormalization > Relu > Conv(w2) > y[1,4,8,8], seeded, opset 17, IR 8."""
    random = np.random.default_rng(channels)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = {
        "w": random.normal(size=(channels, 3, 3, 3)),
        "scale": random.uniform(0.5, 1.5, channels),
        "shift": random.normal(size=channels),
        "mean": random.normal(size=channels),
        "var": random.uniform(0.5, 1.5, channels),
        "w2": random.normal(size=(4, channels, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *BN_NAMES], ["n"], "bn", epsilon=1e-5),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", kind, [1, 4, 8, 8])],
        [numpy_helper.from_array(value.astype(dtype), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tensor(model: ModelProto, name: str) -> TensorProto:
    """Return an initializer."""
    found: TensorProto = next(t for t in model.graph.initializer if t.name == name)
    return found


def node(model: ModelProto, name: str) -> NodeProto:
    """Return a node."""
    found: NodeProto = next(n for n in model.graph.node if n.name == name)
    return found


def put(name: str, values: Array) -> Edit:
    """Return an edit that replaces an initializer's values, shape and type."""
    return lambda model: tensor(model, name).CopyFrom(numpy_helper.from_array(values, name))


def change(name: str, make: Callable[[NDArray[np.float32]], Array]) -> Edit:
    """Return an edit that computes an initializer's new values from the old."""

    def edit(model: ModelProto) -> None:
        old = numpy_helper.to_array(tensor(model, name)).copy()
        put(name, np.asarray(make(old)))(model)

    return edit


def at(index: int | tuple[int, ...], value: float) -> Callable[[NDArray[np.float32]], Array]:
    """Return a change of one entry."""

    def make(array: NDArray[np.float32]) -> Array:
        array[index] = value
        return array

    return make


def evaluate(path: str, feeds: dict[str, Array]) -> list[Array] | None:
    """Run a model file by ONNX's reference implementation; None where it cannot."""
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(load(path)).run(None, feeds)
    except Exception:  # whatever it stumbles over, in the original or not, is not the matter
        return None
    return [np.asarray(result) for result in results]


def load(path: str) -> ModelProto:
    """Return a model with its external data read in, without any of the tool's or onnx's own checks."""
    model = onnx.load(path, load_external_data=False)
    for each in every_tensor(model):
        if each.data_location == TensorProto.EXTERNAL:
            _read_in(each, Path(path).parent)
    return model


def _read_in(found: TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in found.external_data}
    content = (folder / entries["location"]).read_bytes()
    start = int(entries.get("offset", 0))
    found.raw_data = content[start : start + int(entries.get("length", len(content) - start))]
    found.ClearField("data_location")
    del found.external_data[:]


def feeds_of(path: str) -> dict[str, Array]:
    """Return seeded inputs of the shapes and types a model file asks for."""
    random = np.random.default_rng(0)
    model = onnx.load(path, load_external_data=False)
    constants = {t.name for t in model.graph.initializer}
    typed = [v for v in model.graph.input if v.type.tensor_type.elem_type]
    return {v.name: _input(v, random) for v in typed if v.name not in constants}


def _input(value: onnx.ValueInfoProto, random: np.random.Generator) -> Array:
    kind = value.type.tensor_type
    shape = [max(d.dim_value, 1) for d in kind.shape.dim]
    return random.normal(size=shape).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
