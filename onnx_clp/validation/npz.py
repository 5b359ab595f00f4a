"""Arrays of an .npz archive, read with suspicion: nothing is unpickled, nothing unpacks beyond a limit."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onnx_clp.errors import UsageError
from onnx_clp.text import quoted
from onnx_clp.validation.session import Array

_SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class Archive:
    """An .npz file as the `option` of the command line that named it, so that a refusal can say so."""

    option: str
    path: Path

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raise UsageError: the array `name` ("" for the whole file) has a problem."""
        shown = quoted(self.path)
        raise UsageError(
            f"{self.option} {shown}: {quoted(name, 60)} {problem}" if name else f"{self.option} {shown}: {problem}"
        )

    def read(self, choose: Callable[[Sequence[str]], Sequence[str]], limit: int) -> dict[str, Array]:
        """The arrays that `choose` picks from the names there are, of at most `limit` bytes once unpacked.

        Raises:
            UsageError: it is no such file, unpacks to more, or holds Python objects; or `choose` refused.
        """
        if not self.path.is_file():
            self.refuse("", "is not a file" if self.path.exists() else "does not exist")
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = dict.fromkeys(i.filename.removesuffix(_SUFFIX) for i in archive.infolist())
                wanted = choose(list(names))
                self._check_sizes(archive, frozenset(wanted), limit)
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in wanted}
        except (ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
            self.refuse("", f"cannot be read as an .npz archive of plain arrays ({quoted(error, 150)})")
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # of whatever compression, header parser or library the file calls on
            self.refuse("", f"is no intact .npz archive ({type(error).__name__}: {quoted(error, 150)})")

    def _check_sizes(self, archive: zipfile.ZipFile, wanted: frozenset[str], limit: int) -> None:
        """Refuse what would unpack beyond `limit`, or whose header promises more than the archive holds."""
        members = [i for i in archive.infolist() if i.filename.removesuffix(_SUFFIX) in wanted]
        total = sum(i.file_size for i in members)
        if total > limit:
            self.refuse("", f"unpacks to {total:,} bytes, above the limit of {limit:,}; use fewer images")
        for info in members:
            name = info.filename.removesuffix(_SUFFIX)
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
                if any(d < 0 for d in shape):
                    self.refuse(name, f"has the impossible shape {shape}")
                promised = int(np.prod([int(d) for d in shape], dtype=object)) * dtype.itemsize
                if not dtype.hasobject and promised > info.file_size:
                    self.refuse(name, f"promises {promised:,} bytes and holds {info.file_size:,}")

    def check_images(self, name: str, images: Array) -> Array:
        """The array, if it holds finite numbers of shape (images, ...), at least one."""
        if images.dtype.kind not in "fiub":
            self.refuse(name, f"has type {images.dtype}, not numbers")
        if images.ndim < 2 or not images.size:
            self.refuse(name, f"has shape {images.shape}, not (images, ...) with at least one image")
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            self.refuse(name, "holds NaN or infinite values")
        return images

    def check_factor(self, name: str, factor: Array | None) -> Array | None:
        """A scale or offset, if it is one finite number or one per channel."""
        if factor is None:
            return None
        if factor.dtype.kind not in "fiu" or not factor.size or not np.isfinite(factor).all():
            self.refuse(name, "must be a finite number or one per channel")
        if factor.size > 1 and sum(d > 1 for d in factor.shape) > 1:
            self.refuse(name, f"has shape {factor.shape}, not one number per channel")
        return factor

    def prepared(self, batch: Array, dtype: np.dtype[Any], scale: Array | None, offset: Array | None) -> Array:
        """Images as a model takes them.

        8-bit images for a float model become x / 255, or x * scale + offset when there is either (a missing one is
        1 or 0); all other arrays are only cast to `dtype`.
        """
        if batch.dtype != np.uint8 or dtype.kind in "iub":
            return batch.astype(dtype)
        if scale is None and offset is None:
            return (batch.astype(np.float32) / np.float32(255)).astype(dtype)
        factor = np.float32(1) if scale is None else self._spread(scale, batch.shape, "scale")
        shift = np.float32(0) if offset is None else self._spread(offset, batch.shape, "offset")
        return (batch.astype(np.float32) * factor + shift).astype(dtype)

    def _spread(self, factor: Array, shape: tuple[int, ...], name: str) -> Array:
        """`factor` shaped to multiply a batch: one number, or one per entry of axis 1, else of the last."""
        if factor.size == 1:
            return factor.reshape(()).astype(np.float32)
        for axis in (1, len(shape) - 1):
            if shape[axis] == factor.size:
                form = [1] * len(shape)
                form[axis] = -1
                return factor.astype(np.float32).reshape(form)
        return self.refuse(name, f"holds {factor.size} numbers for images of shape {shape[1:]}")
