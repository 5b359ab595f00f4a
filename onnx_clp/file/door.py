"""The front door: a path becomes a mapped, read-only, regular file, or one line that says why not."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final

from onnx_clp.errors import LoadError
from onnx_clp.file.formats import recognise as recognise
from onnx_clp.text import shown_path

# O_NONBLOCK: a FIFO swapped in after the look must not hold the run; O_NOCTTY: nor a terminal claim it.
OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS = (
    (stat.S_ISDIR, "a folder, not a file; name the model file in it"),
    (stat.S_ISFIFO, "a FIFO (named pipe), not a file; save the model to a file first"),
    (stat.S_ISSOCK, "a socket, not a file; save the model to a file first"),
    (stat.S_ISCHR, "a character device, not a file; save the model to a file first"),
    (stat.S_ISBLK, "a block device, not a file; save the model to a file first"),
)

_CAUSES = {
    errno.ENOENT: "there is no such file; check the path",
    errno.ENOTDIR: "a part of the path is not a folder; check the path",
    errno.ELOOP: "a link that leads in a circle; name the file itself",
    errno.EACCES: "may not be read by this user; change its permissions",
    errno.EPERM: "may not be read by this user; change its permissions",
    errno.ENAMETOOLONG: "the path is too long; move the file to a shorter one",
}

KEPT: Final = 64 << 20
"""Bytes up to which a file stays in memory once it was read."""


class OpenFile:
    """A regular file held open, all of it mapped for reading only; a context manager.

    Attributes:
        path: as the caller gave it.
        view: every byte of the file; slices stay valid until the last of them is gone, even after `close`.
        size: in bytes, at least 1.
        stat: what the open file was when it was mapped.
    """

    __slots__ = ("_map", "path", "size", "stat", "view")

    def __init__(self, path: Path, mapped: mmap.mmap, status: os.stat_result) -> None:
        self.path = path
        self.size = len(mapped)
        self.stat = status
        self.view = memoryview(mapped)
        self._map = mapped

    def forget(self, start: int, end: int) -> None:
        """Let the system drop bytes `start` to `end` from memory; they are read again when needed.

        A small file stays: to map its pages anew for every step takes an eighth of such a run.
        """
        if hasattr(mmap, "MADV_DONTNEED") and start < end and self.size > KEPT:
            page = start - start % mmap.ALLOCATIONGRANULARITY
            self._map.madvise(mmap.MADV_DONTNEED, page, end - page)

    def close(self) -> None:
        """Give the mapping up; a second call does nothing. What still uses `view` keeps it mapped."""
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            return

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_model(path: Path, max_size: int) -> OpenFile:
    """Open a model file once and map it.

    Args:
        path: followed through links; it is opened only when it leads to a regular file.
        max_size: the largest file accepted, in bytes.

    Raises:
        LoadError: the path leads nowhere, in a circle, to something other than a regular file, or to one that
            is unreadable, empty or larger than `max_size`.
    """
    try:
        require_regular(path, path.stat())
        descriptor = os.open(path, OPEN_FLAGS)
    except (OSError, ValueError) as error:
        raise LoadError(f"{shown_path(path)}: {cause(error, path)}") from error
    try:
        return _mapped(path, descriptor, max_size)
    finally:
        os.close(descriptor)


def _mapped(path: Path, descriptor: int, max_size: int) -> OpenFile:
    status = os.fstat(descriptor)
    require_regular(path, status)
    if status.st_size == 0:
        raise LoadError(f"{shown_path(path)}: empty; fetch or export the model again")
    if status.st_size > max_size:
        raise LoadError(
            f"{shown_path(path)}: {status.st_size:,} bytes, above the limit of {max_size:,}; "
            "raise --max-size if you want it read"
        )
    try:
        return OpenFile(path, mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ), status)
    except (OSError, ValueError) as error:
        raise LoadError(f"{shown_path(path)}: cannot be mapped ({error}); copy it to a local disk") from error


def require_regular(path: os.PathLike[str] | str, status: os.stat_result) -> None:
    """Raise LoadError, naming what `path` is, unless `status` is that of a regular file."""
    if stat.S_ISREG(status.st_mode):
        return
    what = next((text for test, text in _KINDS if test(status.st_mode)), "not a regular file; name another")
    raise LoadError(f"{shown_path(path)}: {what}")


def cause(error: OSError | ValueError, path: os.PathLike[str] | str) -> str:
    """Say in a few words why `path` could not be opened, and what to do."""
    if not isinstance(error, OSError):
        return "the path holds a NUL character or text the system cannot express; check the path"
    if error.errno == errno.ENOENT and Path(path).is_symlink():
        return "a broken link: what it points to does not exist; name the file itself"
    if error.errno == errno.ENOENT and not Path(path).is_absolute() and current_folder_is_gone():
        return "the current folder has been deleted; change to another one"
    known = _CAUSES.get(error.errno or 0)
    return known or f"cannot be opened ({error.strerror}); check the file and its disk"


def current_folder_is_gone() -> bool:
    """Whether the folder this process works in was deleted; then no relative path leads anywhere."""
    try:
        os.getcwd()  # noqa: PTH109 (the error is what is asked for)
    except OSError:
        return True
    return False


def is_same_file(existing: os.PathLike[str] | str, other: os.PathLike[str] | str) -> bool:
    """Say whether writing `other` would write `existing`: by path, link, hard link or another spelling.

    `other` need not exist; then it is the same file when both paths resolve to one place.
    """
    try:
        if Path(existing).samefile(other):
            return True
    except (OSError, ValueError):
        pass
    try:
        return os.path.realpath(existing) == os.path.realpath(other)
    except (OSError, ValueError):
        return False
