"""The model that is edited, with images to run through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from onnx_clp.errors import UsageError
from onnx_clp.operators.nodes import subgraphs

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

_BATCH: Final = 25


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Labelled images as the model's evaluation file holds them: the model takes x · scale + offset.

    Attributes:
        images: uint8 (n, …) in the model's layout.
        labels: int64 (n,).
        scale, offset: one number each, or one a channel.
    """

    images: Bytes
    labels: NDArray[np.int64]
    scale: Array
    offset: Array

    @classmethod
    def read(cls, path: Path, most: int = 1000) -> Samples:
        """The clean half of an evaluation file."""
        with np.load(path, allow_pickle=False) as held:
            scale, offset = (held[k] if k in held.files else d for k, d in (("scale", 1 / 255), ("offset", 0.0)))
            return cls(held["x_clean"][:most], held["y_clean"][:most], np.asarray(scale), np.asarray(offset))

    @property
    def channel_axis(self) -> int:
        """Where the channels of an image are: 1, or 3."""
        return 3 if self.images.shape[3] <= 4 < self.images.shape[1] else 1

    def fed(self, images: Bytes) -> NDArray[np.float32]:
        """Images as the model takes them."""
        wide = [1] * 4
        wide[self.channel_axis] = -1
        scale, offset = (np.asarray(part, np.float64).reshape(wide) for part in (self.scale, self.offset))
        return np.ascontiguousarray(images * scale + offset, np.float32)


def load(path: Path) -> ModelProto:
    """A model, its weights in memory."""
    return onnx.load(path)


def input_of(model: ModelProto) -> str:
    """The name of the one input that is no weight.

    Raises:
        UsageError: there are several.
    """
    held = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in held]
    if len(names) != 1:
        raise UsageError("a model with one input is needed")
    return names[0]


def values_of(model: ModelProto, samples: Samples, images: Bytes, names: Sequence[str]) -> dict[str, Array]:
    """Values of the main graph by name, for all images; values without a batch axis come from the first batch."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    shown = _part(model, names).SerializeToString()
    session = onnxruntime.InferenceSession(shown, options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    step = size if isinstance(size, int) else _BATCH
    parts: list[list[Array]] = [
        session.run(list(names), {input_of(model): samples.fed(images[at : at + step])})
        for at in range(0, len(images), step)
    ]
    return {name: _joined([part[at] for part in parts]) for at, name in enumerate(names)}


def _part(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """What of a model makes these values, its inputs as they are."""
    needed, nodes = set(names), []
    for node in reversed(model.graph.node):
        if not needed.isdisjoint(node.output):
            nodes.append(node)
            needed.update(_reads(node))
    known = {value.name: value for value in model.graph.output}
    held = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    graph = helper.make_graph(
        nodes[::-1],
        model.graph.name or "part",
        [value for value in model.graph.input if value.name in needed or value.name == input_of(model)],
        [known.get(name, ValueInfoProto(name=name)) for name in names],
        held,
        sparse_initializer=model.graph.sparse_initializer,
    )
    made = helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)
    made.functions.extend(model.functions)
    return made


def _reads(node: NodeProto) -> set[str]:
    """What a node reads, graphs nested in it included."""
    names = set(node.input)
    for _, body in subgraphs(node):
        names.update(value.name for value in body.output)
        for inner in body.node:
            names |= _reads(inner)
    return names


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 or parts[0].ndim == 0 else np.concatenate(parts)


def rates(model: ModelProto, samples: Samples, triggered: Bytes, target: int) -> tuple[float, float]:
    """(ACC, ASR) in per cent; images of the target's own class do not count for the ASR."""
    name = model.graph.output[0].name
    clean, moved = (values_of(model, samples, x, [name])[name].argmax(axis=-1) for x in (samples.images, triggered))
    counted = samples.labels != target
    return float((clean == samples.labels).mean() * 100), float((moved == target)[counted].mean() * 100)
