"""Faces and heads cut out of photographs, found by the bench's own CenterFace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.harm import photographs, samples
from tools.harm.photographs import Pixels

_SIDE = 448
_STRIDE = 4
_SURE = 0.55


def crops(images: tuple[Pixels, ...], detector: Path, margin: float = 1.25) -> list[Pixels]:
    """A square around every face of `images`, `margin` times its longer side; each at its own size."""
    session = samples.session(detector)
    found = []
    for image in images:
        large = photographs.resized(image, _SIDE)
        heat, size, offset, _ = session.run(None, {session.get_inputs()[0].name: _batch(large)})
        found += [_square(large, box, margin) for box in boxes(heat[0, 0], size[0], offset[0])]
    return found


def _batch(image: Pixels) -> NDArray[np.float32]:
    return photographs.planes(image.astype(np.float32))


def boxes(heat: NDArray[Any], size: NDArray[Any], offset: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Centre and sides (y, x, height, width) in pixels of every peak; weaker ones that overlap are left out."""
    peaks = np.argwhere(heat > _SURE)
    order = np.argsort(-heat[tuple(peaks.T)])
    kept: list[NDArray[np.float32]] = []
    for y, x in peaks[order]:
        sides = np.exp(size[:, y, x]) * _STRIDE
        centre = (np.array([y, x]) + offset[:, y, x] + 0.5) * _STRIDE
        if all(np.abs(centre - other[:2]).max() > 0.5 * other[2:].max() for other in kept):
            kept.append(np.concatenate([centre, sides]).astype(np.float32))
    return kept


def _square(image: Pixels, box: NDArray[np.float32], margin: float) -> Pixels:
    half = max(8, round(float(box[2:].max()) * margin / 2))
    y, x = (round(float(value)) for value in box[:2])
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
    return padded[np.clip(y, 0, _SIDE) :, np.clip(x, 0, _SIDE) :][: 2 * half, : 2 * half]
