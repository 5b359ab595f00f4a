"""Labelled photographs as images, and the ways in which networks take them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_SPREAD = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE = np.array([104, 117, 123], np.float32)


@cache
def load(path: Path, most: int) -> tuple[tuple[Pixels, ...], NDArray[np.int64]]:
    """The first `most` photographs of a file and their labels; RGB (height, width, 3).

    The file has arrays `jpeg` (the bytes of all, one after another), `offset` (n + 1) and `label` (n).
    """
    with np.load(path, allow_pickle=False) as stored:
        raw, offset, labels = stored["jpeg"].tobytes(), stored["offset"], stored["label"].astype(np.int64)
    count = min(most, len(labels))
    images = [Image.open(io.BytesIO(raw[offset[i] : offset[i + 1]])).convert("RGB") for i in range(count)]
    return tuple(np.asarray(image) for image in images), labels[:count]


def resized(image: Pixels, width: int, height: int | None = None) -> Pixels:
    """An image at another size, bicubic; `height` is `width` if not given."""
    wanted = (width, height or width)
    if image.shape[1::-1] == wanted:
        return image
    return np.asarray(Image.fromarray(image).resize(wanted, Image.Resampling.BICUBIC))


def planes(values: NDArray[Any]) -> Floats:
    """(height, width, channels) as a batch of one (1, channels, height, width)."""
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def grey(image: Pixels) -> Floats:
    """Luminance in 0..255, (height, width)."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]), np.float32)


def unit(image: Pixels) -> Floats:
    """0..1, (1, 3, height, width)."""
    return planes(image.astype(np.float32) / 255)


def imagenet(image: Pixels) -> Floats:
    """Standardised by ImageNet's mean and deviation, (1, 3, height, width)."""
    return planes((image.astype(np.float32) / 255 - _MEAN) / _SPREAD)


def caffe(image: Pixels) -> Floats:
    """BGR in 0..255 less the means of Caffe's models, (1, height, width, 3)."""
    return (image[..., ::-1].astype(np.float32) - _CAFFE)[None]


def symmetric(image: Pixels) -> Floats:
    """-1..1, (1, height, width, 3)."""
    return (image / 127.5 - 1).astype(np.float32)[None]


def unit_last(image: Pixels) -> Floats:
    """0..1, (1, height, width, 3)."""
    return (image / 255).astype(np.float32)[None]


WAYS: dict[str, tuple[int, Callable[[Pixels], Floats]]] = {
    "224": (224, unit),
    "240": (240, unit),
    "260": (260, unit),
    "imagenet": (224, imagenet),
    "caffe": (224, caffe),
    "256-nhwc": (256, unit_last),
}
"""Name of a way -> side in pixels, and what turns an image into the network's input."""
