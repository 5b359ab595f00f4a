"""The journal: what was begun and how it ended, one JSON object a line, never rewritten.

A line is on the disk before the next step is taken, so a batch that is killed loses no more than the models
it was at. A torn last line is skipped, as is anything else that is no record.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from onnx_clp.batch.destinations import Destination, LocalDestination, RemoteDestination
from onnx_clp.batch.record import Record
from onnx_clp.errors import LoadError, SaveError, UsageError
from onnx_clp.text import shown_path

NAME = "onnx-clp-batch.jsonl"
FOLDER = "onnx-clp-batch"


@dataclass(slots=True)
class Past:
    """What a journal tells: the last record of each model, and the models begun since."""

    records: dict[str, Record] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def owns(self, name: str) -> bool:
        """Whether what lies at this model's outputs was put there by a batch."""
        known = self.records.get(name)
        return name in self.begun or (known is not None and bool(known.files))


class Journal(Protocol):
    """Where events go; `past` is what was in it before."""

    past: Past

    def begin(self, name: str) -> None:
        """Note that a model's run is about to start."""

    def end(self, record: Record) -> None:
        """Note how it ended."""


@contextlib.contextmanager
def opened(place: Destination) -> Iterator[Journal]:
    """The journal in `place`.

    Raises:
        UsageError: another batch is writing to it.
        LoadError: it cannot be read.
        SaveError: it cannot be written.
    """
    if isinstance(place, RemoteDestination):
        yield _RemoteJournal(place)
        return
    assert isinstance(place, LocalDestination)
    path = place.folder / NAME
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise SaveError(f"{shown_path(path)}: the journal cannot be opened: {error.strerror}") from error
    with stream:
        _lock(stream.fileno(), path)
        yield _LocalJournal(path, stream)


def read(lines: Iterable[str]) -> Past:
    """What the lines of a journal tell, later ones first to be believed."""
    past = Past()
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            _take(json.loads(line), past)
    return past


def _take(event: Any, past: Past) -> None:
    if not isinstance(event, dict):
        return
    if event.get("event") == "begin" and isinstance(event.get("name"), str):
        past.begun.add(event["name"])
    elif event.get("event") == "end":
        record = Record.from_dict(event)
        past.records[record.name] = record
        past.begun.discard(record.name)


class _LocalJournal:
    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self._stream = path, stream
        try:
            stream.seek(0)
            content: bytes = stream.read()
        except OSError as error:
            raise LoadError(f"{shown_path(path)}: the journal cannot be read: {error.strerror}") from error
        self.past = read(content.decode("utf-8", "replace").splitlines())
        self._torn = bool(content) and not content.endswith(b"\n")

    def begin(self, name: str) -> None:
        """Note that a model's run is about to start."""
        self._append({"event": "begin", "name": name})

    def end(self, record: Record) -> None:
        """Note how it ended."""
        self._append({"event": "end", **record.to_dict()})

    def _append(self, event: Mapping[str, Any]) -> None:
        line = _line(event)
        try:
            self._stream.write(b"\n" * self._torn + line)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise SaveError(f"{shown_path(self._path)}: the journal cannot be written: {error.strerror}") from error
        self._torn = False


class _RemoteJournal:
    """Object stores cannot append, so each model has an object of its own, with the last event of it."""

    def __init__(self, place: RemoteDestination) -> None:
        self._place = place
        self.past = read(line for text in place.texts(FOLDER) for line in text.splitlines())

    def begin(self, name: str) -> None:
        """Note that a model's run is about to start."""
        known = self.past.records.get(name)
        before = "" if known is None else _line({"event": "end", **known.to_dict()}).decode()
        self._put(name, before + _line({"event": "begin", "name": name}).decode())

    def end(self, record: Record) -> None:
        """Note how it ended."""
        self._put(record.name, _line({"event": "end", **record.to_dict()}).decode())

    def _put(self, name: str, text: str) -> None:
        short = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._place.write(f"{FOLDER}/{short}.jsonl", text)


def _line(event: Mapping[str, Any]) -> bytes:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return (json.dumps({**event, "time": now}) + "\n").encode("ascii")


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"{shown_path(path)}: another batch is writing there; wait for it, or name another OUT"
        ) from error
    except OSError:  # a file system without locks
        return
