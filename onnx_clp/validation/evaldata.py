"""An evaluation file: labelled clean and triggered images in an .npz archive, read with suspicion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_clp.validation.npz import Archive
from onnx_clp.validation.session import Array

_REQUIRED = ("x_clean", "y_clean", "x_triggered", "y_target")
_OPTIONAL = ("y_true_triggered", "scale", "offset")
_OPTION = "--eval"


@dataclass(frozen=True, slots=True)
class EvalData:
    """Labelled images.

    `x_clean` (n, ...) and `x_triggered` (m, ...) hold images in the model's own layout; `y_clean` (n,)
    their classes, `y_target` (m,) the classes the attacker wants, `y_true` (m,) the true ones.
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
    arrays = archive.read(lambda names: [n for n in (*_REQUIRED, *_OPTIONAL) if n in names], limit)
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        archive.refuse(missing[0], "is missing; the file needs " + ", ".join(_REQUIRED))
    x_clean, x_triggered = (archive.check_images(name, arrays[name]) for name in ("x_clean", "x_triggered"))
    y_clean = _labels(archive, arrays, "y_clean", len(x_clean))
    if x_clean.shape[1:] != x_triggered.shape[1:]:
        archive.refuse(
            "x_triggered",
            f"has images of shape {x_triggered.shape[1:]}, x_clean of {x_clean.shape[1:]}",
        )
    target = np.asarray(arrays["y_target"])
    if target.ndim == 0:
        arrays["y_target"] = np.full(len(x_triggered), target)
    return EvalData(
        path,
        x_clean,
        y_clean,
        x_triggered,
        _labels(archive, arrays, "y_target", len(x_triggered)),
        _true_labels(archive, arrays, y_clean, len(x_triggered)),
        archive.check_factor("scale", arrays.get("scale")),
        archive.check_factor("offset", arrays.get("offset")),
    )


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
    if "y_true_triggered" in arrays:
        return _labels(archive, arrays, "y_true_triggered", count)
    if len(y_clean) != count:
        archive.refuse(
            "x_triggered",
            f"has {count} images and x_clean {len(y_clean)}: without y_true_triggered they must be pairs",
        )
    return y_clean
