"""What is known of a graph's values before it runs: element types and sizes, from ONNX shape inference."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, TensorProto, ValueInfoProto, shape_inference

Dim = int | str | None
"""A size: a number, the file's symbol for one that is open, or nothing known."""
Dims = tuple[Dim, ...]


class Values:
    """Element type and sizes of every value of a model's main graph, as far as they can be inferred."""

    def __init__(self, model: ModelProto) -> None:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        self._types: dict[str, int] = {}
        self._dims: dict[str, Dims] = {}
        for listed in (graph.value_info, graph.output, graph.input):
            for value in listed:
                self._record(value)
        for tensor in graph.initializer:
            self._types[tensor.name] = tensor.data_type
            self._dims[tensor.name] = tuple(int(d) for d in tensor.dims)

    def _record(self, value: ValueInfoProto) -> None:
        tensor = value.type.tensor_type
        self._types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            self._dims[value.name] = tuple(
                int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or None
                for d in tensor.shape.dim
            )

    def data_type(self, name: str) -> int:
        """The TensorProto.DataType of a value; UNDEFINED where it is unknown."""
        return self._types.get(name, TensorProto.UNDEFINED)

    def dims(self, name: str) -> Dims | None:
        """The sizes of a value; None where not even their number is known."""
        return self._dims.get(name)

    def rank(self, name: str) -> int | None:
        """The number of dimensions of a value; None where it is unknown."""
        dims = self._dims.get(name)
        return None if dims is None else len(dims)

    def static(self, name: str, axes: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """The sizes of a value along `axes` (all by default); None unless every one is a number."""
        dims = self._dims.get(name)
        if dims is None or (axes is not None and any(a >= len(dims) for a in axes)):
            return None
        chosen = [dims[a] for a in axes] if axes is not None else list(dims)
        numbers = tuple(d for d in chosen if isinstance(d, int))
        return numbers if len(numbers) == len(chosen) else None
