"""The range that pixel values have to stay in, for images with a trigger on as for any others.

An attacker's image comes out of a camera or a file, so its pixels lie in the range. A search without that limit finds
what nobody can show to the network: on black ground it darkens further, and clean networks give way to that sooner
than to anything that exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion.request import Images

_FINE: Final = 32


def grain(height: int, width: int) -> int:
    """The side of the smallest mark that still counts in an image: a pixel, or a 32nd of the image's smaller side."""
    return max(1, min(height, width) // _FINE)


@dataclass(frozen=True, slots=True)
class Range:
    """Pixel values from `low` to `high`, both finite, low < high."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """high − low."""
        return self.high - self.low

    @property
    def ends(self) -> tuple[float, float]:
        """Both, the lower first."""
        return self.low, self.high

    def holding(self, images: Images) -> Range:
        """This range, widened where the images go beyond it; by rounding to float32 none does."""
        least, most = images.min(), images.max()
        return Range(
            float(least) if least < np.float32(self.low) else self.low,
            float(most) if most > np.float32(self.high) else self.high,
        )

    def clipped(self, images: Images) -> Images:
        """The images with what lies outside moved to the nearest end."""
        return np.clip(images, np.float32(self.low), np.float32(self.high))

    def inward(self, images: Images, gradient: Images) -> Images:
        """The gradient by `images` before they are clipped, of a loss whose gradient after it is `gradient`.

        Strictly it is 0 wherever a pixel lies outside. Here only where a step against it would lead further out, so
        that a pixel which has left the range can come back.
        """
        outside = ((images < self.low) & (gradient > 0)) | ((images > self.high) & (gradient < 0))
        return np.where(outside, np.float32(0), gradient)
