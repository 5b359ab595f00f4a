"""The user's own unlabelled images, from an .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.validation.npz import Archive

Array = NDArray[Any]
Float32 = NDArray[np.float32]

OPTION: Final = "--images"
_NAMES: Final = ("images", "x", "x_clean")
_LARGEST: Final = 1 << 31


def read_images(
    path: Path, shape: tuple[int, int, int], most: int, low: float = 0.0, high: float = 1.0, limit: int = _LARGEST
) -> Float32:
    """The first `most` images of the array `images`, `x` or `x_clean`, as float32 (n, channels, height, width).

    Of 8-bit images 0 becomes `low`, 255 `high` and the rest what lies between, evenly; others are taken as they are.
    The array may have its channels last. The file may unpack to `limit` bytes.

    Raises:
        UsageError: there is no such array, or it does not fit the model.
    """
    archive = Archive(OPTION, path)
    (name, array), *_ = archive.read(_chosen, limit).items() or [("", np.empty(0))]
    if not name:
        archive.refuse("", f"holds no array named {', '.join(_NAMES[:-1])} or {_NAMES[-1]}")
    if array.ndim == 4 and array.shape[1:] == (*shape[1:], shape[0]) and array.shape[1:] != shape:
        array = array.transpose(0, 3, 1, 2)
    if array.shape[:1] == (0,):
        archive.refuse(name, "holds no image")
    if array.ndim != 4 or array.shape[1:] != shape:
        archive.refuse(name, f"has images of shape {array.shape[1:]}, the model takes {shape}")
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        archive.refuse(name, f"has images of {array.dtype}; give float32, or 8 bits")
    images = archive.check_images(name, array[:most])
    levels = np.linspace(low, high, 256, dtype=np.float32)
    images = levels[images] if images.dtype == np.uint8 else images.astype(np.float32)
    return np.ascontiguousarray(images)


def _chosen(there: Sequence[str]) -> list[str]:
    return [name for name in _NAMES if name in there][:1]
