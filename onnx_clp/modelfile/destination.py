"""Where a result may go: not over the input, its data files or anything the user did not offer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.errors import UsageError
from onnx_clp.file.door import cause, is_same_file
from onnx_clp.text import shown_path

if TYPE_CHECKING:
    from onnx_clp.modelfile.reader import ModelFile


def check_destination(source: Path, destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that is the input, a folder, in no folder, or exists without `overwrite`."""
    name = shown_path(destination)
    try:
        trouble = _destination_trouble(source, destination, overwrite=overwrite)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: {cause(error, destination)}") from error
    if trouble:
        raise UsageError(f"{name}: {trouble}")


def _destination_trouble(source: Path, destination: Path, *, overwrite: bool) -> str:
    if source.exists() and is_same_file(source, destination):
        return "is the input itself; name another file for the output"
    if destination.is_dir():
        return "is a folder; name a file for the output"
    if destination.exists() and not destination.is_file():
        return "is a device, a FIFO or a socket; name a file for the output"
    if not destination.absolute().parent.is_dir():
        return "its folder does not exist; create it first"
    if (destination.exists() or destination.is_symlink()) and not overwrite:
        return "exists already; name another file or use --overwrite"
    return ""


def refuse_data_files(file: ModelFile, target: Path) -> None:
    """Raise UsageError where a file to be written is one that the input keeps its tensors in."""
    if any(is_same_file(data, target) for data in file.external.files()):
        raise UsageError(f"{shown_path(target)}: holds the input's external data; name another file")
