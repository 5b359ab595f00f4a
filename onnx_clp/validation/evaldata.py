"""An evaluation file: labelled clean images, and triggered ones if any, in an .npz archive, read with suspicion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_clp.validation.npz import Archive
from onnx_clp.validation.session import Array

_CLEAN = ("x_clean", "y_clean")
_TRIGGERED = ("x_triggered", "y_target")
_TRUE = "y_true_triggered"
_OPTIONAL = (_TRUE, "scale", "offset")
_OPTION = "--eval"


@dataclass(frozen=True, slots=True)
class EvalData:
    """Labelled images.

    `x_clean` (n, ...) and `x_triggered` (m, ...) hold images in the model's own layout; `y_clean` (n,)
    their classes, `y_target` (m,) the classes the attacker wants, `y_true` (m,) the true ones; m is 0 where the file
    has no triggered images.
    `scale` and `offset` are None, scalars or one number per channel.
    """

    path: Path
    x_clean: Array
    y_clean: Array
    x_triggered: Array
    y_target: Array
    y_true: Array
    scale: Array | None
    offset: Array | None

    def batches(self, images: Array, size: int, dtype: np.dtype[Any]) -> Iterator[Array]:
        """`images` as the model takes them, `size` at a time and the last padded with its own last image.

        8-bit images for a float model become x / 255, or x * scale + offset when the file carries either
        (a missing one is 1 or 0); all other arrays are only cast to `dtype`.
        """
        archive = Archive(_OPTION, self.path)
        for start in range(0, len(images), size):
            batch = archive.prepared(images[start : start + size], dtype, self.scale, self.offset)
            if len(batch) < size:
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            yield batch


def load(path: Path, limit: int) -> EvalData:
    """Read and check the file at `path`, of at most `limit` bytes once unpacked.

    Raises:
        UsageError: it is not such a file, an array is missing, or does not fit the others.
    """
    archive = Archive(_OPTION, path)
    arrays = archive.read(lambda names: [n for n in (*_CLEAN, *_TRIGGERED, *_OPTIONAL) if n in names], limit)
    _check_names(archive, arrays)
    x_clean = archive.check_images("x_clean", arrays["x_clean"])
    y_clean = _labels(archive, arrays, "y_clean", len(x_clean))
    factors = [archive.check_factor(name, arrays.get(name)) for name in ("scale", "offset")]
    if _TRIGGERED[0] not in arrays:
        nothing = y_clean[:0]
        return EvalData(path, x_clean, y_clean, x_clean[:0], nothing, nothing, *factors)
    return EvalData(path, x_clean, y_clean, *_triggered(archive, arrays, x_clean, y_clean), *factors)


def _check_names(archive: Archive, arrays: dict[str, Array]) -> None:
    """Refuse a file without labelled clean images, or with a part of what belongs to triggered ones."""
    triggered = any(name in arrays for name in (*_TRIGGERED, _TRUE))
    missing = [name for name in (*_CLEAN, *(_TRIGGERED if triggered else ())) if name not in arrays]
    if missing:
        needs = "x_clean and y_clean, and to measure a trigger x_triggered and y_target"
        archive.refuse(missing[0], f"is missing; the file needs {needs}")


def _triggered(
    archive: Archive, arrays: dict[str, Array], x_clean: Array, y_clean: Array
) -> tuple[Array, Array, Array]:
    """The triggered images, their targets and their true classes."""
    images = archive.check_images("x_triggered", arrays["x_triggered"])
    if x_clean.shape[1:] != images.shape[1:]:
        archive.refuse("x_triggered", f"has images of shape {images.shape[1:]}, x_clean of {x_clean.shape[1:]}")
    target = np.asarray(arrays["y_target"])
    if target.ndim == 0:
        arrays["y_target"] = np.full(len(images), target)
    targets = _labels(archive, arrays, "y_target", len(images))
    return images, targets, _true_labels(archive, arrays, y_clean, len(images))


def _labels(archive: Archive, arrays: dict[str, Array], name: str, count: int) -> Array:
    labels = arrays[name]
    if labels.dtype.kind not in "iu":
        archive.refuse(name, f"has type {labels.dtype}, not whole numbers")
    if labels.shape != (count,):
        archive.refuse(name, f"has shape {labels.shape}, one label for each of {count} images is needed")
    if labels.min() < 0:
        archive.refuse(name, f"holds the class {labels.min()}, below 0")
    return labels.astype(np.int64)


def _true_labels(archive: Archive, arrays: dict[str, Array], y_clean: Array, count: int) -> Array:
    if _TRUE in arrays:
        return _labels(archive, arrays, _TRUE, count)
    if len(y_clean) != count:
        archive.refuse(
            "x_triggered",
            f"has {count} images and x_clean {len(y_clean)}: without y_true_triggered they must be pairs",
        )
    return y_clean
