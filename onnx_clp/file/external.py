"""External data: tensors whose bytes lie in files beside the model, mapped from there and nowhere else.

A model names those files itself, so each name is a request, not a fact. It is granted when it leads, links
resolved, to a regular file with one name inside the model's folder, or, in a Hugging Face cache, into the
blobs of the same repository. Everything else is refused before it is opened.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto

from onnx_clp.errors import LoadError
from onnx_clp.file.door import OPEN_FLAGS, cause, require_regular
from onnx_clp.file.grants import Grant, granted
from onnx_clp.file.storage import expected_bytes, label
from onnx_clp.text import shown, shown_path

_KEYS = frozenset(("location", "offset", "length", "checksum"))
_DECIMAL = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST = 2**63 - 1
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# O_PATH: a folder is passed through, not read, so the right to search it is enough.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_PAGE = mmap.ALLOCATIONGRANULARITY
_OPEN_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Location:
    """Where a tensor's bytes lie: `length` bytes from `offset` in the file `path` (links resolved)."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _DataFile:
    path: Path
    identity: tuple[int, ...]
    descriptor: int
    mapped: mmap.mmap | None
    view: memoryview


class ExternalData:
    """The data files of one model, each opened and mapped on first use; a context manager.

    A few dozen files are open at a time; one that is opened again must still be the same, unchanged file.

    `model_path` is the model's path as the user gave it: names are resolved from the folder it lies in there,
    even when the file itself is a link. None stands for a model that came without a file.
    """

    def __init__(self, model_path: Path | None) -> None:
        self._model_path = model_path
        self._places: dict[str, Grant] = {}
        self._identities: dict[Path, tuple[int, ...]] = {}
        self._open: OrderedDict[Path, _DataFile] = OrderedDict()

    def locate(self, tensor: TensorProto) -> Location:
        """Return where the bytes of an external tensor lie, having checked that all are there.

        Raises:
            LoadError: there is no folder, or the entry, the name, the file or the byte range is refused.
            InvalidModelError: the tensor's own type or dimensions are impossible.
        """
        file, offset, length = self._find(tensor)
        return Location(file.path, offset, length)

    def view(self, tensor: TensorProto) -> memoryview:
        """Return the tensor's bytes, read-only and mapped; errors as `locate`."""
        file, offset, length = self._find(tensor)
        return file.view[offset : offset + length]

    def forget(self, tensor: TensorProto) -> None:
        """Let the system drop the tensor's bytes from memory; they are read again when looked at again."""
        file, offset, length = self._find(tensor)
        start = offset - offset % _PAGE
        if file.mapped is not None and length and hasattr(mmap, "MADV_DONTNEED"):
            file.mapped.madvise(mmap.MADV_DONTNEED, start, offset + length - start)

    def descriptor(self, tensor: TensorProto) -> int:
        """Return an open descriptor of the tensor's file, to copy a byte range from.

        It stays this object's and is good until the next call to any method; errors as `locate`.
        """
        return self._find(tensor)[0].descriptor

    def files(self) -> Mapping[Path, int]:
        """Return the data files used so far (links resolved) and their sizes in bytes."""
        return {path: _size(identity) for path, identity in self._identities.items()}

    @property
    def total_bytes(self) -> int:
        """Size of all data files used so far, in bytes."""
        return sum(map(_size, self._identities.values()))

    def close(self) -> None:
        """Close every file; views that live on keep their mapping until they are gone."""
        while self._open:
            _close(self._open.popitem()[1])

    def __enter__(self) -> ExternalData:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, tensor: TensorProto) -> tuple[_DataFile, int, int]:
        expected = expected_bytes(tensor)
        entries = _entries(tensor)
        offset = _number(tensor, entries, "offset", 0)
        length = _number(tensor, entries, "length", expected)
        if tensor.data_type == TensorProto.STRING:
            raise LoadError(f"{label(tensor)} holds strings, which cannot be external data; export the model again")
        if length != expected:
            raise LoadError(f"{label(tensor)} needs {expected:,} bytes, its external data entry says {length:,}")
        file = self._file(tensor, entries.get("location", ""))
        size = _size(file.identity)
        if offset + length > size:
            raise LoadError(
                f"{label(tensor)}: bytes {offset:,} to {offset + length:,} lie beyond the end of "
                f"{shown_path(file.path)} ({size:,} bytes); fetch the data file again"
            )
        return file, offset, length

    def _file(self, tensor: TensorProto, name: str) -> _DataFile:
        if name not in self._places:
            self._places[name] = granted(self._model_path, tensor, name)
        place = self._places[name]
        if place.path not in self._open:
            while len(self._open) >= _OPEN_AT_ONCE:
                _close(self._open.popitem(last=False)[1])
            self._open[place.path] = self._unchanged(_map(place, tensor))
        self._open.move_to_end(place.path)
        return self._open[place.path]

    def _unchanged(self, file: _DataFile) -> _DataFile:
        if self._identities.setdefault(file.path, file.identity) == file.identity:
            return file
        _close(file)
        raise LoadError(f"{shown_path(file.path)}: changed while it was read; try again when nothing writes it")


def _entries(tensor: TensorProto) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in tensor.external_data:
        key, value = entry.key, entry.value
        if key not in _KEYS:
            continue
        if key in found:
            raise LoadError(f"{label(tensor)} gives its external data's {key} twice; export the model again")
        if not isinstance(value, str):
            raise LoadError(f"{label(tensor)}: its external data's {key} is not text; export the model again")
        found[key] = value
    return found


def _number(tensor: TensorProto, entries: dict[str, str], key: str, default: int) -> int:
    if key not in entries:
        return default
    text = entries[key]
    if not _DECIMAL.fullmatch(text) or int(text) > _LARGEST:
        raise LoadError(f"{label(tensor)}: external data {key} '{shown(text)}' is not a decimal number of bytes")
    return int(text)


def _map(place: Grant, tensor: TensorProto) -> _DataFile:
    path = place.path
    try:
        descriptor = _open_linkless(place)
    except (OSError, ValueError) as error:
        raise LoadError(f"{label(tensor)}: data file {shown_path(path)}: {cause(error, path)}") from error
    try:
        return _mapped(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _mapped(path: Path, descriptor: int) -> _DataFile:
    status = os.fstat(descriptor)
    _require_sole(path, status)
    identity = (status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns)
    if status.st_size == 0:
        return _DataFile(path, identity, descriptor, None, memoryview(b""))
    try:
        mapped = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise LoadError(f"{shown_path(path)}: cannot be mapped ({error}); copy it to a local disk") from error
    return _DataFile(path, identity, descriptor, mapped, memoryview(mapped))


def _size(identity: tuple[int, ...]) -> int:
    return identity[0]


def _require_sole(path: Path, status: os.stat_result) -> None:
    require_regular(path, status)
    if status.st_nlink != 1:
        raise LoadError(
            f"{shown_path(path)}: this data file has {status.st_nlink} names (hard links), so it may belong "
            "to another folder; it is not opened; copy it to a file of its own"
        )


def _open_linkless(place: Grant) -> int:
    """Open a path that held no links when it was resolved; one put there since is an error, not a way out."""
    if not _BY_DESCRIPTOR or place.path == place.root:
        _require_sole(place.path, place.path.lstat())
        return os.open(place.path, OPEN_FLAGS | _NOFOLLOW)
    folder = os.open(place.root, _FOLDER_FLAGS | _NOFOLLOW)
    try:
        for part in place.path.relative_to(place.root).parts[:-1]:
            below = os.open(part, _FOLDER_FLAGS | _NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        name = place.path.name
        _require_sole(place.path, os.stat(name, dir_fd=folder, follow_symlinks=False))
        return os.open(name, OPEN_FLAGS | _NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _close(file: _DataFile) -> None:
    os.close(file.descriptor)
    try:
        file.view.release()
        if file.mapped is not None:
            file.mapped.close()
    except BufferError:
        return
