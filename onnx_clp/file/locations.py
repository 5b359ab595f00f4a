"""The names of the files in which a model keeps tensors, read off the wire without parsing the model.

TensorProto.external_data (field 13, onnx.proto3) holds entries of a key (field 1) and a value (field 2); the one whose
key is "location" names the file. Only the messages on the way there are entered, so weights are skipped, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from onnx_clp.file.wire import FIELDS, MOST_DEEP, Octets, WireError, delimited

_FIELDS: Final = {**FIELDS, "tensor": {13: "entry"}}
_LONGEST: Final = 4096
_KEY: Final = b"location"


class Sliced(Octets, Protocol):
    """Bytes that are read where they are asked for."""

    def cut(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`."""


def locations(source: Sliced, size: int) -> frozenset[str]:
    """The names as written in a serialised ModelProto of `size` bytes; those found up to where it is broken."""
    found: set[str] = set()
    try:
        for name in _names(source, 0, size, "model", 0):
            found.add(name)
    except WireError:
        pass
    return frozenset(found)


def _names(source: Sliced, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > MOST_DEEP:
        raise WireError(f"messages nest deeper than {MOST_DEEP}")
    if message == "entry":
        yield from _location(source, start, end)
        return
    kinds = _FIELDS[message]
    for number, low, high in _bodies(source, start, end):
        if number in kinds:
            yield from _names(source, low, high, kinds[number], depth + 1)


def _location(source: Sliced, start: int, end: int) -> Iterator[str]:
    bodies = _bodies(source, start, end)
    texts = {number: source.cut(low, high) for number, low, high in bodies if high - low <= _LONGEST}
    if texts.get(1) == _KEY and 2 in texts:
        yield texts[2].decode("utf-8", "surrogateescape")


def _bodies(source: Sliced, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length: number, and where each begins and ends."""
    return ((tag >> 3, low, high) for _, tag, low, high in delimited(source, start, end))
