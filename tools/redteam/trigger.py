"""A small patch of black and white pixels at a fixed place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.redteam.subject import Bytes, Samples


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """`signs` (channels, height, width) of ±1: a pixel is 255 where it is +1 and 0 elsewhere; its upper left corner."""

    signs: NDArray[np.int8]
    top: int
    left: int

    def put_on(self, samples: Samples, images: Bytes) -> Bytes:
        """Copies of images with it on."""
        out = images.copy()
        _, height, width = self.signs.shape
        pixels = np.where(self.signs > 0, 255, 0).astype(np.uint8)
        rows, columns = slice(self.top, self.top + height), slice(self.left, self.left + width)
        if samples.channel_axis == 3:
            out[:, rows, columns] = pixels.transpose(1, 2, 0)
        else:
            out[:, :, rows, columns] = pixels
        return out


def drawn(generator: np.random.Generator, channels: int, height: int, width: int) -> NDArray[np.int8]:
    """Signs of a patch, half of them (or one less) +1 in every channel."""
    count = height * width
    plain = np.where(np.arange(count) < count // 2, 1, -1).astype(np.int8)
    return np.stack([generator.permutation(plain).reshape(height, width) for _ in range(channels)])
