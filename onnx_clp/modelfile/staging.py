"""Write a model so that it appears whole or not at all.

A model is *staged* under a temporary name beside its destination, proven there, and put in place by renaming.
Writing streams: unchanged payloads are copied by byte range, changed ones computed one at a time. External data
goes to `<output>.<8 hex digits of its SHA-256>.data`, put in place before the model that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto

from onnx_clp.config import ExternalData as ExternalChoice
from onnx_clp.errors import Interrupted, SaveError
from onnx_clp.file import wire
from onnx_clp.file.file_names import data_name, staged_name
from onnx_clp.file.messages import point
from onnx_clp.modelfile.reader import ModelFile, every_tensor
from onnx_clp.modelfile.relocation import PROTOBUF_LIMIT, movable, moves_out, place, pour, take_in
from onnx_clp.modelfile.staged import Staged, unwritable
from onnx_clp.process import signals
from onnx_clp.text import shown_path

Stage = Callable[[ModelFile, "ModelProto | None", ExternalChoice], Staged]


@contextlib.contextmanager
def staging(destination: Path, *, lasting: bool = True, beside: Staged | None = None) -> Iterator[Stage]:
    """Gives a function that writes a model to a temporary file beside `destination`; on exit what was not
    committed is removed. None as the model copies the input's bytes.

    A model that is not `lasting` is never committed: it need not reach the disk, and its SHA-256 is left empty. Weights
    that it shares with `beside`, staged for the same destination, are not written again: it refers to that file.
    """
    made: list[Staged] = []

    def stage(file: ModelFile, model: ModelProto | None, choice: ExternalChoice) -> Staged:
        """Write `model`, or the file itself where that is None, under a temporary name. Raises SaveError."""
        with signals.held():
            staged = _open_stage(file, destination)
            made.append(staged)
        try:
            _fill(staged, file, model, choice, None if lasting else _Passing(beside))
        except OSError as error:
            raise SaveError(unwritable(destination, error)) from error
        return staged

    try:
        yield stage
    finally:
        _discard(made)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for models that only validation sees."""
    with signals.held():
        folder = tempfile.TemporaryDirectory(prefix="onnx-clp-")
    try:
        yield Path(folder.name)
    finally:
        with signals.held():
            folder.cleanup()


def _discard(made: list[Staged]) -> None:
    try:
        with signals.held():
            for staged in made:
                staged.discard()
    except Interrupted:  # it may have come before the first step was taken; there is no second one
        for staged in made:
            staged.discard()
        raise


def _open_stage(file: ModelFile, destination: Path) -> Staged:
    try:
        descriptor, name = tempfile.mkstemp(prefix=staged_name(destination), suffix=".tmp", dir=destination.parent)
    except OSError as error:
        raise SaveError(unwritable(destination, error)) from error
    _copy_mode(file, descriptor)
    os.close(descriptor)
    return Staged(Path(name), destination, spared=frozenset(file.external.files()))


def _copy_mode(file: ModelFile, descriptor: int) -> None:
    """Give a new file the input's mode, where there are modes (not on a FAT disk)."""
    mode = file.source.stat.st_mode & 0o777 if file.source is not None else 0o644
    with contextlib.suppress(OSError, AttributeError):
        os.fchmod(descriptor, mode)


@dataclass(frozen=True, slots=True)
class _Passing:
    """What holds for a model that is never committed."""

    beside: Staged | None


def _fill(
    staged: Staged, file: ModelFile, model: ModelProto | None, choice: ExternalChoice, passing: _Passing | None
) -> None:
    lasting = passing is None
    if model is None and not moves_out(file, file.model, choice):
        _write(staged, [file.whole], lasting)
        return
    content = ModelProto()
    content.CopyFrom(file.model if model is None else model)
    if moves_out(file, content, choice):
        _move_out(staged, file, content, choice, lasting)
    else:
        take_in(file, content)
        if passing is not None and passing.beside is not None:
            _share(file, content, passing.beside)
    rope = _rope(file, content)
    if rope.size > PROTOBUF_LIMIT:
        raise SaveError(
            f"{shown_path(staged.destination)}: the model would pass protobuf's limit of 2 GiB; "
            "use --external-data auto"
        )
    _write(staged, rope.pieces, lasting)
    if staged.data is not None:
        _write_check(staged, file, content)


def _share(file: ModelFile, model: ModelProto, beside: Staged) -> None:
    """Have `model` find in `beside` the payloads that lie there: external data may be a range of any file."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.DEFAULT and wire.is_token(tensor.raw_data):
            place = beside.places.get(id(file.store.payload_of(tensor.raw_data)))
            if place is not None:
                point(tensor, beside.model.name, *place)


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
        _copy_mode(file, out.fileno())
        for piece in _rope(file, content).pieces:
            out.writelines(wire.chunks(piece))


def complete(file: ModelFile, model: ModelProto | None) -> ModelProto:
    """A model with every payload in place, external data taken in; None stands for the input as it came."""
    content = ModelProto()
    content.CopyFrom(file.model if model is None else model)
    take_in(file, content)
    pieces = _rope(file, content).pieces
    whole = b"".join(wire.content(p) for p in pieces)
    return ModelProto.FromString(whole)


def _move_out(staged: Staged, file: ModelFile, model: ModelProto, choice: ExternalChoice, lasting: bool) -> None:
    """Write payloads to a data file and point the tensors at it."""
    staged.data = staged.model.with_name(staged.model.name + ".data")
    placed: list[tuple[TensorProto, int, int]] = []
    digest = hashlib.sha256()
    with staged.data.open("xb") as out:
        _copy_mode(file, out.fileno())
        seen: dict[tuple[Path, int, int], int] = {}
        for tensor in movable(file, model, choice):
            placed.append(place(out, digest, file, tensor, seen))
        if lasting:
            _sync(out)
    if not placed:
        staged.data.unlink()
        staged.data = None
        return
    name = data_name(staged.destination, digest.hexdigest())
    staged.data_destination = staged.destination.with_name(name)
    for tensor, offset, length in placed:
        point(tensor, name, offset, length)
    staged.size += staged.data.stat().st_size


def _write(staged: Staged, pieces: list[wire.Piece], lasting: bool) -> None:
    digest = hashlib.sha256() if lasting else None
    with staged.model.open("wb") as out:
        at = 0
        for piece in pieces:
            pour(piece, out, digest)
            if not isinstance(piece, (bytes, memoryview)):
                staged.places[id(piece)] = (at, len(piece))
            at += len(piece)
        if digest is not None:
            _sync(out)
            staged.sha256 = digest.hexdigest()
        staged.size += out.tell()


def _sync(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
