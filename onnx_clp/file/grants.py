"""Where the name of a data file may lead: inside the model's folder, or into the blobs of the same repository."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath

from onnx import TensorProto

from onnx_clp.errors import LoadError
from onnx_clp.file.door import cause
from onnx_clp.file.roots import root_of
from onnx_clp.file.storage import label
from onnx_clp.text import shown, shown_path

# ONNX Runtime 1.31 gives tensors that it holds in memory this location; a file with it would have it read anywhere.
_MEMORY_MARK = "_ORT_MEM_ADDR_"


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted name: `path` holds no links and lies below `root`, which holds none either."""

    root: Path
    path: Path


def granted(model_path: Path | None, tensor: TensorProto, name: str) -> Grant:
    """The place that a tensor's data file is read from.

    Raises:
        LoadError: there is no folder, or the name leads, by itself or by a link, to where no data of the model's lie.
    """
    if model_path is None:
        raise LoadError(f"{label(tensor)} lies in another file, and the model came without a path; pass one")
    reason = _refusal(name)
    if reason:
        raise LoadError(f"{label(tensor)}: external data location '{shown(name)}' {reason}; it is not opened")
    return _contained(model_path, tensor, name)


def _refusal(name: str) -> str | None:
    parts = name.split("/")
    tests = (
        (not name, "is missing"),
        ("\0" in name, "holds a NUL character"),
        ("\\" in name, "holds a backslash"),
        (name.startswith("/") or re.match("[A-Za-z]:", name), "is an absolute path"),
        (_climbs(parts), "climbs out of the model's folder"),
        (_MEMORY_MARK in parts, "is ONNX Runtime's mark for an address in memory, which no file may hold"),
        (parts[-1] in ("", ".", "..") or "" in parts, "does not name a file"),
    )
    return next((reason for found, reason in tests if found), None)


def _climbs(parts: list[str]) -> bool:
    """Whether a path leaves, at any place, the folder that it starts from; links are looked at later."""
    depths = accumulate(-1 if part == ".." else int(part not in ("", ".")) for part in parts)
    return min(depths) < 0


def _contained(model_path: Path, tensor: TensorProto, name: str) -> Grant:
    """Return where a sound relative name leads, links resolved, if that is a place the model may use."""
    try:
        folder = Path(os.path.realpath(model_path.parent, strict=True))
        target = Path(os.path.realpath(folder / PurePosixPath(name), strict=True))
    except (OSError, ValueError) as error:
        beside = model_path.parent / name
        raise LoadError(f"{label(tensor)}: data file {shown_path(beside)}: {cause(error, beside)}") from error
    root = root_of(target, folder)
    if root is not None:
        return Grant(root, target)
    raise LoadError(
        f"{label(tensor)}: external data location '{shown(name)}' is a link out of the model's folder; "
        "it is not opened; put the data file itself beside the model"
    )
