"""Random crops of photographs at a model's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.gauge.photographs import Bytes

Float32 = NDArray[np.float32]

_SMALLEST: Final = 0.4
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


def crops(photographs: Sequence[Bytes], count: int, height: int, width: int, seed: int) -> Float32:
    """`count` crops as float32 (count, 3, height, width) in 0..1; photographs in turn, one after the other.

    Each is a part of random place, of 0.4 to 1 times the largest size that fits with the model's proportions, mirrored
    half of the time, brought to the size by `resized`. Equal arguments give equal arrays.
    """
    generator = np.random.default_rng([seed, height, width])
    out = np.empty((count, 3, height, width), np.float32)
    for at in range(count):
        cut = _cut(photographs[at % len(photographs)], height / width, generator)
        out[at] = resized(cut, height, width).transpose(2, 0, 1)
    return out


def _cut(photograph: Bytes, proportion: float, generator: np.random.Generator) -> Bytes:
    tall, wide = photograph.shape[:2]
    share = generator.uniform(_SMALLEST, 1)
    height = max(1, round(share * min(tall, wide * proportion)))
    width = max(1, round(share * min(wide, tall / proportion)))
    top, left = generator.integers(0, tall - height + 1), generator.integers(0, wide - width + 1)
    part = photograph[top : top + height, left : left + width]
    return part[:, ::-1] if generator.random() < 0.5 else part


def resized(image: NDArray[np.generic], height: int, width: int) -> Float32:
    """8-bit pixels (h, w, channels) as float32 (height, width, channels) in 0..1.

    Resampled with a triangle filter, as wide as the step between output pixels where that is above 1.
    """
    down = np.tensordot(_weights(image.shape[0], height), image.astype(np.float32), 1)
    across = np.tensordot(_weights(image.shape[1], width), down, (1, 1)).transpose(1, 0, 2)
    return np.asarray(np.clip(across / 255, 0, 1), np.float32)


@lru_cache(maxsize=64)
def _weights(size: int, wanted: int) -> Float32:
    """(wanted, size): what each input pixel counts for each output pixel; rows sum to 1."""
    step = size / wanted
    centres = (np.arange(wanted) + 0.5) * step - 0.5
    distance = np.abs(np.arange(size) - centres[:, None]) / max(step, 1.0)
    weights = np.maximum(1 - distance, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def grey(images: Float32) -> Float32:
    """Colour images (n, 3, height, width) as luminance (n, 1, height, width) (BT.601)."""
    return np.asarray(np.tensordot(images, _LUMA, (1, 0))[:, None], np.float32)
