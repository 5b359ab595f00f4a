"""A model whose weights stay where they lie in its file: external data, mapped instead of copied.

Parsing a model copies every weight twice, into the message and from there into the runtime, and the system has to
give the memory for both first; for 45 MB that costs as much as running the network once. External data is a range of
a file beside the model (onnx.proto, `TensorProto.external_data`), and the model's own file is such a file too.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto, ValueInfoProto

from onnx_clp.file import wire
from onnx_clp.file.messages import point


@dataclass(frozen=True, slots=True)
class Mapped:
    """A serialised ModelProto whose large initializers are ranges of a file in `folder`."""

    model: bytes
    folder: Path


def map_weights(path: Path) -> Mapped | None:
    """The model at `path` with its large initializers left in the file; all else is in the message.

    Returns:
        None where nothing can be left: there is no large initializer, or `path` is a link and the model has
        external data already, which lies beside the link.

    Raises:
        OSError, ValueError, DecodeError: it cannot be read, is no model, or has a name that is not UTF-8.
    """
    real = Path(os.path.realpath(path))
    with (
        real.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        light = _light(view, real.name)
    if light is None or (path.is_symlink() and b"location" in light[1]):
        return None
    return Mapped(light[0], real.parent)


def giving_out(path: Path, names: Sequence[str]) -> tuple[Mapped, int]:
    """The model at `path` with further values among its outputs, behind its own; and how many outputs are its own."""
    light = map_weights(path)
    model = ModelProto.FromString(path.read_bytes() if light is None else light.model)
    own = [value.name for value in model.graph.output]
    model.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in own)
    return Mapped(model.SerializeToString(), path.parent if light is None else light.folder), len(own)


def _light(view: memoryview, name: str) -> tuple[bytes, bytes] | None:
    """The model that refers to the file `name`, and what was left of it before; None where nothing could be left."""
    ranges: list[tuple[int, int]] = []

    def stash(start: int, end: int) -> bytes:
        ranges.append((start, end))
        return wire.make_token(len(ranges) - 1)

    skeleton = wire.lift(view, stash)
    model = ModelProto.FromString(skeleton)
    inside = [t for t in model.graph.initializer if t.data_location == TensorProto.DEFAULT]
    left = [t for t in inside if wire.is_token(t.raw_data)]
    if not left:
        return None
    for tensor in left:
        start, end = ranges[wire.token_number(tensor.raw_data)]
        point(tensor, name, start, end - start)

    # Only initializers may be external; attributes, sparse tensors and nested graphs get their bytes back.
    rope = wire.splice(model.SerializeToString(), lambda token: view[slice(*ranges[wire.token_number(token)])])
    return b"".join(map(wire.content, rope.pieces)), skeleton
