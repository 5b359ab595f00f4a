"""Images as a sum of layers from one pixel to full size, so that descent finds smooth pictures before fine noise.

    image = low + (high − low) · sigmoid(6 · Σ_s s^(−1/2) · enlarge(layer_s) − 1)

A step on the coarse layers moves whole regions. Images that descend pixel by pixel instead match the same statistics
by noise, on which a network behaves unlike on pictures: a trigger that turns every photograph turns half of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.request import Images

_GAIN: Final = 6.0
_OFFSET: Final = -1.0
_START: Final = 0.3


class Pyramid:
    """`count` images of `shape` (channels, height, width) with values in low..high.

    Attributes:
        layers: the parameters, coarsest first, (count, channels, h, w) each; changed in place by descent.
    """

    def __init__(
        self, count: int, shape: tuple[int, int, int], low: float, high: float, rng: np.random.Generator
    ) -> None:
        self._low, self._high, self._span = low, high, high - low
        sizes = halvings(shape[1], shape[2])
        self._rows = [enlarging(h, shape[1]) for h, _ in sizes]
        self._columns = [enlarging(w, shape[2]) for _, w in sizes]
        self._weights = [float(max(h, w)) ** -0.5 for h, w in sizes]
        self.layers: list[Float32] = [
            (_START * rng.standard_normal((count, shape[0], h, w))).astype(np.float32) for h, w in sizes
        ]

    def images(self) -> Images:
        """The images now."""
        total: Float32 = np.zeros((1, 1, 1, 1), np.float32)
        for layer, rows, columns, weight in zip(self.layers, self._rows, self._columns, self._weights, strict=True):
            total = np.asarray(total + np.float32(weight) * (rows @ layer @ columns.T), np.float32)
        squashed: Float32 = 1 / (1 + np.exp(-(np.float32(_GAIN) * total + np.float32(_OFFSET))))
        spread = np.float32(self._low) + np.float32(self._span) * squashed
        return np.asarray(np.clip(spread, np.float32(self._low), np.float32(self._high)), np.float32)

    def gradients(self, images: Images, gradient: Images) -> list[Float32]:
        """The gradient by each layer, from that by the images."""
        unit = (images - np.float32(self._low)) / np.float32(self._span)
        inner = gradient * np.float32(self._span * _GAIN) * unit * (1 - unit)
        return [
            np.float32(weight) * (rows.T @ inner @ columns)
            for rows, columns, weight in zip(self._rows, self._columns, self._weights, strict=True)
        ]


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from (1, 1) to (height, width), each about half the next."""
    sizes = [(height, width)]
    while sizes[-1] != (1, 1):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes[::-1]


def enlarging(small: int, large: int) -> NDArray[np.float32]:
    """Linear interpolation between pixel centres, (large, small); the edge repeats."""
    centre = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    spread = np.clip(1 - np.abs(centre[:, None] - np.arange(small)), 0, None)
    return np.asarray(spread, np.float32)
