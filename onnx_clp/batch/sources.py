"""Which models a batch is about: a folder, a glob, a list file or one model, here or behind a URL."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from onnx_clp.batch.destinations import filesystem, is_url
from onnx_clp.errors import LoadError, UsageError
from onnx_clp.text import shown, shown_path

SUFFIX = ".onnx"
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Sources:
    """`paths` holds the absolute path or URL of each model by its name, relative to what they have in common;
    `left_out` a sentence for each thing that was not taken.
    """

    paths: dict[str, str]
    left_out: list[str] = field(default_factory=list)


def find(where: str, out: str) -> Sources:
    """The models `where` names; those that lie in `out`, the folder or URL of the outputs, are not among them.

    Raises:
        UsageError: there is no such thing, or no model in it.
        LoadError: it cannot be read.
    """
    found = _remote(where, out) if is_url(where) else _local(where, out)
    if not found.paths:
        why = f" ({found.left_out[0]})" if found.left_out else ""
        raise UsageError(f"{shown_path(where)}: no {SUFFIX} file there{why}; name a folder, a glob or a list of paths")
    return found


def _local(where: str, out: str) -> Sources:
    path = Path(where)
    try:
        if path.is_dir():
            return _folder(path, out)
        if path.is_file():
            return _named(path)
    except (OSError, ValueError) as error:
        raise LoadError(f"{shown_path(where)}: cannot be read: {error}") from error
    if _MAGIC & set(where):
        matches = (one for one in glob.glob(where, recursive=True) if one.endswith(SUFFIX))  # noqa: PTH207
        outside = [one for one in sorted(matches) if not _below(one, out) and not Path(one).is_dir()]
        return _common(_absolute(outside), _glob_root(where))
    raise UsageError(f"{shown_path(where)}: there is no such folder, list or glob; check the path")


def _named(path: Path) -> Sources:
    if path.suffix == SUFFIX:
        return _common([str(path.absolute())], str(path.absolute().parent))
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return _listed(text, str(path))


def _folder(root: Path, out: str) -> Sources:
    found = Sources({})
    real = os.path.realpath(root)

    def unreadable(error: OSError) -> None:
        found.left_out.append(f"{shown_path(str(error.filename))}: {error.strerror}; nothing in it was looked at")

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=False):
        folders[:] = sorted(one for one in folders if not _below(os.path.join(folder, one), out))  # noqa: PTH118
        for file in sorted(files):
            path = Path(folder, file)
            if not file.lower().endswith(SUFFIX):
                continue
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(real):
                found.left_out.append(f"{shown_path(path)}: a link out of the folder; it was not followed")
                continue
            found.paths[path.relative_to(root).as_posix()] = str(path.absolute())
    return found


def _below(path: str, out: str) -> bool:
    return not is_url(out) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out))


def _glob_root(pattern: str) -> str:
    parts = Path(os.path.abspath(pattern)).parts  # noqa: PTH100 (".." is to go, links are to stay)
    plain = next(at for at, part in enumerate(parts) if _MAGIC & set(part))
    return str(Path(*parts[:plain]))


def _listed(text: str, where: str) -> Sources:
    if "\0" in text:
        raise UsageError(f"{shown_path(where)}: holds no list of paths; name a folder, a glob or a text file")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    remote = [line for line in lines if is_url(line)]
    if remote and len(remote) < len(lines):
        raise UsageError(f"{shown_path(where)}: lists both paths and URLs; make two lists of it")
    if not lines:
        return Sources({})
    return _common(lines if remote else _absolute(lines))


def _absolute(paths: Iterable[str]) -> list[str]:
    return [os.path.abspath(path) for path in paths]  # noqa: PTH100


def _common(paths: list[str], root: str | None = None) -> Sources:
    split = [PurePosixPath(path.replace(os.sep, "/")).parts for path in paths]
    depth = len(PurePosixPath(root.replace(os.sep, "/")).parts) if root else _shared(split)
    names = {"/".join(parts[depth:]): path for parts, path in zip(split, paths, strict=True)}
    for name in names:
        if ".." in name.split("/") or name in ("", "."):
            raise UsageError(f"{shown(name)}: this path leads upwards; write it without '..'")
    return Sources(names)


def _shared(paths: list[tuple[str, ...]]) -> int:
    shortest = min((len(path) for path in paths), default=1) - 1
    return next((at for at in range(shortest) if len({path[at] for path in paths}) > 1), shortest)


def _remote(url: str, out: str) -> Sources:
    system, path = filesystem(url)
    try:
        urls, root = _found_at(system, path, url)
    except (UsageError, LoadError):
        raise
    # Every protocol has a library of its own, with errors of its own.
    except Exception as error:
        raise LoadError(f"{shown(url)}: {type(error).__name__}: {error}") from error
    outputs = _whole(*filesystem(out)) + "/" if is_url(out) else "\0"
    return _common([one for one in urls if not one.startswith(outputs)], root)


def _found_at(system: Any, path: str, url: str) -> tuple[list[str], str | None]:
    if _MAGIC & set(path):
        return _models(system, system.glob(path)), None
    if system.isdir(path):
        return _models(system, system.find(path)), _whole(system, path)
    if path.endswith(SUFFIX):
        return [url], None
    listed = _listed(system.cat_file(path).decode("utf-8", "surrogateescape"), url)
    return list(listed.paths.values()), None


def _models(system: Any, paths: Iterable[str]) -> list[str]:
    return [_whole(system, path) for path in sorted(paths) if path.endswith(SUFFIX)]


def _whole(system: Any, path: str) -> str:
    return str(system.unstrip_protocol(path)).rstrip("/")
