"""Read a model file without loading its weights: map it, lift large payloads out (see `wire`), parse the rest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto

from onnx_clp.check import structure
from onnx_clp.errors import LoadError, UnsupportedModelError
from onnx_clp.file import wire
from onnx_clp.file.door import OpenFile, open_model
from onnx_clp.file.external import ExternalData
from onnx_clp.file.formats import recognise
from onnx_clp.file.store import MappedFile, MappedPayload, TensorStore
from onnx_clp.text import shown_path


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

    @property
    def whole(self) -> MappedPayload:
        """Every byte of the model file itself."""
        return MappedPayload(self.mapped, 0, len(self.mapped.view))

    def sha256(self) -> str:
        """SHA-256 of the model file itself, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.whole.chunks():
            digest.update(chunk)
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
    with contextlib.ExitStack() as on_error:
        source = on_error.enter_context(open_model(path, max_size))
        external = on_error.enter_context(ExternalData(path))
        try:
            file = _checked(_parse(source, external, path, source), max_size)
        except (LoadError, UnsupportedModelError) as error:
            raise type(error)(about(path, str(error))) from error
        on_error.pop_all()
        return file


def about(path: Path, text: str) -> str:
    """A sentence with the file's name in front, unless it begins with that already."""
    name = shown_path(path)
    return text if text.startswith(name) else f"{name}: {text}"


def from_proto(model: ModelProto, max_size: int) -> ModelFile:
    """A caller's ModelProto as a ModelFile; the message itself is never changed.

    Raises:
        LoadError, UnsupportedModelError: as `read`; external data needs a path to resolve it from.
    """
    return from_bytes(model.SerializeToString(), max_size)


def from_bytes(model: bytes, max_size: int) -> ModelFile:
    """The bytes of a model as a ModelFile; errors as `from_proto`."""
    mapped = BytesFile(model)
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
    return (recognise(view, path) if path is not None else None) or otherwise


def _checked(file: ModelFile, max_size: int) -> ModelFile:
    structure.check(file.model, file.store.nbytes)
    for tensor in every_tensor(file.model):
        if tensor.data_location == TensorProto.EXTERNAL:
            file.external.locate(tensor)
    if file.size > max_size:
        raise LoadError(
            f"{file.size:,} bytes with its data, above the limit of {max_size:,}; raise --max-size if you want it read"
        )
    file.store.limit_to(file.size)
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
