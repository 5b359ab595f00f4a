"""A warp that turns images into a class: a smooth field of displacements, the same for all images.

    minimise over c (2, knots, knots):   mean cross-entropy(f(x ∘ (id + spread(c))), class) + weight · ‖c‖₁

`spread` interpolates linearly between the knots; x is sampled bilinearly, beyond the border with the border's pixels.
Steps, weight and start as for a patch. WaNet (Nguyen and Tran, ICLR 2021) hides a trigger of this form, which no
change that is added to images comes near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.document.search import Picture
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.pyramid import enlarging
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import ENOUGH, Smallest, descended
from onnx_clp.inversion.trigger import outcome

STEPS: Final = 60
FARTHEST: Final = 3.0
"""In pixels, down and across: the most that a knot moves."""
_LINES: Final = 8
_KNOTS: Final = 6
_RATE: Final = 0.1
_START: Final = 0.1
_WEIGHT: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Displacements (2, height, width) in pixels, down and across; `flip` is the share of images they turn."""

    target: int
    field: Float32
    flip: float

    @property
    def area(self) -> float:
        """Mean size of the displacements down and across, in pixels; the most allowed where too few images turn."""
        return float(np.abs(self.field).mean()) if self.flip >= ENOUGH else FARTHEST

    def picture(self, _pixels: Range) -> Picture:
        """A grid of dark lines on white, an eighth of the image apart, warped."""
        height, width = self.field.shape[1:]
        grid = np.ones((1, 1, height, width), np.float32)
        grid[:, :, :: max(height // _LINES, 2)] = 0
        grid[:, :, :, :: max(width // _LINES, 2)] = 0
        return Picture.of(self.put_on(grid)[0], 0, 1)

    def put_on(self, images: Images) -> Images:
        """The warped images."""
        return Sampling(self.field).warped(images)


class Sampling:
    """Bilinear sampling at every pixel's place plus a displacement, (2, height, width) in pixels."""

    def __init__(self, field: Float32) -> None:
        height, width = field.shape[1:]
        rows, columns = np.mgrid[:height, :width]
        # The last cell begins one pixel before the border; an image of one row or column has a single place.
        down = np.clip(rows + field[0], 0, height - 1)
        across = np.clip(columns + field[1], 0, width - 1)
        self._row = np.minimum(down.astype(np.int64), max(height - 2, 0))
        self._column = np.minimum(across.astype(np.int64), max(width - 2, 0))
        self._below = np.minimum(self._row + 1, height - 1)
        self._right = np.minimum(self._column + 1, width - 1)
        self._down = (down - self._row).astype(np.float32)
        self._across = (across - self._column).astype(np.float32)
        self._inside = np.stack(
            [(rows + field[0] == down).astype(np.float32), (columns + field[1] == across).astype(np.float32)]
        )

    def warped(self, images: Images) -> Images:
        """Images (n, channels, height, width) sampled anew."""
        upper, lower = self._lines(images)
        return np.asarray(upper + self._down * (lower - upper), np.float32)

    def slope(self, images: Images, gradient: Images) -> Float32:
        """The gradient by the field, (2, height, width), of what has `gradient` by the warped images."""
        upper, lower = self._lines(images)
        by_row = lower - upper
        left = images[:, :, self._row, self._column] * (1 - self._down)
        left += images[:, :, self._below, self._column] * self._down
        right = images[:, :, self._row, self._right] * (1 - self._down)
        right += images[:, :, self._below, self._right] * self._down
        both = [(gradient * by_row).sum(axis=(0, 1)), (gradient * (right - left)).sum(axis=(0, 1))]
        return np.asarray(np.stack(both) * self._inside, np.float32)

    def _lines(self, images: Images) -> tuple[Images, Images]:
        """The images between their columns, on the row above and on the row below each place."""
        lines = []
        for row in (self._row, self._below):
            left, right = images[:, :, row, self._column], images[:, :, row, self._right]
            lines.append(left + self._across * (right - left))
        return lines[0], lines[1]


class WarpDescent:
    """Shrinks a warp; arguments as for `invert_warp`."""

    def __init__(self, attack: Attack, images: Portions, target: int, seed: int) -> None:
        self._attack, self._images, self._target = attack, images, target
        rng = np.random.default_rng([seed, target, 2])
        _, height, width = images.shape
        self._down, self._across = enlarging(_KNOTS, height), enlarging(_KNOTS, width)
        self._knots = (_START * rng.standard_normal((2, _KNOTS, _KNOTS))).astype(np.float32)
        self._descent = Shrinking(self._knots, _RATE, _WEIGHT)
        self._kept = Smallest[Warp](images)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        field = np.asarray(self._down @ self._knots @ self._across.T, np.float32)
        sampling, some = Sampling(field), self._images.following()
        logits, gradient = self._attack.pull(sampling.warped(some), self._target)
        flip = self._images.turned(outcome(logits, self._target)[0])
        self._kept.meet(Warp(self._target, field, flip))
        slope = self._down.T @ sampling.slope(some, gradient) @ self._across
        self._descent.step(np.asarray(slope, np.float32), flip >= ENOUGH)
        np.clip(self._knots, -FARTHEST, FARTHEST, out=self._knots)

    @property
    def form(self) -> Warp:
        """The smallest warp met by now that turns at least 0.9 of the images; where none did, the last one."""
        return self._kept.form


def invert_warp(attack: Attack, images: Images, target: int, seed: int, steps: int = STEPS) -> Warp:
    """The smallest warp met on the way that turns at least 0.9 of `images`; where none does, the last one."""
    return descended(WarpDescent(attack, Portions(images), target, seed), steps)
