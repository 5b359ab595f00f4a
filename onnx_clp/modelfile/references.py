"""Which data files a model file refers to, and whether any other model beside it refers to the same."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError
from onnx import ModelProto

from onnx_clp.errors import LoadError
from onnx_clp.file import wire
from onnx_clp.file.door import open_model
from onnx_clp.file.file_names import is_own_data, staged_name
from onnx_clp.modelfile.reader import every_tensor

_ANY_SIZE: Final = 1 << 62
_TEXTS: Final = (".textproto", ".prototxt", ".pbtxt", ".txtpb", ".json", ".onnxjson", ".onnxtext", ".onnxtxt")
"""Forms of a model that are no protobuf bytes, by the suffix that the onnx package knows them by."""


def outdated(model: Path) -> list[Path]:
    """The data files that nothing would refer to if the file `model` were replaced.

    Only files that this tool named after `model`, that the model lying there refers to and that no other model in the
    folder refers to. A model that has another name too, as a link or a hard link, is not gone when it is replaced.
    """
    try:
        status = model.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return []
        names = {name for name in _locations(model) if is_own_data(model, name)}
    except (OSError, ValueError, LoadError, DecodeError):
        return []
    return unreferenced(model, names)


def unreferenced(model: Path, names: Iterable[str]) -> list[Path]:
    """Those of the files `names`, which lie beside `model`, that no other file in its folder refers to."""
    left = sorted(set(names))
    try:
        for other in _beside(model) if left else ():
            left = _unmentioned(other, left)
    except OSError:  # a folder that cannot be listed
        return []
    return [model.with_name(name) for name in left]


def _beside(model: Path) -> Iterator[Path]:
    staged = re.compile(re.escape(staged_name(model)) + r"[^.]{8}\.tmp(\.check|\.data)?")
    with os.scandir(model.parent) as entries:
        for entry in entries:
            # What another run has staged comes with its data, and is put in place after this.
            if entry.name != model.name and not staged.fullmatch(entry.name) and entry.is_file():
                yield Path(entry.path)


def _locations(model: Path) -> Iterator[str]:
    with open_model(model, _ANY_SIZE) as file:
        content = ModelProto.FromString(_skeleton(file.view))
    for tensor in every_tensor(content):
        yield from (entry.value for entry in tensor.external_data if entry.key == "location")


def _unmentioned(other: Path, names: list[str]) -> list[str]:
    """The names that the file `other` does not hold; none where it cannot be read, because then it may."""
    try:
        if other.stat().st_size == 0:
            return names
        with open_model(other, _ANY_SIZE) as file:
            content = _content(other, file.view)
    except (OSError, LoadError, MemoryError):
        return []
    return [name for name in names if os.fsencode(name) not in content]


def _content(path: Path, view: memoryview) -> bytes:
    """What a model says besides its weights; nothing for a file that is no model."""
    try:
        return _skeleton(view)
    except wire.WireError:
        return bytes(view) if path.suffix.lower() in _TEXTS else b""


def _skeleton(view: memoryview) -> bytes:
    return wire.lift(view, lambda *_: b"")
