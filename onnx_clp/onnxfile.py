"""Model files: read one without loading its weights, write one so that it appears whole or not at all.

Reading maps the file, lifts large payloads out (see `wire`) and parses the rest. Writing streams: unchanged
payloads are copied by byte range, changed ones computed one at a time. External data goes to
`<output>.<8 hex digits of its SHA-256>.data`, put in place before the model that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, StringStringEntryProto, TensorProto

from onnx_clp import structure, wire
from onnx_clp.config import ExternalData as ExternalChoice
from onnx_clp.door import OpenFile, open_model
from onnx_clp.errors import InvalidModelError, LoadError, SaveError, UnsupportedModelError
from onnx_clp.external import ExternalData
from onnx_clp.formats import recognise
from onnx_clp.names import shown_path
from onnx_clp.tensors import MappedFile, MappedPayload, TensorStore

PROTOBUF_LIMIT: Final = (1 << 31) - 1
_MOVE_ABOVE: Final = 1024
_ALIGN: Final = 4096
_CHUNK: Final = 8 << 20


class BytesFile:
    """Bytes in memory, seen as a mapped file."""

    def __init__(self, data: bytes) -> None:
        self.view = memoryview(data)

    def forget(self, start: int, end: int) -> None:
        """Nothing to drop."""


@dataclass(slots=True, eq=False)
class ModelFile:
    """A model that was read: a skeleton and the store that knows where its payloads lie; a context manager.

    `source` is the mapped file (None for a ModelProto), `external` its data files, `size` all bytes together.
    """

    model: ModelProto
    store: TensorStore
    path: Path | None
    source: OpenFile | None
    mapped: MappedFile
    external: ExternalData

    @property
    def size(self) -> int:
        """Bytes of the model and its data files."""
        return len(self.mapped.view) + self.external.total_bytes

    @property
    def has_external(self) -> bool:
        """Whether any tensor lies in a data file."""
        return bool(self.external.files())

    def sha256(self) -> str:
        """SHA-256 of the model file itself, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in chunks(self.mapped.view):
            digest.update(chunk)
        self.mapped.forget(0, len(self.mapped.view))
        return digest.hexdigest()

    def close(self) -> None:
        """Unmap everything."""
        self.external.close()
        if self.source is not None:
            self.source.close()

    def __enter__(self) -> ModelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# Reading


def read(path: Path, max_size: int) -> ModelFile:
    """Read a model file.

    Raises:
        LoadError: no readable regular file, no ONNX, damaged, or larger than `max_size` bytes with its data.
        UnsupportedModelError: a version of ONNX this tool does not know.
    """
    source = open_model(path, max_size)
    try:
        return _checked(_parse(source, ExternalData(path), path, source), max_size)
    except (LoadError, UnsupportedModelError) as error:
        source.close()
        raise type(error)(_about(path, str(error))) from error
    except BaseException:
        source.close()
        raise


def _about(path: Path, text: str) -> str:
    name = shown_path(path)
    return text if text.startswith(name) else f"{name}: {text}"


def from_proto(model: ModelProto, max_size: int) -> ModelFile:
    """A caller's ModelProto as a ModelFile; the message itself is never changed.

    Raises:
        LoadError, UnsupportedModelError: as `read`; external data needs a path to resolve it from.
    """
    mapped = BytesFile(model.SerializeToString())
    return _checked(_parse(mapped, ExternalData(None), None, None), max_size)


def _parse(mapped: MappedFile, external: ExternalData, path: Path | None, source: OpenFile | None) -> ModelFile:
    store = TensorStore(external)
    model = ModelProto()
    try:
        skeleton = wire.lift(mapped.view, lambda s, e: store.keep(MappedPayload(mapped, s, e)))
        model.ParseFromString(skeleton)
    except (wire.WireError, DecodeError, ValueError) as error:
        raise LoadError(_not_onnx(mapped.view, path, "damaged or truncated; fetch it again")) from error
    if not model.HasField("graph"):
        raise LoadError(_not_onnx(mapped.view, path, "no ONNX model: it holds no graph; export it again"))
    return ModelFile(model, store, path, source, mapped, external)


def _not_onnx(view: memoryview, path: Path | None, otherwise: str) -> str:
    return (recognise(view[: 1 << 16], path) if path is not None else None) or otherwise


def _checked(file: ModelFile, max_size: int) -> ModelFile:
    structure.check(file.model, file.store.nbytes)
    for tensor in every_tensor(file.model):
        if tensor.data_location == TensorProto.EXTERNAL:
            file.external.locate(tensor)
    if file.size > max_size:
        raise LoadError(
            f"{file.size:,} bytes with its data, above the limit of {max_size:,}; raise --max-size if you want it read"
        )
    return file


def every_tensor(model: ModelProto) -> Iterator[TensorProto]:
    """Every TensorProto of a model: initializers, sparse parts and attributes, nested graphs and functions too."""
    graphs = [model.graph, *(g for t in model.training_info for g in (t.initialization, t.algorithm))]
    nodes = [(f.node, f.attribute_proto) for f in model.functions]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.append((graph.node, ()))  # type: ignore[arg-type]
            continue
        body, defaults = nodes.pop()
        for holder in (*(n.attribute for n in body), defaults):
            for item in holder:
                yield from _attribute_tensors(item)
                if item.type == AttributeProto.GRAPH:
                    graphs.append(item.g)
                graphs.extend(item.graphs)


def _attribute_tensors(item: AttributeProto) -> Iterator[TensorProto]:
    if item.type == AttributeProto.TENSOR:
        yield item.t
    elif item.type == AttributeProto.SPARSE_TENSOR:
        yield from (item.sparse_tensor.values, item.sparse_tensor.indices)
    yield from item.tensors
    for sparse in item.sparse_tensors:
        yield from (sparse.values, sparse.indices)


# Writing


@dataclass(slots=True)
class Staged:
    """A complete model lying in a temporary file beside its destination, not yet in its place."""

    model: Path
    destination: Path
    data: Path | None = None
    data_destination: Path | None = None
    sha256: str = ""
    size: int = 0
    _done: bool = field(default=False)

    check: Path | None = None

    def checkable(self) -> Path:
        """A path at which the model can be loaded now: its external data lies under a temporary name too."""
        return self.check or self.model

    def commit(self) -> None:
        """Put it in place: data first, the model last, then data files of earlier runs go."""
        if self.data is not None and self.data_destination is not None:
            os.replace(self.data, self.data_destination)
        os.replace(self.model, self.destination)
        self._done = True
        if self.check is not None:
            self.check.unlink(missing_ok=True)
        _sync_folder(self.destination.parent)
        for stale in self.destination.parent.iterdir():
            if _is_data_of(self.destination, stale.name) and stale != self.data_destination:
                with contextlib.suppress(OSError):
                    stale.unlink()

    def discard(self) -> None:
        """Remove what was not put in place."""
        if self._done:
            return
        for path in (self.model, self.data, self.check):
            if path is not None:
                path.unlink(missing_ok=True)


def _is_data_of(destination: Path, name: str) -> bool:
    return re.fullmatch(re.escape(destination.name) + r"\.[0-9a-f]{8}\.data", name) is not None


@contextlib.contextmanager
def staging(destination: Path) -> Iterator[Callable[[ModelFile, ModelProto | None, ExternalChoice], Staged]]:
    """Gives a function that writes a model to a temporary file beside `destination`; on exit what was not
    committed is removed. None as the model copies the input's bytes.
    """
    made: list[Staged] = []

    def stage(file: ModelFile, model: ModelProto | None, choice: ExternalChoice) -> Staged:
        staged = _open_stage(file, destination)
        made.append(staged)
        try:
            _fill(staged, file, model, choice)
        except OSError as error:
            text = f"cannot be written ({error.strerror}); check the folder and its disk"
            raise SaveError(f"{shown_path(destination)}: {text}") from error
        return staged

    try:
        yield stage
    finally:
        for staged in made:
            staged.discard()


def _open_stage(file: ModelFile, destination: Path) -> Staged:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{destination.name[:100]}.", suffix=".tmp", dir=destination.parent)
        os.fchmod(descriptor, _mode(file))
        os.close(descriptor)
    except OSError as error:
        text = f"cannot be written ({error.strerror}); check the folder and its permissions"
        raise SaveError(f"{shown_path(destination)}: {text}") from error
    return Staged(Path(name), destination)


def _mode(file: ModelFile) -> int:
    return file.source.stat.st_mode & 0o777 if file.source is not None else 0o644


def _fill(staged: Staged, file: ModelFile, model: ModelProto | None, choice: ExternalChoice) -> None:
    if model is None and not _moves(file, file.model, choice):
        _write(staged, [file.mapped.view], file)
        return
    content = ModelProto()
    content.CopyFrom(file.model if model is None else model)
    if _moves(file, content, choice):
        _move_out(staged, file, content, choice)
    else:
        _move_in(file, content)
    rope = _rope(file, content)
    if rope.size > PROTOBUF_LIMIT:
        raise SaveError(
            f"{shown_path(staged.destination)}: the model would pass protobuf's limit of 2 GiB; "
            "use --external-data auto"
        )
    _write(staged, rope.pieces, file)
    if staged.data is not None:
        _write_check(staged, file, content)


def _rope(file: ModelFile, model: ModelProto) -> wire.Rope:
    return wire.splice(model.SerializeToString(deterministic=True), file.store.payload_of)


def _write_check(staged: Staged, file: ModelFile, content: ModelProto) -> None:
    """A second small model file that finds the data under its temporary name, for validation."""
    assert staged.data is not None
    assert staged.data_destination is not None
    for tensor in every_tensor(content):
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value == staged.data_destination.name:
                entry.value = staged.data.name
    staged.check = staged.model.with_name(staged.model.name + ".check")
    with staged.check.open("xb") as out:
        for piece in _rope(file, content).pieces:
            out.write(piece if isinstance(piece, (bytes, memoryview)) else piece.read())


def complete(file: ModelFile, model: ModelProto | None) -> ModelProto:
    """A model with every payload in place, external data taken in; None stands for the input as it came."""
    content = ModelProto()
    content.CopyFrom(file.model if model is None else model)
    _move_in(file, content)
    pieces = _rope(file, content).pieces
    whole = b"".join(p if isinstance(p, (bytes, memoryview)) else p.read() for p in pieces)
    return ModelProto.FromString(whole)


def _moves(file: ModelFile, model: ModelProto, choice: ExternalChoice) -> bool:
    """Whether the output keeps tensors in a data file."""
    if choice == "auto":
        return file.has_external or len(file.mapped.view) > PROTOBUF_LIMIT - (64 << 20) or _inline(file, model)
    return choice == "always"


def _inline(file: ModelFile, model: ModelProto) -> bool:
    total = model.ByteSize() + sum(file.store.nbytes(t) or 0 for t in every_tensor(model))
    return total > PROTOBUF_LIMIT


def _move_in(file: ModelFile, model: ModelProto) -> None:
    for tensor in every_tensor(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            origin = TensorProto()
            origin.CopyFrom(tensor)
            payload = file.store.payload(origin)
            assert payload is not None
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = file.store.keep(payload)


def _move_out(staged: Staged, file: ModelFile, model: ModelProto, choice: ExternalChoice) -> None:
    """Write payloads to a data file and point the tensors at it."""
    staged.data = staged.model.with_name(staged.model.name + ".data")
    placed: list[tuple[TensorProto, int, int]] = []
    digest = hashlib.sha256()
    with staged.data.open("xb") as out:
        os.fchmod(out.fileno(), _mode(file))
        seen: dict[tuple[Path, int, int], int] = {}
        for tensor in _movable(file, model, choice):
            placed.append(_place(out, digest, file, tensor, seen))
        _sync(out)
    if not placed:
        staged.data.unlink()
        staged.data = None
        return
    name = f"{staged.destination.name}.{digest.hexdigest()[:8]}.data"
    staged.data_destination = staged.destination.with_name(name)
    for tensor, offset, length in placed:
        _point(tensor, name, offset, length)
    staged.size += sum(length for _, _, length in placed)


def _movable(file: ModelFile, model: ModelProto, choice: ExternalChoice) -> Iterator[TensorProto]:
    everything = choice == "always" or not file.has_external
    initializers = {id(t) for t in model.graph.initializer}
    for tensor in every_tensor(model):
        outside = tensor.data_location == TensorProto.EXTERNAL
        lifted = wire.is_token(tensor.raw_data)
        large = lifted and (file.store.nbytes(tensor) or 0) > _MOVE_ABOVE and id(tensor) in initializers
        if outside or (large and (everything or not isinstance(file.store.payload(tensor), MappedPayload))):
            yield tensor


def _place(
    out: BinaryIO,
    digest: hashlib._Hash,
    file: ModelFile,
    tensor: TensorProto,
    seen: dict[tuple[Path, int, int], int],
) -> tuple[TensorProto, int, int]:
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
    for chunk in chunks(payload.read()):
        out.write(chunk)
        digest.update(chunk)
    payload.release()
    if key is not None:
        seen[key] = offset
    return tensor, offset, len(payload)


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor external, keeping other entries such as a checksum of unchanged bytes."""
    changed = {"location": location, "offset": str(offset), "length": str(length)}
    kept = [e for e in tensor.external_data if e.key not in changed]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = [StringStringEntryProto(key=k, value=v) for k, v in changed.items()] + kept
    del tensor.external_data[:]
    tensor.external_data.extend(entries)


def _write(staged: Staged, pieces: list[wire.Piece], file: ModelFile) -> None:
    digest = hashlib.sha256()
    with staged.model.open("wb") as out:
        for piece in pieces:
            data = piece if isinstance(piece, (bytes, memoryview)) else piece.read()
            for chunk in chunks(memoryview(data)):
                out.write(chunk)
                digest.update(chunk)
            if not isinstance(piece, (bytes, memoryview)):
                piece.release()
        _sync(out)
        staged.size += out.tell()
    staged.sha256 = digest.hexdigest()
    if len(file.mapped.view) > _CHUNK:
        file.mapped.forget(0, len(file.mapped.view))


def chunks(view: memoryview) -> Iterator[memoryview]:
    """A long view in pieces of a few megabytes."""
    for start in range(0, len(view), _CHUNK):
        yield view[start : start + _CHUNK]


def _sync(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


__all__ = ["InvalidModelError", "ModelFile", "Staged", "from_proto", "read", "staging"]
