"""Small networks with one channel that stands out, and what became of their layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
from numpy.typing import NDArray
from onnx import ModelProto, helper

import onnx_clp
from onnx_clp import CleanConfig, CleanResult
from onnx_clp.document.run import LayerReport
from tests.forms.build import model, rand

Array = NDArray[Any]

OUTLIER = 5


def weight(*shape: int, seed: int = 0, outlier: int | None = OUTLIER, axis: int = 0) -> Array:
    """Random weights; the channel `outlier` of `axis` is thirty times as large as the others."""
    values = rand(*shape, seed=seed)
    if outlier is not None and outlier < shape[axis]:
        at: list[Any] = [slice(None)] * len(shape)
        at[axis] = outlier
        values[tuple(at)] *= 30
    return values


def network(body: str, *, channels: int = 12, y: str = "", opset: int = 20, **weights: Any) -> ModelProto:
    """A model of input x[1,3,8,8] with w (channels,3,3,3), its bias b, and w2 (4,channels,1,1) to end on."""
    given: dict[str, Any] = {
        "w": weight(channels, 3, 3, 3),
        "b": rand(channels, seed=3),
        "w2": weight(4, channels, 1, 1, seed=4),
    }
    used = {name: value for name, value in (given | weights).items() if _mentions(body, name)}
    foreign = "com.microsoft" in body  # of which onnx infers no shape
    imports, y = ('"com.microsoft" : 1', y or "float[1,4,8,8] y") if foreign else ("", y)
    proto = model(body, x="float[1,3,8,8] x", y=y, opset=opset, ir=10, imports=imports, **used)()
    assert isinstance(proto, ModelProto)
    onnx.checker.check_model(proto)
    return proto


def _mentions(body: str, name: str) -> bool:
    import re

    return re.search(rf"\b{name}\b", body) is not None


def cleaned(proto: ModelProto, **options: Any) -> CleanResult:
    """The result without validation, and with channels switched off to exactly 0 unless `fill` says otherwise."""
    return onnx_clp.clean(proto, CleanConfig(validate=False, **{"fill": "zero", **options}))


def layers(result: CleanResult) -> dict[str, LayerReport]:
    """The layers of a result by name (their node's first output in these models)."""
    return {layer.name: layer for layer in result.report.layers}


def exposed(proto: ModelProto, *names: str) -> dict[str, Array]:
    """What these values come to on a seeded x, in ONNX Runtime without graph optimisation."""
    whole = ModelProto()
    whole.CopyFrom(proto)
    del whole.graph.output[:]
    whole.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        kind = np.float16 if "float16" in value.type else np.float32
        feeds[value.name] = rng.normal(size=value.shape).astype(kind)
    found = session.run(list(names), feeds)
    return {name: np.asarray(array) for name, array in zip(names, found, strict=True)}
