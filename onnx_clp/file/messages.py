"""Changes to fields of a protobuf, in place, so that what is not named stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from onnx import GraphProto, StringStringEntryProto, TensorProto


def resize_recorded(recorded: Any, sizes: dict[str, dict[int, int]]) -> None:
    """Give recorded shapes new sizes, by name and axis; axes that a record does not have are left out."""
    for value in recorded:
        dims = value.type.tensor_type.shape.dim
        for axis, size in sizes.get(value.name, {}).items():
            if -len(dims) <= axis < len(dims):
                dims[axis].dim_value = size


def freeze_inputs(graph: GraphProto) -> list[str]:
    """Take initializers out of the graph's inputs, which makes them constants in IR ≥ 4; their names."""
    held = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    frozen = [v.name for v in graph.input if v.name in held]
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name in held:
            del graph.input[at]
    return frozen


_KEPT: Final = ("name", "doc_string", "metadata_props")


def replace_values(stored: TensorProto, new: TensorProto) -> None:
    """Give a stored tensor new values; its name and documentation stay, be they text or not."""
    kept = TensorProto()
    kept.CopyFrom(stored)
    for field in TensorProto.DESCRIPTOR.fields:
        if field.name not in _KEPT:
            kept.ClearField(field.name)
    stored.CopyFrom(new)
    for name in _KEPT:
        stored.ClearField(name)
    # Merged as bytes: a documentation that is no UTF-8 could not be read as text.
    stored.MergeFrom(kept)


def point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor external, keeping other entries such as a checksum of unchanged bytes."""
    changed = {"location": location, "offset": str(offset), "length": str(length)}
    kept = [e for e in tensor.external_data if e.key not in changed]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = [StringStringEntryProto(key=k, value=v) for k, v in changed.items()] + kept
    del tensor.external_data[:]
    tensor.external_data.extend(entries)


def delete_named(items: Any, names: set[str], name_of: Callable[[Any], str] = lambda item: item.name) -> None:
    """Delete the entries whose name is one of `names`."""
    delete(items, [at for at, item in enumerate(items) if name_of(item) in names])


def delete(items: Any, positions: list[int]) -> None:
    """Delete entries at ascending positions, neighbours together: each deletion moves all that follows."""
    end = len(positions)
    while end:
        start = end - 1
        while start and positions[start - 1] == positions[start] - 1:
            start -= 1
        del items[positions[start] : positions[end - 1] + 1]
        end = start
