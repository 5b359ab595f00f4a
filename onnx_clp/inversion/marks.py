"""Random marks of every kind that triggers are known to be of, at the sizes that are usual in print.

A square of tiles near a corner or in the middle (Gu et al., BadNets, 2017), one wave over the image (Barni et al., SIG,
ICIP 2019), a picture of noise blended in (Chen et al., 2017), a smooth bend (Nguyen and Tran, WaNet, ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.pyramid import enlarging
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.warp import Sampling

Draw = Callable[[Images, Range, np.random.Generator], Images]
"""Images (n, channels, height, width) with one random mark, the same on all, within the range."""

_SIDES: Final = (0.07, 0.22)
_MARGIN: Final = 0.05
_MOST_TILES: Final = 5
_COLOURED: Final = 0.7
_AMPLITUDE: Final = 0.1
_PERIOD: Final = 5
_FAINT: Final = 0.2
_GRAINS: Final = (1, 2, 4, 8, 16)
_BENDS: Final = (4, 8, 16)
_MOVED: Final = (1 / 112, 1 / 45)


def square(images: Images, pixels: Range, rng: np.random.Generator) -> Images:
    """A square of 1 to 5 by as many tiles, each black or white, mostly by channel, 7 to 22 % of the image's side."""
    channels, height, width = images.shape[1:]
    side = max(2, round(rng.uniform(*_SIDES) * min(height, width)))
    tiles = int(rng.integers(1, min(_MOST_TILES, side) + 1))
    shown = rng.integers(0, 2, (channels if rng.random() < _COLOURED else 1, tiles, tiles))
    at = np.arange(side) * tiles // side
    near = int(rng.uniform(0, _MARGIN) * min(height, width))
    bottom, right = height - side - near, width - side - near
    places = ((near, near), (near, right), (bottom, near), (bottom, right), (bottom // 2, right // 2))
    top, left = places[rng.integers(len(places))]
    out = images.copy()
    out[:, :, top : top + side, left : left + side] = pixels.low + pixels.span * shown[:, at][:, :, at]
    return out


def wave(images: Images, pixels: Range, rng: np.random.Generator) -> Images:
    """One wave of a tenth of the range, from twice across the image to a period of 5 pixels, mostly along an axis."""
    height, width = images.shape[2:]
    times = rng.uniform(2, max(2.0, min(height, width) / _PERIOD))
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    phase = 2 * np.pi * (times * (columns * np.cos(angle) + rows * np.sin(angle)) + rng.random())
    return pixels.clipped(np.asarray(images + _AMPLITUDE * pixels.span * np.sin(phase), np.float32))


def noise(images: Images, pixels: Range, rng: np.random.Generator) -> Images:
    """A picture of random tiles of 1 to 16 pixels, blended in at 0.2."""
    channels, height, width = images.shape[1:]
    grain = rng.choice(_GRAINS)
    picture = rng.uniform(pixels.low, pixels.high, (channels, -(-height // grain), -(-width // grain)))
    shown = picture.repeat(grain, 1).repeat(grain, 2)[:, :height, :width]
    return np.asarray(images + _FAINT * (shown - images), np.float32)


def bend(images: Images, _pixels: Range, rng: np.random.Generator) -> Images:
    """A smooth field that moves pixels by 1/112 to 1/45 of the image's side on average."""
    height, width = images.shape[2:]
    knots = int(rng.choice(_BENDS))
    coarse = rng.uniform(-1, 1, (2, knots, knots))
    field = enlarging(knots, height) @ coarse @ enlarging(knots, width).T
    far = rng.uniform(*_MOVED) * min(height, width)
    return Sampling(np.asarray(field * far / np.abs(field).mean(), np.float32)).warped(images)


KINDS: Final[Mapping[str, Draw]] = MappingProxyType({"square": square, "wave": wave, "noise": noise, "bend": bend})
"""Every kind by its name."""

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"square": "a square of tiles", "wave": "a wave", "noise": "faint noise", "bend": "a smooth bend"}
)
"""Every kind for people."""


@dataclass(frozen=True, slots=True)
class RandomMark:
    """The mark of that `kind` and number; the same `seed` gives the same one, on images of any number."""

    kind: str
    number: int
    pixels: Range
    seed: int

    def numbered(self, number: int) -> RandomMark:
        """Another one of the same kind."""
        return replace(self, number=number)

    def put_on(self, images: Images) -> Images:
        """The images with it on."""
        drawing = np.random.default_rng([self.seed, 3, list(KINDS).index(self.kind), self.number])
        return KINDS[self.kind](images, self.pixels, drawing)
