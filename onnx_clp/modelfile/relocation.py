"""Where tensors lie in the output: in the model file, or in a data file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from onnx import ModelProto, TensorProto

from onnx_clp.config import ExternalData as ExternalChoice
from onnx_clp.file import wire
from onnx_clp.file.store import MappedPayload
from onnx_clp.modelfile.reader import ModelFile, every_tensor

PROTOBUF_LIMIT: Final = (1 << 31) - 1
_MOVE_ABOVE: Final = 1024
_ALIGN: Final = 4096


def moves_out(file: ModelFile, model: ModelProto, choice: ExternalChoice) -> bool:
    """Whether the output keeps tensors in a data file."""
    if choice == "auto":
        return file.has_external or len(file.mapped.view) > PROTOBUF_LIMIT - (64 << 20) or _inline(file, model)
    return choice == "always"


def _inline(file: ModelFile, model: ModelProto) -> bool:
    total = model.ByteSize() + sum(file.store.nbytes(t) or 0 for t in every_tensor(model))
    return total > PROTOBUF_LIMIT


def take_in(file: ModelFile, model: ModelProto) -> None:
    """Make every external tensor of a model one of the model file."""
    for tensor in every_tensor(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            origin = TensorProto()
            origin.CopyFrom(tensor)
            payload = file.store.payload(origin)
            assert payload is not None
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = file.store.keep(payload)


def movable(file: ModelFile, model: ModelProto, choice: ExternalChoice) -> Iterator[TensorProto]:
    """The tensors that go to the data file: those that lay in one, and large initializers."""
    everything = choice == "always" or not file.has_external
    held = list(model.graph.initializer)  # kept alive: an id is good as long as its object
    initializers = {id(t) for t in held}
    for tensor in every_tensor(model):
        outside = tensor.data_location == TensorProto.EXTERNAL
        lifted = wire.is_token(tensor.raw_data)
        large = lifted and (file.store.nbytes(tensor) or 0) > _MOVE_ABOVE and id(tensor) in initializers
        if outside or (large and (everything or not isinstance(file.store.payload(tensor), MappedPayload))):
            yield tensor


def place(
    out: BinaryIO,
    digest: hashlib._Hash,
    file: ModelFile,
    tensor: TensorProto,
    seen: dict[tuple[Path, int, int], int],
) -> tuple[TensorProto, int, int]:
    """Write a tensor's bytes to the data file, those of one origin once; the tensor, its offset and length."""
    payload = file.store.payload(tensor)
    assert payload is not None
    key = None
    if tensor.data_location == TensorProto.EXTERNAL:
        where = file.external.locate(tensor)
        key = (where.path, where.offset, where.length)
        if key in seen:
            return tensor, seen[key], len(payload)
    padding = bytes(-out.tell() % _ALIGN)
    out.write(padding)
    digest.update(padding)
    offset = out.tell()
    pour(payload, out, digest)
    if key is not None:
        seen[key] = offset
    return tensor, offset, len(payload)


def pour(piece: wire.Piece, out: BinaryIO, digest: hashlib._Hash | None) -> None:
    """Write a piece, and hash it where there is a `digest`, a few megabytes at a time."""
    for chunk in wire.chunks(piece):
        out.write(chunk)
        if digest is not None:
            digest.update(chunk)
