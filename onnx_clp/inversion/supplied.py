"""The user's own unlabelled images, from an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np

from onnx_clp.errors import UsageError
from onnx_clp.inversion.request import Images
from onnx_clp.text import quoted

_NAMES: Final = ("images", "x", "x_clean")


def read_images(path: Path, shape: tuple[int, int, int], most: int, low: float = 0.0, high: float = 1.0) -> Images:
    """The first `most` images of the array `images`, `x` or `x_clean`, as float32 (n, channels, height, width).

    Of 8-bit images 0 becomes `low`, 255 `high` and the rest what lies between, evenly; others are taken as they are.
    The array may have its channels last.

    Raises:
        UsageError: there is no such array, or it does not fit the model.
    """
    name = quoted(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            key = next((key for key in _NAMES if key in data), None)
            array = None if key is None else data[key]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{name}: cannot be read as images ({quoted(error)})") from error
    if array is None:
        raise UsageError(f"{name}: holds no array named {', '.join(_NAMES[:-1])} or {_NAMES[-1]}")
    if array.ndim == 4 and array.shape[1:] == (*shape[1:], shape[0]) and array.shape[1:] != shape:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1:] != shape or len(array) == 0:
        raise UsageError(f"{name}: holds images of shape {array.shape[1:]}, the model takes {shape}")
    if array.dtype.kind not in "fu":
        raise UsageError(f"{name}: its images are {array.dtype}; give float32, or 8 bits")
    images = array[:most]
    levels = np.linspace(low, high, 256, dtype=np.float32)
    images = levels[images] if images.dtype == np.uint8 else images.astype(np.float32)
    if not np.isfinite(images).all():
        raise UsageError(f"{name}: its images hold values that are not finite")
    return np.ascontiguousarray(images)
