"""CIFAR-10 from a folder: its authors' binary files, or two archives of JPEG images.

Binary: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, records of one byte of label and 3 × 32 × 32 of
pixels. Archives: `train.npz` and `test.npz` with `jpeg` (uint8, all files one after the other), `offset` (n + 1, where
each begins) and `label` (n); any number of images, such as a part of CIFAR-10. They need Pillow.
"""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_clp.errors import LoadError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Split = tuple[Images, Labels]

CLASSES, SHAPE = 10, (3, 32, 32)
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"


def read(folder: Path) -> tuple[Split, Split]:
    """The training and the test split: images uint8 (n, 3, 32, 32), labels int64 (n,).

    Raises:
        LoadError: the folder holds neither form, or a file is not what its name says.
    """
    if (folder / _TEST).exists():
        return _binary([folder / name for name in _TRAIN]), _binary([folder / _TEST])
    return _archive(folder / "train.npz"), _archive(folder / "test.npz")


def _binary(paths: list[Path]) -> Split:
    size = 1 + int(np.prod(SHAPE))
    try:
        blob = np.concatenate([np.fromfile(path, np.uint8) for path in paths])
    except OSError as error:
        raise LoadError(f"{paths[0].parent}: {error}; fetch CIFAR-10's binary version again") from error
    if blob.size == 0 or blob.size % size:
        raise LoadError(f"{paths[0]}: not whole records of {size} bytes; fetch CIFAR-10's binary version again")
    records = blob.reshape(-1, size)
    return records[:, 1:].reshape(-1, *SHAPE), records[:, 0].astype(np.int64)


def _archive(path: Path) -> Split:
    try:
        with np.load(path, allow_pickle=False) as data:
            jpeg, offset, label = data["jpeg"], data["offset"], data["label"]
        images = [_picture(jpeg[start:end]) for start, end in pairwise(offset)]
    except (OSError, KeyError, ValueError) as error:
        raise LoadError(f"{path}: no archive of CIFAR-10 ({error}); see tools/zoo/cifar.py") from error
    return np.stack(images), label.astype(np.int64)


def _picture(blob: Images) -> Images:
    from PIL import Image

    with Image.open(io.BytesIO(blob.tobytes())) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
