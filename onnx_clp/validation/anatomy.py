"""What the input model says of itself that a validation needs: inputs, precision, randomness."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from onnx_clp.file.wire import lift
from onnx_clp.operators import read
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait

Dim = int | str | None
Axes = tuple[int, ...]
# The axes of what they give are those of their first operand.
_TRANSPARENT = (Kind.POINTWISE, Kind.JOINT, Kind.RETYPE, Kind.QUANTISE)

# From the most precise to the least; a model is as precise as its least precise arithmetic.
_PRECISIONS = ("float64", "float32", "float16", "bfloat16", "float8", "quantised")
_PRECISION_OF: dict[int, str] = {
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8",
    TensorProto.FLOAT8E4M3FNUZ: "float8",
    TensorProto.FLOAT8E5M2: "float8",
    TensorProto.FLOAT8E5M2FNUZ: "float8",
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A tensor the model must be fed.

    `shape` is None when even the rank is open; a dimension is a size, a symbol's name or None.
    `channels` is how many entries the first weight asks for along `channel_axis`, where one is near.
    `elem_type` is 0 for an input that is no tensor.
    """

    name: str
    elem_type: int
    shape: tuple[Dim, ...] | None
    channel_axis: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The input model in a few words; `float_outputs` says whether any output is declared a float tensor."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    float_outputs: bool
    precision: str
    random: bool
    data_dependent: bool


def read_skeleton(path: Path) -> onnx.ModelProto:
    """The model at `path` without its external data; large weights are left empty, not parsed."""
    now = path.stat()
    return onnx.ModelProto.FromString(_skeleton(path, (now.st_ino, now.st_size, now.st_mtime_ns)))


@lru_cache(maxsize=4)
def _skeleton(path: Path, _: tuple[int, int, int]) -> bytes:
    """What is left of a file, which every step asks for again; the numbers tell it from one written in its place."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return lift(view, lambda *_: b"")


def read_anatomy(path: Path) -> Anatomy:
    """Read what the model at `path` says of itself."""
    return anatomy_of(read_skeleton(path))


def anatomy_of(model: onnx.ModelProto) -> Anatomy:
    """The anatomy of `model`; nested graphs and functions count for operators, not for inputs."""
    nodes = list(_all_nodes(model))
    domains = {node.domain for node in nodes} - {"", "ai.onnx"}
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    outputs = {value.type.tensor_type.elem_type for value in model.graph.output}
    return Anatomy(
        inputs=tuple(_input_specs(model.graph)),
        outputs=tuple(value.name for value in model.graph.output),
        float_outputs=bool(outputs & _PRECISION_OF.keys()),
        precision=_precision(model, nodes, types),
        random=any(_is_random(node) for node in nodes) or bool(domains - {f.domain for f in model.functions}),
        data_dependent=any(keeps(node, Trait.SIZED_BY_DATA) for node in nodes),
    )


def _is_random(node: NodeProto) -> bool:
    # Dropout has a training_mode input from opset 12 on, BatchNormalization an attribute from 14 on.
    return keeps(node, Trait.RANDOM) or (node.op_type == "Dropout" and len(node.input) > 2)


def _all_nodes(model: onnx.ModelProto) -> Iterator[NodeProto]:
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                pending.extend(graph.node)


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        yield attribute.g
    yield from attribute.graphs


def _precision(model: onnx.ModelProto, nodes: list[NodeProto], types: set[int]) -> str:
    if any(keeps(node, Trait.ROUNDS) for node in nodes):
        return "quantised"
    found = set(types)
    found |= {t.data_type for t in model.graph.initializer if len(t.dims) > 0}
    found |= {read.cast_type(n) or 0 for n in nodes if n.op_type == "Cast"}
    found |= {a.t.data_type for n in nodes if n.op_type == "Constant" for a in n.attribute if len(a.t.dims) > 0}
    known = {_PRECISION_OF[kind] for kind in found if kind in _PRECISION_OF}
    return max(known, key=_PRECISIONS.index, default="float32")


def _input_specs(graph: GraphProto) -> Iterator[InputSpec]:
    initializers = {t.name: t for t in graph.initializer}
    held = initializers.keys() | {s.values.name for s in graph.sparse_initializer}
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input[:1]:
            consumers.setdefault(name, []).append(node)
    for value in graph.input:
        if value.name not in held:
            yield _spec(value, consumers, initializers)


def _spec(
    value: onnx.ValueInfoProto,
    consumers: Mapping[str, list[NodeProto]],
    initializers: Mapping[str, TensorProto],
) -> InputSpec:
    if not value.type.HasField("tensor_type"):
        return InputSpec(value.name, 0, None)
    tensor = value.type.tensor_type
    shape = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    rank, axis, channels = _channel_hint(value.name, shape, consumers, initializers)
    if shape is None and rank:
        shape = (None,) * rank
    return InputSpec(value.name, tensor.elem_type, shape, axis, channels)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def _channel_hint(
    name: str,
    shape: tuple[Dim, ...] | None,
    consumers: Mapping[str, list[NodeProto]],
    initializers: Mapping[str, TensorProto],
) -> tuple[int, int | None, int | None]:
    """(rank, channel axis, channels) from the first weight reached; transposes on the way are undone."""
    pending: list[tuple[str, Axes | None]] = [(name, None if shape is None else tuple(range(len(shape))))]
    seen = {name}
    while pending:
        current, axes = pending.pop()
        for node in consumers.get(current, ()):
            rank, axis, channels = _asked_by(node, initializers)
            if channels and axes is None:
                return rank, axis % rank, channels
            if channels and axes and -len(axes) <= axis < len(axes):
                return len(axes), axes[axis], channels
            for output in [o for o in node.output[:1] if o not in seen]:
                seen.add(output)
                pending += [(output, moved) for moved in _through(node, axes)]
    return 0, None, None


def _through(node: NodeProto, axes: Axes | None) -> list[Axes | None]:
    """The input's axes as the node's output has them; empty when the node cannot be looked through."""
    if is_a(node, *_TRANSPARENT) or node.op_type in ("Identity", "Dropout", "Pad"):
        return [axes]
    if node.op_type != "Transpose" or axes is None:
        return []
    perm = read.perm(node, len(axes)) or ()
    return [tuple(axes[p] for p in perm)] if sorted(perm) == list(range(len(axes))) else []


def _asked_by(node: NodeProto, initializers: Mapping[str, TensorProto]) -> tuple[int, int, int]:
    """(rank, axis, size) that a node with a constant weight asks of its first input; size 0: nothing."""
    weight = initializers.get(node.input[1]) if len(node.input) > 1 else None
    dims = tuple(weight.dims) if weight is not None else ()
    if node.op_type == "Conv" and len(dims) > 2:
        return len(dims), 1, dims[1] * read.groups(node)
    if node.op_type == "ConvTranspose" and len(dims) > 2:
        return len(dims), 1, dims[0]
    if node.op_type == "BatchNormalization" and dims:
        return 4, 1, dims[0]
    if node.op_type == "Gemm" and len(dims) == 2:
        return 2, -1, dims[1] if read.transposed(node)[1] else dims[0]
    if node.op_type == "MatMul" and len(dims) >= 2:
        return 2, -1, dims[-2]
    return 0, 0, 0
