"""Small blocks of black and white that turn images into a class: where the descent towards a patch may start.

A trigger's features are often silent until nearly all of its pixels are there, so nothing leads a descent to it. But
small blocks are few: every picture of 3 x 3 cells, in each corner and in the middle, is put on one image, forward
passes alone, and one run says of every class which blocks bring it nearest. These are put on a few images, and the best
one is kept where it turns half of more images; ordinary classes have none.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pixels import Range, grain
from onnx_clp.inversion.request import Images

CELLS: Final = 3
PICTURES: Final = 2 ** (CELLS * CELLS)
PLACES: Final = 5
FEW: Final = 4
"""Images that the likeliest blocks of a class are put on."""
LIKELY: Final = 16
"""Blocks of a class that get so far."""
MORE: Final = 24
"""Images that the best block of a class is put on."""
WORKS: Final = 0.5
LEAST_SIDE: Final = 20
"""Of images, in pixels: on smaller ones a block is so large a part that it shows classes by right."""
_AT_ONCE: Final = 32


def forwards(classes: int) -> int:
    """How many images go through for it."""
    blocks = PICTURES * PLACES
    return blocks + min(LIKELY * classes, blocks) * (FEW - 1) + classes * MORE


def starts(attack: Attack, images: Images, given: NDArray[np.int64], pixels: Range) -> dict[int, Float32]:
    """By class, the change (channels, height, width) of the block that turns at least half of other classes' images.

    None for images of fewer than 20 pixels a side.

    Args:
        attack: the model.
        images: (n, channels, height, width), n ≥ 1.
        given: their classes by the model, (n,).
        pixels: the range of pixel values.
    """
    shape = (images.shape[1], images.shape[2], images.shape[3])
    if min(shape[1:]) < LEAST_SIDE:
        return {}
    few, every = _varied(images, given), np.arange(PICTURES * PLACES)
    near = _margins(attack, few[:1], every, pixels)
    likely = np.unique(np.argsort(-near, axis=0, kind="stable")[:LIKELY])
    if len(few) > 1:
        rest = _margins(attack, few[1:], likely, pixels)
        near[likely] += (rest - near[likely]) * (1 - 1 / len(few))
    found = {}
    for target, at in enumerate(likely[near[likely].argmax(axis=0)]):
        change, others = block(int(at), shape, pixels), images[given != target][:MORE]
        if len(others) and (attack.logits(pixels.clipped(others + change)).argmax(axis=1) == target).mean() >= WORKS:
            found[target] = change
    return found


def _margins(attack: Attack, images: Images, which: NDArray[np.int64], pixels: Range) -> NDArray[np.float64]:
    """By block and class, the mean over images of the score less the largest other."""
    shape, found = (images.shape[1], images.shape[2], images.shape[3]), []
    for first in range(0, len(which), _AT_ONCE):
        part = which[first : first + _AT_ONCE]
        marked = np.concatenate([pixels.clipped(images + block(int(at), shape, pixels)) for at in part])
        found.append(_ahead(attack.logits(marked)).reshape(len(part), len(images), -1).mean(axis=1))
    return np.concatenate(found)


def block(at: int, shape: tuple[int, int, int], pixels: Range) -> Float32:
    """The change that sets a block's pixels to the ends of the range; pictures go round before places do.

    A cell is a pixel, or a 32nd of the image's smaller side; blocks are one cell off the border, where images are.
    """
    channels, height, width = shape
    picture, place = at % PICTURES, at // PICTURES
    cell = grain(height, width)
    bits = (picture >> np.arange(CELLS * CELLS) & 1).reshape(CELLS, CELLS)
    drawn = np.kron(2 * bits - 1, np.ones((cell, cell))) * pixels.span
    side = min(CELLS * cell, height, width)
    near = min(cell, height - side, width - side)
    bottom, right = height - side - near, width - side - near
    top, left = ((near, near), (near, right), (bottom, near), (bottom, right), (bottom // 2, right // 2))[place]
    change = np.zeros((channels, height, width), np.float32)
    change[:, top : top + side, left : left + side] = drawn[:side, :side]
    return change


def _varied(images: Images, given: NDArray[np.int64]) -> Images:
    """A few images, of as many classes as there are."""
    _, first = np.unique(given, return_index=True)
    rest = np.setdiff1d(np.arange(len(images)), first)
    spread = np.linspace(0, len(first) - 1, min(FEW, len(first))).astype(int)
    return images[[*first[spread], *rest][:FEW]]


def _ahead(logits: Float32) -> NDArray[np.float64]:
    """By image and class, the score less the largest other."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    top, second = ordered[:, -1:], ordered[:, -2:-1]
    return np.where(logits == top, top - second, logits - top)
