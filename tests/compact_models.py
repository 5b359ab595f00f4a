"""Networks with channels that do nothing, and what taking them out must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper, parser

Array = NDArray[Any]
Weight = Array | np.generic | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One form: the body in ONNX's text form, its weights (a shape asks for random ones), and what is to happen.

    `removed` and `kept` go by layer name, the layer's first output; `kept` are channels that do nothing and stay.
    """

    id: str
    text: str
    weights: Mapping[str, Weight]
    removed: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, set[int]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    header: str = "float[2,3,8,8] x"
    result: str = "float[n,o,h,w] y"
    opset: int = 18
    tolerance: float = 1e-5
    edit: Callable[[ModelProto], None] | None = None
    imports: str = ""

    def model(self) -> ModelProto:
        """The model, built afresh."""
        text = f"""<ir_version: 9, opset_import: ["" : {self.opset}{self.imports}]>
            g ({self.header}) => ({self.result}) {{ {self.text} }}"""
        made = parser.parse_model(text)
        for name, weight in self.weights.items():
            made.graph.initializer.append(numpy_helper.from_array(filled(name, weight), name))
        if self.edit is not None:
            self.edit(made)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Inputs: standard normal, and the same times ten."""
        source = np.random.default_rng(7)
        for scale in (1, 10):
            feed = {}
            for value in self.model().graph.input:
                dims = value.type.tensor_type.shape.dim
                shape = [d.dim_value or (8 if at else 2) for at, d in enumerate(dims)]
                dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                feed[value.name] = (scale * source.normal(size=shape)).astype(dtype)
            yield feed


def filled(name: str, weight: Weight) -> Array:
    """The array itself, or a random one that is never zero."""
    if not isinstance(weight, tuple):
        return np.asarray(weight)
    source = np.random.default_rng(sum(name.encode()))
    values = source.normal(size=weight)
    return (np.sign(values) * (0.1 + np.abs(values))).astype(np.float32)


def dead(name: str, shape: tuple[int, ...], channels: tuple[int, ...], axis: int = 0) -> Array:
    """Random values with the entries of some channels set to 0."""
    values = filled(name, shape).copy()
    np.moveaxis(values, axis, 0)[list(channels)] = 0
    return values


def outputs(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime makes of the model without its optimisations."""
    import onnxruntime as ort  # noqa: TID251  an oracle independent of the package under test

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def shapes(model: ModelProto) -> list[Any]:
    """Names, types and shapes of the graph's inputs and outputs."""
    return [*model.graph.input, *model.graph.output]


CHAIN: dict[str, Any] = {
    "w1": dead("w1", (8, 3, 3, 3), (2, 5)),
    "b1": dead("b1", (8,), (2, 5)),
    "w2": (4, 8, 3, 3),
}
CONV1 = "[a] a = Conv<pads=[1,1,1,1]>(x, w1, b1)"


def bn(
    name: str, count: int, zero: tuple[int, ...] = (), shifts: Mapping[int, float] | None = None
) -> dict[str, Weight]:
    """Scale, shift, mean and variance of a BatchNormalization; `zero` channels have neither scale nor shift."""
    scale, shift = dead(f"{name}g", (count,), zero), dead(f"{name}b", (count,), zero)
    for channel, value in (shifts or {}).items():
        scale[channel], shift[channel] = 0, value
    return {f"{name}g": scale, f"{name}b": shift, f"{name}m": (count,), f"{name}v": np.abs(filled("v", (count,)))}


NO_BIAS: dict[str, Any] = {"w1": CHAIN["w1"], "w2": CHAIN["w2"]}
HEAD = "y = Conv(r, w2)"
PADDED = "y = Conv<pads=[1,1,1,1]>(r, w2)"
DEAD = {"a": (2, 5)}
STAYS: dict[str, tuple[int, ...]] = {}
FLAT = "float[2,o] y"
IMAGE: dict[str, Any] = {"c1": dead("c1", (8, 3, 1, 1), (1, 2, 5)), "c2": dead("c2", (8, 3, 1, 1), (2, 5, 6))}
TWO = "[a] a = Conv(x, c1) [b] b = Conv(x, c2)"
HALF: dict[str, Any] = {"h": (4, 4, 1, 1)}
WIDE: dict[str, Any] = {"wide": (4, 16, 1, 1)}
NHWC = "t = Transpose<perm=[0,2,3,1]>(a)"
MS = ', "com.microsoft" : 1'


def sizes(*values: int) -> Array:
    return np.asarray(values, np.int64)
