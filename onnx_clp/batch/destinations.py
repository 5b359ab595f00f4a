"""Where outputs go: a local folder, or a folder behind an fsspec URL. Names use forward slashes, below it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from onnx_clp.batch.fingerprint import digest
from onnx_clp.errors import ClpError, SaveError, UsageError
from onnx_clp.text import shown, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_CHUNK = 1 << 20


class Destination(Protocol):
    """A folder for outputs; every error is a ClpError."""

    def prepare(self) -> None:
        """Make the folder."""

    def exists(self, name: str) -> bool:
        """Whether there is anything of this name."""

    def digest(self, name: str) -> str:
        """SHA-256 of the file; empty where there is none or it cannot be read."""

    def remove(self, names: Iterable[str]) -> None:
        """Delete those files that are there."""

    def remove_unreferenced(self, model: str, names: Sequence[str]) -> None:
        """Delete those of the files `names`, beside the output `model`, that no model there refers to."""

    def write(self, name: str, text: str) -> None:
        """Put a text file in place, whole or not at all."""


def is_url(text: str) -> bool:
    """Whether this is a URL for fsspec; "C:\\x" and plain paths are not."""
    return _URL.match(text) is not None


def place(out: str) -> Destination:
    """The place that `out`, an absolute folder or a URL, stands for."""
    return RemoteDestination(out) if is_url(out) else LocalDestination(Path(out))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system a URL names, and the path on it.

    Raises:
        UsageError: fsspec, or the library it needs for this protocol, is not installed, or it knows no such URL.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"{shown(url)}: a URL needs fsspec: pip install 'onnx-clp[remote]'") from error
    try:
        filesystem, path = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{shown(url)}: cannot be opened: {error}") from error
    return filesystem, str(path)


class LocalDestination:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder and those above it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(f"{shown_path(self.folder)}: cannot be made: {error.strerror}") from error

    def exists(self, name: str) -> bool:
        """Whether there is anything of this name, a dangling link included."""
        return os.path.lexists(self.folder / name)

    def digest(self, name: str) -> str:
        """SHA-256 of the file; empty where there is none or it cannot be read."""
        try:
            return digest(self.folder / name)
        except (OSError, ValueError, ClpError):
            return ""

    def remove(self, names: Iterable[str]) -> None:
        """Delete those files that are there."""
        for name in names:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def remove_unreferenced(self, model: str, names: Sequence[str]) -> None:
        """Delete those of the files `names`, beside the output `model`, that no model there refers to."""
        if not names:
            return
        from onnx_clp.modelfile import references, turn

        place = self.folder / model
        with turn.taken(place.parent) as alone:
            for path in references.unreferenced(place, [Path(name).name for name in names]) if alone else ():
                with contextlib.suppress(OSError):
                    path.unlink()

    def write(self, name: str, text: str) -> None:
        """Put a text file in place, whole or not at all."""
        path = self.folder / name
        temporary = path.with_name(f".onnx-clp-{secrets.token_hex(8)}.tmp")
        try:
            try:
                temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise SaveError(f"{shown_path(path)}: cannot be written: {error.strerror}") from error


class RemoteDestination:
    """A folder behind a URL; whatever its library raises becomes a SaveError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.filesystem, path = filesystem(url)
        self.root = path.rstrip("/")

    def path(self, name: str) -> str:
        """The path on the file system."""
        return f"{self.root}/{name}"

    def prepare(self) -> None:
        """Make the folder, where the protocol has folders."""
        with _reported(self.url):
            self.filesystem.makedirs(self.root, exist_ok=True)

    def exists(self, name: str) -> bool:
        """Whether there is anything of this name."""
        with _reported(self.url):
            return bool(self.filesystem.exists(self.path(name)))

    def digest(self, name: str) -> str:
        """SHA-256 of the file, which is fetched for it; empty where there is none."""
        running = hashlib.sha256()
        try:
            with self.filesystem.open(self.path(name), "rb") as stream:
                while chunk := stream.read(_CHUNK):
                    running.update(chunk)
        except Exception:
            return ""
        return running.hexdigest()

    def remove(self, names: Iterable[str]) -> None:
        """Delete those files that are there."""
        for name in names:
            with contextlib.suppress(Exception):
                self.filesystem.rm_file(self.path(name))

    def remove_unreferenced(self, model: str, names: Sequence[str]) -> None:
        """Nothing: to know what refers to them, every object there would have to be fetched."""

    def write(self, name: str, text: str) -> None:
        """Put a text file in place."""
        with _reported(self.url):
            self._make_parent(name)
            self.filesystem.pipe_file(self.path(name), text.encode("utf-8", "backslashreplace"))

    def put(self, local: Path, name: str) -> None:
        """Upload one file."""
        with _reported(self.url):
            self._make_parent(name)
            self.filesystem.put_file(str(local), self.path(name))

    def texts(self, folder: str) -> list[str]:
        """The contents of every file in a folder."""
        with _reported(self.url):
            if not self.filesystem.exists(self.path(folder)):
                return []
            found: dict[str, bytes] | bytes = self.filesystem.cat(self.filesystem.find(self.path(folder)))
            values = [found] if isinstance(found, bytes) else list(found.values())
            return [value.decode("utf-8", "replace") for value in values]

    def _make_parent(self, name: str) -> None:
        self.filesystem.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)


@contextlib.contextmanager
def _reported(url: str) -> Any:
    try:
        yield
    except ClpError:
        raise
    # Every protocol has a library of its own, with errors of its own.
    except Exception as error:
        raise SaveError(f"{shown(url)}: {type(error).__name__}: {error}") from error
