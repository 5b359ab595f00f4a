"""An evaluation file: labelled clean and triggered images in an .npz archive, read with suspicion."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onnx_clp.errors import UsageError
from onnx_clp.validation.session import Array
from onnx_clp.validation.wording import one_line

_REQUIRED = ("x_clean", "y_clean", "x_triggered", "y_target")
_OPTIONAL = ("y_true_triggered", "scale", "offset")
_SUFFIX = ".npy"


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
        for start in range(0, len(images), size):
            batch = self._prepared(images[start : start + size], dtype)
            if len(batch) < size:
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            yield batch

    def _prepared(self, batch: Array, dtype: np.dtype[Any]) -> Array:
        if batch.dtype != np.uint8 or dtype.kind in "iub":
            return batch.astype(dtype)
        if self.scale is None and self.offset is None:
            return (batch.astype(np.float32) / np.float32(255)).astype(dtype)
        scale = np.float32(1) if self.scale is None else self._spread(self.scale, batch.shape, "scale")
        offset = np.float32(0) if self.offset is None else self._spread(self.offset, batch.shape, "offset")
        return (batch.astype(np.float32) * scale + offset).astype(dtype)

    def _spread(self, factor: Array, shape: tuple[int, ...], name: str) -> Array:
        """`factor` shaped to multiply a batch: one number, or one per entry of axis 1, else of the last."""
        if factor.size == 1:
            return factor.reshape(()).astype(np.float32)
        for axis in (1, len(shape) - 1):
            if shape[axis] == factor.size:
                form = [1] * len(shape)
                form[axis] = -1
                return factor.astype(np.float32).reshape(form)
        return _refuse(self.path, name, f"holds {factor.size} numbers for images of shape {shape[1:]}")


def load(path: Path, limit: int) -> EvalData:
    """Read and check the file at `path`, of at most `limit` bytes once unpacked.

    Raises:
        UsageError: it is not such a file, an array is missing, or does not fit the others.
    """
    arrays = _read(path, limit)
    x_clean, x_triggered = (_images(path, arrays, name) for name in ("x_clean", "x_triggered"))
    y_clean = _labels(path, arrays, "y_clean", len(x_clean))
    if x_clean.shape[1:] != x_triggered.shape[1:]:
        _refuse(
            path,
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
        _labels(path, arrays, "y_target", len(x_triggered)),
        _true_labels(path, arrays, y_clean, len(x_triggered)),
        _factor(path, arrays, "scale"),
        _factor(path, arrays, "offset"),
    )


def _read(path: Path, limit: int) -> dict[str, Array]:
    if not path.is_file():
        _refuse(path, "", "is not a file" if path.exists() else "does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive, limit)
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _REQUIRED if name not in file.files]
            if missing:
                _refuse(path, missing[0], "is missing; the file needs " + ", ".join(_REQUIRED))
            return {name: file[name] for name in (*_REQUIRED, *_OPTIONAL) if name in file.files}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        _refuse(path, "", f"cannot be read as an .npz archive of plain arrays ({one_line(error, 150)})")
    except (zipfile.BadZipFile, zlib.error, SyntaxError, TypeError, OverflowError) as error:
        _refuse(path, "", f"is no intact .npz archive ({one_line(error, 150)})")


def _check_sizes(path: Path, archive: zipfile.ZipFile, limit: int) -> None:
    """Refuse what would unpack beyond `limit`, or whose header promises more than the archive holds."""
    members = [i for i in archive.infolist() if i.filename.removesuffix(_SUFFIX) in (*_REQUIRED, *_OPTIONAL)]
    total = sum(i.file_size for i in members)
    if total > limit:
        _refuse(path, "", f"unpacks to {total:,} bytes, above the limit of {limit:,}; use fewer images")
    for info in members:
        name = info.filename.removesuffix(_SUFFIX)
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            if any(d < 0 for d in shape):
                _refuse(path, name, f"has the impossible shape {shape}")
            promised = int(np.prod([int(d) for d in shape], dtype=object)) * dtype.itemsize
            if not dtype.hasobject and promised > info.file_size:
                _refuse(path, name, f"promises {promised:,} bytes and holds {info.file_size:,}")


def _images(path: Path, arrays: dict[str, Array], name: str) -> Array:
    images = arrays[name]
    if images.dtype.kind not in "fiub":
        _refuse(path, name, f"has type {images.dtype}, not numbers")
    if images.ndim < 2 or not images.size:
        _refuse(path, name, f"has shape {images.shape}, not (images, ...) with at least one image")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        _refuse(path, name, "holds NaN or infinite values")
    return images


def _labels(path: Path, arrays: dict[str, Array], name: str, count: int) -> Array:
    labels = arrays[name]
    if labels.dtype.kind not in "iu":
        _refuse(path, name, f"has type {labels.dtype}, not whole numbers")
    if labels.shape != (count,):
        _refuse(path, name, f"has shape {labels.shape}, one label for each of {count} images is needed")
    if labels.min() < 0:
        _refuse(path, name, f"holds the class {labels.min()}, below 0")
    return labels.astype(np.int64)


def _true_labels(path: Path, arrays: dict[str, Array], y_clean: Array, count: int) -> Array:
    if "y_true_triggered" in arrays:
        return _labels(path, arrays, "y_true_triggered", count)
    if len(y_clean) != count:
        _refuse(
            path,
            "x_triggered",
            f"has {count} images and x_clean {len(y_clean)}: without y_true_triggered they must be pairs",
        )
    return y_clean


def _factor(path: Path, arrays: dict[str, Array], name: str) -> Array | None:
    factor = arrays.get(name)
    if factor is None:
        return None
    if factor.dtype.kind not in "fiu" or not factor.size or not np.isfinite(factor).all():
        _refuse(path, name, "must be a finite number or one per channel")
    if factor.size > 1 and sum(d > 1 for d in factor.shape) > 1:
        _refuse(path, name, f"has shape {factor.shape}, not one number per channel")
    return factor


def _refuse(path: Path, name: str, problem: str) -> NoReturn:
    where = f"--eval {one_line(path)}: {name}" if name else f"--eval {one_line(path)}:"
    raise UsageError(f"{where} {problem}")
