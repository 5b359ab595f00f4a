"""Protobuf's wire format, as far as it takes to lift tensor payloads out of a model and put them back.

A model file is mostly weights, and protobuf copies every byte it parses. `lift` walks the nested messages
(https://protobuf.dev/programming-guides/encoding: tag and length varints), replaces each large
`TensorProto.raw_data` by a 24-byte token and returns the small rest, the *skeleton*, for protobuf to parse.
`splice` is the inverse: it walks a serialised skeleton and yields its bytes with the payloads back in place.

A token starts with a random nonce of this process, so no file can carry one.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

LIFT_ABOVE: Final = 512
"""Payloads of more bytes than this are lifted; smaller ones (shapes, scalars) stay for protobuf."""

TOKEN_BYTES: Final = 24
_NONCE: Final = os.urandom(16)  # secrets would bring OpenSSL with it
MOST_DEEP: Final = 100  # protobuf's own limit

_Schema = dict[int, "str"]
# Which fields of which message lead to tensors (onnx.proto3, IR version 3 to 14).
FIELDS: Final[dict[str, _Schema]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {9: "payload"},
}


class WireError(ValueError):
    """The bytes are not a protobuf message: truncated, or a tag that cannot be."""


class Octets(Protocol):
    """Bytes by their position."""

    def __getitem__(self, at: int, /) -> int: ...


class Deferred(Protocol):
    """A known number of bytes that are fetched or computed when they are written."""

    def __len__(self) -> int: ...

    def read(self) -> memoryview:
        """The bytes."""

    def chunks(self) -> Iterator[memoryview]:
        """The bytes piece by piece; each is good until the next is asked for, and let go from memory then."""


Piece = bytes | memoryview | Deferred


def content(piece: Piece) -> bytes | memoryview:
    """A piece's bytes."""
    return piece if isinstance(piece, (bytes, memoryview)) else piece.read()


def chunks(piece: Piece) -> Iterable[bytes | memoryview]:
    """A piece's bytes in parts, each good until the next is asked for."""
    return (piece,) if isinstance(piece, (bytes, memoryview)) else piece.chunks()


@dataclass(slots=True)
class Rope:
    """Bytes in pieces, so that a large payload is never copied to make room around it."""

    pieces: list[Piece] = field(default_factory=list)
    size: int = 0

    def add(self, piece: Piece) -> None:
        """Append one piece."""
        if len(piece):
            self.pieces.append(piece)
            self.size += len(piece)

    def extend(self, other: Rope) -> None:
        """Append another rope's pieces."""
        self.pieces.extend(other.pieces)
        self.size += other.size


def is_token(payload: bytes) -> bool:
    """Whether `payload` is a token of this process."""
    return len(payload) == TOKEN_BYTES and payload.startswith(_NONCE)


def make_token(number: int) -> bytes:
    """The token of payload `number` (≥ 0)."""
    return _NONCE + number.to_bytes(8, "little")


def token_number(token: bytes) -> int:
    """The number a token was made with."""
    return int.from_bytes(token[len(_NONCE) :], "little")


def lift(model: memoryview, stash: Callable[[int, int], bytes]) -> bytes:
    """The skeleton of a serialised ModelProto; `stash` takes a payload's range and gives the token to leave.

    Raises WireError where the bytes are no protobuf message.
    """

    def leaf(start: int, end: int) -> Rope | None:
        """A token for a payload that is large; None for one that stays."""
        if end - start <= LIFT_ABOVE:
            return None
        token = stash(start, end)
        return Rope([token], len(token))

    rope = _rewrite(model, 0, len(model), "model", lambda start, end: end - start > LIFT_ABOVE, leaf, 0)
    return bytes(model) if rope is None else b"".join(map(content, rope.pieces))


def splice(skeleton: bytes, payload: Callable[[bytes], Piece]) -> Rope:
    """The serialised model as a rope, every token in `skeleton` replaced by the piece `payload` gives for it."""
    tokens = _positions(skeleton)

    def holds_token(start: int, end: int) -> bool:
        at = bisect_left(tokens, start)
        return at < len(tokens) and tokens[at] < end

    def leaf(start: int, end: int) -> Rope | None:
        """The payload that a token stands for; None for anything else."""
        token = skeleton[start:end]
        if not is_token(token):
            return None
        piece = payload(token)
        return Rope([piece], len(piece))

    view = memoryview(skeleton)
    return _rewrite(view, 0, len(view), "model", holds_token, leaf, 0) or Rope([skeleton], len(skeleton))


def _positions(skeleton: bytes) -> list[int]:
    found, at = [], skeleton.find(_NONCE)
    while at >= 0:
        found.append(at)
        at = skeleton.find(_NONCE, at + 1)
    return found


def _rewrite(
    view: memoryview,
    start: int,
    end: int,
    message: str,
    enter: Callable[[int, int], bool],
    leaf: Callable[[int, int], Rope | None],
    depth: int,
) -> Rope | None:
    """Rewrite one message; None when nothing inside it changed."""
    if depth > MOST_DEEP:
        raise WireError(f"messages nest deeper than {MOST_DEEP}")
    kinds, rope, copied = FIELDS[message], Rope(), start
    for tag_at, tag, body, at in delimited(view, start, end):
        kind = kinds.get(tag >> 3)
        if kind is None or not enter(body, at):
            continue
        new = leaf(body, at) if kind == "payload" else _rewrite(view, body, at, kind, enter, leaf, depth + 1)
        if new is None:
            continue
        rope.add(view[copied:tag_at])
        rope.add(_varint(tag) + _varint(new.size))
        rope.extend(new)
        copied = at
    if copied == start:
        return None
    rope.add(view[copied:end])
    return rope


def read_varint(view: Octets, at: int, end: int) -> tuple[int, int]:
    """A base-128 varint at `at`: its value and the position after it; WireError past `end` or 64 bits."""
    value = shift = 0
    while at < end:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError("a varint is longer than 64 bits")
    raise WireError("the data ends inside a field")


def delimited(view: Octets, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message that have a length: where the tag is, the tag, and where the body begins and ends.

    Raises WireError, once it comes there, where the bytes are no message.
    """
    at = start
    while at < end:
        tag_at = at
        tag, at = read_varint(view, at, end)
        if tag & 7 != 2:
            at = _skip_scalar(view, at, end, tag)
            continue
        length, body = read_varint(view, at, end)
        at = body + length
        if at > end:
            raise WireError("a field runs past the end of its message")
        yield tag_at, tag, body, at


def _skip_scalar(view: Octets, at: int, end: int, tag: int) -> int:
    kind = tag & 7
    if tag >> 3 == 0 or kind in (3, 4, 6, 7):
        raise WireError(f"field tag {tag} cannot be")
    if kind == 0:
        return read_varint(view, at, end)[1]
    at += 8 if kind == 1 else 4
    if at > end:
        raise WireError("the data ends inside a field")
    return at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
