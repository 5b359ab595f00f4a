"""Image sets as uint8 arrays: Fashion-MNIST and CIFAR-10 from disk, and a colour set rendered by `tools.zoo.signs`."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_clp.errors import LoadError
from tools.zoo import cifar, signs

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_LICENCE = "MIT (Expat), copyright 2017 Zalando SE"
SIGNS_LICENCE = "Apache-2.0, rendered by tools/zoo/signs.py"
CIFAR10_LICENCE = "none stated by its authors"
NAMES = ("fashion-mnist", "signs", "cifar10")

_IDX_UBYTE = 0x08


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled image set with a fixed split.

    `x_*` are uint8 (images, channels, height, width); `y_*` are int64 class numbers below `classes`.
    """

    name: str
    classes: int
    licence: str
    source: str
    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels


def load(name: str, folder: Path = FASHION_MNIST_FOLDER) -> Dataset:
    """Load one of `NAMES`; Fashion-MNIST's four .gz files lie in `folder`, CIFAR-10 in its sub-folder `cifar10`.

    Raises:
        LoadError: the name is not known, or a file is missing or not what it should be.
    """
    if name == "fashion-mnist":
        return load_fashion_mnist(folder)
    if name == "signs":
        return load_signs()
    if name == "cifar10":
        return load_cifar10(folder / "cifar10")
    raise LoadError(f"{name}: no such data set; known are {', '.join(NAMES)}")


def load_fashion_mnist(folder: Path = FASHION_MNIST_FOLDER) -> Dataset:
    """60,000 training and 10,000 test images of clothes, (n, 1, 28, 28), in 10 classes.

    Raises:
        LoadError: a file is missing or not an IDX file of unsigned bytes.
    """
    return Dataset(
        name="fashion-mnist",
        classes=10,
        licence=FASHION_MNIST_LICENCE,
        source="Debian package dataset-fashion-mnist; https://github.com/zalandoresearch/fashion-mnist",
        x_train=read_idx(folder / "train-images-idx3-ubyte.gz")[:, None],
        y_train=read_idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int64),
        x_test=read_idx(folder / "t10k-images-idx3-ubyte.gz")[:, None],
        y_test=read_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64),
    )


def load_signs(train: int = 24_000, test: int = 6_000) -> Dataset:
    """The rendered colour signs, (n, 3, 32, 32); the two splits come from different random streams."""
    x_train, y_train = signs.render(train, seed=1)
    x_test, y_test = signs.render(test, seed=2)
    return Dataset(
        name="signs",
        classes=len(signs.SIGNS),
        licence=SIGNS_LICENCE,
        source=f"tools/zoo/signs.py, {train} training images of seed 1, {test} test images of seed 2",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
    )


def load_cifar10(folder: Path) -> Dataset:
    """Colour photographs of ten classes, (n, 3, 32, 32); `tools.zoo.cifar` says in which forms.

    Raises:
        LoadError: the folder holds none of them.
    """
    (x_train, y_train), (x_test, y_test) = cifar.read(folder)
    return Dataset(
        name="cifar10",
        classes=cifar.CLASSES,
        licence=CIFAR10_LICENCE,
        source=f"CIFAR-10 (Krizhevsky 2009): {len(y_train):,} training and {len(y_test):,} test images",
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
    )


def part(data: Dataset, images: int, seed: int) -> Dataset:
    """The same with `images` training images alone, drawn without replacement; 0, or more than there are: all."""
    if not 0 < images < len(data.y_train):
        return data
    chosen = np.sort(np.random.default_rng(seed).choice(len(data.y_train), images, replace=False))
    return replace(data, x_train=data.x_train[chosen], y_train=data.y_train[chosen])


def read_idx(path: Path) -> Images:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, type, rank, big-endian sizes, data.

    Raises:
        LoadError: the file is missing, is not gzip, or is not such a file.
    """
    try:
        blob = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise LoadError(
            f"{path}: not found; install the Debian package dataset-fashion-mnist, or name the folder"
            " with its four .gz files by --data"
        ) from error
    except (OSError, EOFError) as error:
        raise LoadError(f"{path}: cannot be read ({error}); fetch the file again") from error
    return _parse_idx(blob, path)


def _parse_idx(blob: bytes, path: Path) -> Images:
    rank = blob[3] if len(blob) > 3 else 0
    header = 4 + 4 * rank
    if rank == 0 or blob[:3] != bytes((0, 0, _IDX_UBYTE)) or len(blob) < header:
        raise LoadError(f"{path}: not an IDX file of unsigned bytes; fetch the file again")
    sizes = struct.unpack(f">{rank}I", blob[4:header])
    data = np.frombuffer(blob, np.uint8, offset=header)
    if data.size != int(np.prod(sizes, dtype=np.int64)):
        raise LoadError(f"{path}: holds {data.size} values, its header says {sizes}; fetch the file again")
    return data.reshape(sizes)
