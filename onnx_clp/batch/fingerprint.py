"""What a model file is, by content: its digest and those of the data files it names.

The file is read once as bytes and never parsed, so no file can hurt who takes its fingerprint. Names of data
files are found by the bytes that protobuf writes for an external-data entry; a file encoded in another way
names files that are missed here, which its report's size gives away.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnx_clp.errors import LoadError
from onnx_clp.text import shown_path

_CHUNK = 1 << 20
_LONGEST = 4096
_TAIL = len(b"\x0a\x08location\x12") + 2 + _LONGEST
# StringStringEntryProto: field 1 is the key "location", field 2 the value, its length a varint of one or two bytes.
_ENTRY = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x1f])", re.DOTALL)
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
        inside = place.is_relative_to(folder) or place.parent == _blobs(folder)
        return place if inside and stat.S_ISREG(place.stat().st_mode) else None
    except (OSError, ValueError):
        return None


def _blobs(folder: Path) -> Path | None:
    """Where a snapshot in the Hugging Face cache links its files to; None if `folder` is in none."""
    for above in (folder, *folder.parents):
        if above.parent.name == "snapshots":
            return above.parent.parent / "blobs"
    return None


def digest(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal; errors as `fingerprint`."""
    running = hashlib.sha256()
    for chunk in _chunks(path):
        running.update(chunk)
    return running.hexdigest()


def _scan(path: Path) -> tuple[str, int, frozenset[str]]:
    running, size, names, tail = hashlib.sha256(), 0, set[str](), b""
    for chunk in _chunks(path):
        running.update(chunk)
        size += len(chunk)
        window = tail + chunk
        names.update(_names(window))
        tail = window[-_TAIL:]
    return running.hexdigest(), size, frozenset(names)


def _names(window: bytes) -> Iterator[str]:
    for match in _ENTRY.finditer(window):
        low, high = match[1][0], match[1][1] if len(match[1]) > 1 else 0
        length = low & 0x7F | high << 7
        value = window[match.end() : match.end() + length]
        if len(value) == length:
            yield value.decode("utf-8", "surrogateescape")


def _chunks(path: Path) -> Iterator[bytes]:
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LoadError(f"{shown_path(path)}: not a regular file; name the model file itself")
        while chunk := stream.read(_CHUNK):
            yield chunk
