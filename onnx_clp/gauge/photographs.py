"""Two dozen ordinary photographs, all free to ship, as one small file that NumPy reads.

The file holds quantised cosine coefficients of blocks of 8 x 8 pixels: luminance at full resolution, the two
chrominances at half of it (BT.601, full range), each cut into blocks, transformed by the orthonormal type-2 cosine
transform and divided by steps that grow with the frequency. Coefficients lie frequency by frequency, over all blocks
of all photographs, with the sign in the lowest bit: long runs of zeros. `tools/photographs` writes such a file, and
docs/photographs.md says what is on each photograph, who took it, and why it is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.int16]
Float32 = NDArray[np.float32]

SHIPPED: Final = Path(__file__).with_name("photographs.npz")

SIDE: Final = 8
RGB_OF_YCC: Final = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
GREY: Final = np.array([128, 0, 0], np.float32)
_PLACES: Final = np.arange(SIDE)
_COSINES: Final = np.cos(np.pi / SIDE * np.outer(_PLACES, _PLACES + 0.5)) * np.sqrt(2 / SIDE)
_COSINES[0] *= np.sqrt(0.5)
BASIS: Final = np.kron(_COSINES, _COSINES).astype(np.float32)
"""(frequency, pixel) of a block, both row by row."""
_FREQUENCY: Final = np.add.outer(_PLACES, _PLACES).ravel()
LUMA_STEP: Final = (5 + 1.5 * _FREQUENCY).astype(np.float32)
CHROMA_STEP: Final = (8 + 3 * _FREQUENCY).astype(np.float32)


def load(path: Path = SHIPPED) -> list[Bytes]:
    """The photographs of a file: uint8 RGB arrays (height, width, 3)."""
    with np.load(path, allow_pickle=False) as stored:
        coded = stored["high"].astype(np.uint16) << 8 | stored["low"]
        sizes = stored["size"].astype(int)
    signed = (coded >> 1).astype(np.int16) ^ -(coded & 1).astype(np.int16)
    return list(_photographs(sizes, np.ascontiguousarray(signed.T)))


def _photographs(sizes: NDArray[np.int_], coefficients: Words) -> Iterator[Bytes]:
    start = 0
    for height, width in sizes:
        ycc = np.empty((height, width, 3), np.float32)
        for channel, (divisor, step) in enumerate(((1, LUMA_STEP), (2, CHROMA_STEP), (2, CHROMA_STEP))):
            end = start + height * width // (SIDE * divisor) ** 2
            plane = _plane(coefficients[start:end], step, height // divisor, width // divisor)
            ycc[..., channel] = plane.repeat(divisor, 0).repeat(divisor, 1)
            start = end
        rgb = (ycc + GREY) @ RGB_OF_YCC.T
        yield np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _plane(coefficients: Words, step: Float32, height: int, width: int) -> Float32:
    """One plane from its blocks (blocks, 64), which lie row by row."""
    pixels = coefficients.astype(np.float32) @ (step[:, None] * BASIS)
    return pixels.reshape(height // SIDE, width // SIDE, SIDE, SIDE).swapaxes(1, 2).reshape(height, width)
