"""What a search needs to know of a model: one image in, one score a class out, how its channels were distributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto

from onnx_clp.errors import UsageError
from onnx_clp.file.messages import freeze_inputs
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.inversion.interface import EIGHT_BITS, flatten_scores, take_floats
from onnx_clp.inversion.precision import widen
from onnx_clp.operators import read
from onnx_clp.operators.nodes import input_name, is_op
from onnx_clp.text import quoted, shown

Float64 = NDArray[np.float64]

_MOST_CHANNELS: Final = 4
_USUAL: Final = (1, 3, 224, 224)


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What a BatchNormalization keeps of its input `value`: float64 mean and variance + epsilon, (channels,)."""

    value: str
    mean: Float64
    variance: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A classifier of images.

    Attributes:
        model: its weights in memory, the batch dimension of its input left open.
        input: name of the input.
        output: name of the output with one score a class.
        shape: (channels, height, width) of an image, whatever the model's layout.
        channels_last: whether the model takes (batch, height, width, channels).
        data_type: TensorProto.DataType of the file's input; `model` takes float32.
    """

    model: ModelProto
    input: str
    output: str
    shape: tuple[int, int, int]
    channels_last: bool
    data_type: int = TensorProto.FLOAT

    def laid_out(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, channels, height, width) as the model takes it."""
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if self.channels_last else images

    def from_layout(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `laid_out`."""
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self.channels_last else values


def read_subject(path: Path, shapes: Mapping[str, tuple[int, ...]], output: str | None) -> Subject:
    """Read the model at `path`; half precision becomes single, and so does an input of 8 bits.

    Raises:
        UsageError: it is not a model of one image in floats or 8 bits and one score a class, or its image size is open
            and not given in `shapes`.
    """
    model = onnx.load(path)
    freeze_inputs(model.graph)
    widen(model)
    name = quoted(path)
    held = {t.name for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1 or (kind := inputs[0].type.tensor_type.elem_type) not in (TensorProto.FLOAT, *EIGHT_BITS):
        raise UsageError(f"{name}: a search for triggers needs a model with one input, of images in floats or 8 bits")
    dims = _dims(inputs[0], shapes)
    shape, last = _image(dims, name, inputs[0].name)
    if kind in EIGHT_BITS:
        take_floats(model, inputs[0])
    scores = _scores(model, output, name)
    _open_batch(model, inputs[0], scores)
    return Subject(model, inputs[0].name, scores.name, shape, last, kind)


def _dims(value: ValueInfoProto, shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Sizes of the input, 0 where they are open; some exporters write that as -1."""
    if value.name in shapes:
        return list(shapes[value.name])
    return [max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim]


def _image(dims: list[int], name: str, value: str) -> tuple[tuple[int, int, int], bool]:
    if len(dims) != 4:
        raise UsageError(f"{name}: a search for triggers needs images of shape (batch, channels, height, width)")
    if 0 in dims[1:]:
        likely = ",".join(str(size or usual) for size, usual in zip([1, *dims[1:]], _USUAL, strict=True))
        raise UsageError(f"{name}: the size of its images is open; give it with --shape {shown(value)}:{likely}")
    last = dims[3] <= _MOST_CHANNELS < dims[1]
    return ((dims[3], dims[1], dims[2]) if last else (dims[1], dims[2], dims[3])), last


def _scores(model: ModelProto, output: str | None, name: str) -> ValueInfoProto:
    fitting = [value for value in model.graph.output if output in (None, value.name)]
    if len(fitting) != 1:
        raise UsageError(f"{name}: a search for triggers needs one output with the class scores; name it with --output")
    scores = flatten_scores(model, fitting[0])
    tensor = scores.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT or (tensor.HasField("shape") and len(tensor.shape.dim) != 2):
        raise UsageError(f"{name}: a search for triggers needs class scores, floats of shape (batch, classes)")
    return scores


def _open_batch(model: ModelProto, image: ValueInfoProto, scores: ValueInfoProto) -> None:
    """A file made for one image at a time mostly runs on many; sizes inferred for one are dropped."""
    dim = image.type.tensor_type.shape.dim
    if dim and dim[0].dim_value:
        for value in (image, scores):
            if value.type.tensor_type.shape.dim:
                value.type.tensor_type.shape.dim[0].dim_param = "batch"
        del model.graph.value_info[:]


def statistics_of(model: ModelProto) -> list[Statistics]:
    """Of every BatchNormalization of the main graph in inference mode, on images, with constant statistics."""
    scope = ModelIndex(model, TensorStore()).main
    found = []
    for node in scope.nodes:
        if is_op(node, "BatchNormalization") and len([o for o in node.output if o]) == 1:
            mean, variance = (scope.constant(input_name(node, slot)) for slot in (3, 4))
            if mean is None or variance is None or _rank(scope, node.input[0]) != 4:
                continue
            wide = variance.astype(np.float64) + read.epsilon(node)
            if np.isfinite(mean).all() and np.isfinite(wide).all() and (wide > 0).all():
                found.append(Statistics(node.input[0], mean.astype(np.float64), wide))
    return found


def _rank(scope: GraphIndex, value: str) -> int | None:
    return scope.ranks.of(value)
