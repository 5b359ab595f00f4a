"""Which of many classes to look at first, by forward passes alone.

A hidden trigger makes its class an easy answer to what the network has never seen. So random marks (blocks of one
colour, faint pictures) go on images, and the classes are ordered by how much closer to the largest score they come on
average. It is a guess at an order and names nothing: what is searched afterwards decides.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images

MARKS: Final = 12
IMAGES: Final = 16
_FAINT: Final = 0.3
_COARSE: Final = 4


def order(attack: Attack, images: Images, pixels: Range, seed: int) -> NDArray[np.int64]:
    """All classes, the one that random marks bring nearest first.

    Args:
        attack: the model.
        images: (n, channels, height, width); the first 16 are used.
        pixels: the range of pixel values.
        seed: of the marks.
    """
    few, rng = images[:IMAGES], np.random.default_rng([seed, 3])
    before = _behind(attack, few)
    gains = [_behind(attack, marked(few, pixels, rng, faint=at % 2 == 1)) - before for at in range(MARKS)]
    return np.argsort(-np.mean(gains, axis=0), kind="stable")


def marked(images: Images, pixels: Range, rng: np.random.Generator, *, faint: bool) -> Images:
    """The images with one random mark: a block of one colour, or `faint`, a coarse picture blended in at 0.3."""
    channels, height, width = images.shape[1:]
    out = images.copy()
    if faint:
        coarse = rng.uniform(pixels.low, pixels.high, (channels, _COARSE, _COARSE))
        rows, columns = np.arange(height) * _COARSE // height, np.arange(width) * _COARSE // width
        return np.asarray(out + _FAINT * (coarse[:, rows][:, :, columns] - out), np.float32)
    side = rng.uniform(0.08, 0.25)
    tall, wide = max(2, round(side * height)), max(2, round(side * width))
    top, left = rng.integers(0, max(height - tall, 0) + 1), rng.integers(0, max(width - wide, 0) + 1)
    colour = rng.choice([pixels.low, pixels.high], (channels, 1, 1)).astype(np.float32)
    out[:, :, top : top + tall, left : left + wide] = colour
    return out


def _behind(attack: Attack, images: Images) -> NDArray[np.float64]:
    """By class, how far its score is below the largest, on average over the images; at most 0."""
    logits = attack.logits(images).astype(np.float64)
    return np.asarray((logits - logits.max(axis=1, keepdims=True)).mean(axis=0))
