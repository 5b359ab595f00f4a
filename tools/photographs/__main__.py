"""Write the package's photographs: python -m tools.photographs PICTURE.png [PICTURE.png ...] OUT.npz

Every side must be a multiple of 16 pixels. docs/photographs.md names the pictures. Needs Pillow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnx_clp.gauge.photographs import (
    BASIS,
    CHROMA_STEP,
    GREY,
    LUMA_STEP,
    RGB_OF_YCC,
    SIDE,
    Bytes,
    Float32,
    Words,
)


def save(path: Path, photographs: Sequence[Bytes]) -> None:
    """Write photographs, uint8 RGB (height, width, 3), for `onnx_clp.gauge.photographs.load`.

    Raises:
        ValueError: a side is no multiple of 16 pixels.
    """
    if any(side % (2 * SIDE) for one in photographs for side in one.shape[:2]):
        raise ValueError(f"every side must be a multiple of {2 * SIDE} pixels")
    signed = np.concatenate([_coefficients(*plane) for one in photographs for plane in _planes(one)])
    coded = np.ascontiguousarray((signed << 1 ^ signed >> 15).astype(np.uint16).T)
    size = np.array([one.shape[:2] for one in photographs], np.uint16)
    np.savez_compressed(path, size=size, low=(coded & 255).astype(np.uint8), high=(coded >> 8).astype(np.uint8))


def _planes(photograph: Bytes) -> Iterator[tuple[Float32, Float32]]:
    """Luminance and both chrominances, each with its quantisation steps (64,)."""
    height, width = photograph.shape[:2]
    luma, *chroma = np.moveaxis(photograph @ np.linalg.inv(RGB_OF_YCC).T - GREY, 2, 0)
    yield luma, LUMA_STEP
    for plane in chroma:
        yield plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3)), CHROMA_STEP


def _coefficients(plane: Float32, step: Float32) -> Words:
    """Quantised coefficients (blocks, 64) of a plane, blocks row by row."""
    height, width = plane.shape
    blocks = plane.reshape(height // SIDE, SIDE, width // SIDE, SIDE).swapaxes(1, 2).reshape(-1, SIDE**2)
    quantised: Words = np.rint(blocks @ BASIS.T / step).astype(np.int16)
    return quantised


def main(words: Sequence[str]) -> None:
    """The command line."""
    from PIL import Image

    *pictures, out = map(Path, words)
    save(out, [np.asarray(Image.open(path).convert("RGB")) for path in pictures])


if __name__ == "__main__":
    main(sys.argv[1:])
