"""What a model file is, by content: its digest and those of the data files it names.

The file is read as bytes and never parsed or mapped, so no file can hurt who takes its fingerprint. The names of data
files are read off the wire (`file.locations`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnx_clp.errors import LoadError
from onnx_clp.file.locations import locations
from onnx_clp.file.roots import root_of
from onnx_clp.file.wire import WireError
from onnx_clp.text import shown_path

_CHUNK = 1 << 20
_PAGE = 1 << 13
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`data` holds the digest of each data file by its name in the model ("" where there is none such);
    `size` counts the bytes of all of them and of the model.
    """

    sha256: str
    size: int
    data: Mapping[str, str] = field(default_factory=dict)

    def key(self, salt: str) -> str:
        """SHA-256 of this and of `salt`, in hexadecimal."""
        text = json.dumps([self.sha256, sorted(self.data.items()), salt])
        return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of the model at `path`.

    Raises:
        LoadError: it is no regular file.
        OSError: it cannot be read.
    """
    sha256, size, names = _scan(path)
    data: dict[str, str] = {}
    counted: set[Path] = set()
    for name in sorted(names):
        place = data_file(path, name)
        data[name] = "" if place is None else digest(place)
        if place is not None and place not in counted:
            counted.add(place)
            size += place.stat().st_size
    return Fingerprint(sha256, size, data)


def data_names(path: Path) -> frozenset[str]:
    """The names of data files that the model at `path` asks for, as it writes them; errors as `fingerprint`."""
    return _scan(path)[2]


def data_file(model: Path, name: str) -> Path | None:
    """The regular file inside the model's folder that `name` leads to, links resolved; None if there is none."""
    try:
        folder = Path(os.path.realpath(model.parent))
        place = Path(os.path.realpath(folder / name))
        return place if root_of(place, folder) and stat.S_ISREG(place.stat().st_mode) else None
    except (OSError, ValueError):
        return None


def digest(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal; errors as `fingerprint`."""
    running = hashlib.sha256()
    for chunk in _chunks(path):
        running.update(chunk)
    return running.hexdigest()


def _scan(path: Path) -> tuple[str, int, frozenset[str]]:
    descriptor = _opened(path)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        running, size = hashlib.sha256(), 0
        while chunk := stream.read(_CHUNK):
            running.update(chunk)
            size += len(chunk)
        return running.hexdigest(), size, locations(_Pages(stream), size)


class _Pages:
    """A file's bytes, a page at a time; a file that shrank meanwhile ends where it ends now."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream, self._start, self._page = stream, 0, b""

    def __getitem__(self, at: int, /) -> int:
        if not self._start <= at < self._start + len(self._page):
            self._start, self._page = at, self.cut(at, at + _PAGE)
        if not self._page:
            raise WireError("the file ends inside a field")
        return self._page[at - self._start]

    def cut(self, start: int, end: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(end - start) or b""


def _chunks(path: Path) -> Iterator[bytes]:
    with os.fdopen(_opened(path), "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _opened(path: Path) -> int:
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LoadError(f"{shown_path(path)}: not a regular file; name the model file itself")
    return descriptor
