"""One hostile case: a file that is built, a command line, and what may come of it."""

from __future__ import annotations

import enum
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto


class Outcome(enum.Enum):
    """What the command line has to do with a case."""

    REJECT = "one line, nothing written"
    SAME_BYTES = "the output is the input, byte for byte"
    SAME_FUNCTION = "the output computes what the input computes"
    EITHER = "one of REJECT and SAME_FUNCTION"


@dataclass(frozen=True, slots=True)
class Case:
    """A case of the table.

    Attributes:
        name: of the test.
        build: makes the input, and whatever belongs to it, in an empty folder and returns the input's path.
        outcome: what must happen.
        says: words the refusal must hold.
        options: of the command line, besides input and output; {folder} stands for the input's folder.
        output: the output's path, seen from the folder.
        code: the exit status of a refusal.
    """

    name: str
    build: Callable[[Path], Path]
    outcome: Outcome
    says: str = ""
    options: tuple[str, ...] = ("--no-validate", "--no-prune")
    output: str = "out.onnx"
    code: int = 2


def saved(model: ModelProto | bytes) -> Callable[[Path], Path]:
    """Return a builder that saves one model, or bytes, as `m.onnx`."""

    def build(folder: Path) -> Path:
        path = folder / "m.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return build


def edited(base: Callable[[], ModelProto], edit: Callable[[ModelProto], object]) -> Callable[[Path], Path]:
    """Return a builder that makes a model, edits it and saves it; nothing is made before it is needed."""

    def build(folder: Path) -> Path:
        model = base()
        edit(model)
        return saved(model)(folder)

    return build


Snapshot = dict[str, tuple[object, ...]]


def snapshot(folder: Path) -> Snapshot:
    """Return what lies in a folder and below: kind, mode, size, link target, content and time of change."""
    found: Snapshot = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            found[str(path.relative_to(folder))] = _seen(path)
    return found


def _seen(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return ("link", os.readlink(path))  # noqa: PTH115 - the target as written
    if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 22:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return ("file", status.st_mode, status.st_nlink, status.st_mtime_ns, digest)
    return ("other", status.st_mode, status.st_size if stat.S_ISREG(status.st_mode) else 0)
