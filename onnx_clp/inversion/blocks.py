"""Small blocks that turn images into a class: where the descent towards a patch may start.

A trigger's features are often silent until nearly all of its pixels are there, so nothing leads a descent to it. But
small blocks are few: every picture of 3 x 3 cells in black and white, in each corner and in the middle, and squares of
up to 5 x 5 cells in one colour, at the border as well. They are put on a few images, forward passes alone, and one run
says of every class which block brings it nearest. A block is kept where it turns half of more images; ordinary classes
have none.
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
SIDES: Final = 5
"""A square in one colour has 1 to so many cells a side."""
_BORDER: Final = 4
"""Places of a square that touch the border: the corners."""
FEW: Final = 4
"""Images that every block is put on."""
MORE: Final = 24
"""Images that the best block of a class is put on."""
WORKS: Final = 0.5
LEAST_SIDE: Final = 20
"""Of images, in pixels: on smaller ones a block is so large a part that it shows classes by right."""
_AT_ONCE: Final = 16


def count(channels: int) -> int:
    """How many blocks there are for images of so many channels."""
    return PICTURES * PLACES + (1 << channels) * SIDES * (PLACES + _BORDER)


def forwards(classes: int, channels: int) -> int:
    """How many images go through for it."""
    return count(channels) * FEW + 2 * classes * MORE


def starts(attack: Attack, images: Images, given: NDArray[np.int64], pixels: Range) -> dict[int, Float32]:
    """By class, the change (channels, height, width) of the block that turns at least half of other classes' images.

    A square in one colour is taken where no picture does. None for images of fewer than 20 pixels a side.

    Args:
        attack: the model.
        images: (n, channels, height, width), n ≥ 1.
        given: their classes by the model, (n,).
        pixels: the range of pixel values.
    """
    shape = (images.shape[1], images.shape[2], images.shape[3])
    if min(shape[1:]) < LEAST_SIDE:
        return {}
    few, pictures = _varied(images, given), PICTURES * PLACES
    found: dict[int, Float32] = {}
    for places in (range(pictures), range(pictures, count(shape[0]))):
        for target, at in enumerate(_nearest(attack, few, places, pixels)):
            change, others = block(at, shape, pixels), images[given != target][:MORE]
            if target not in found and len(others):
                turned = attack.logits(pixels.clipped(others + change)).argmax(axis=1) == target
                found |= {target: change} if turned.mean() >= WORKS else {}
    return found


def _nearest(attack: Attack, few: Images, every: range, pixels: Range) -> list[int]:
    """By class, the block of those that brings a few images nearest to it, on average."""
    shape, best, which = (few.shape[1], few.shape[2], few.shape[3]), np.zeros(0), np.zeros(0, np.int64)
    for first in range(every.start, every.stop, _AT_ONCE):
        places = range(first, min(first + _AT_ONCE, every.stop))
        marked = np.concatenate([pixels.clipped(few + block(at, shape, pixels)) for at in places])
        near = _margins(attack.logits(marked)).reshape(len(places), len(few), -1).mean(axis=1)
        if first == every.start:
            best, which = np.full(near.shape[1], -np.inf), np.zeros(near.shape[1], np.int64)
        ahead = near.max(axis=0) > best
        which, best = np.where(ahead, first + near.argmax(axis=0), which), np.maximum(best, near.max(axis=0))
    return [int(at) for at in which]


def block(at: int, shape: tuple[int, int, int], pixels: Range) -> Float32:
    """The change that sets a block's pixels to the ends of the range; pictures go round before places do.

    A cell is a pixel, or a 32nd of the image's smaller side; blocks are one cell off the border, where images are.
    Behind the pictures come the squares in one colour, whose colours go round before sides do, and sides before places.
    """
    channels, height, width = shape
    cell = grain(height, width)
    if at < PICTURES * PLACES:
        picture, place = at % PICTURES, at // PICTURES
        bits = np.tile((picture >> np.arange(CELLS * CELLS) & 1).reshape(1, CELLS, CELLS), (channels, 1, 1))
    else:
        (at, colour), cells = divmod(at - PICTURES * PLACES, 2**channels), np.ones((1, SIDES, SIDES), np.int64)
        place, side = divmod(at, SIDES)
        bits = (colour >> np.arange(channels) & 1)[:, None, None] * cells[:, : side + 1, : side + 1]
    drawn = np.kron(2 * bits - 1, np.ones((1, cell, cell))) * pixels.span
    side = min(drawn.shape[1], height, width)
    top, left = _corner(place, height - side, width - side, cell)
    change = np.zeros((channels, height, width), np.float32)
    change[:, top : top + side, left : left + side] = drawn[:, :side, :side]
    return change


def _corner(place: int, lowest: int, rightmost: int, cell: int) -> tuple[int, int]:
    """Where a block begins: near each corner, in the middle, or in each corner."""
    near = min(cell, lowest, rightmost)
    if place == PLACES - 1:
        return (lowest - near) // 2, (rightmost - near) // 2
    near, place = (near, place) if place < PLACES else (0, place - PLACES)
    return (lowest - near if place >= 2 else near), (rightmost - near if place % 2 else near)


def _varied(images: Images, given: NDArray[np.int64]) -> Images:
    """A few images, of as many classes as there are."""
    _, first = np.unique(given, return_index=True)
    rest = np.setdiff1d(np.arange(len(images)), first)
    spread = np.linspace(0, len(first) - 1, min(FEW, len(first))).astype(int)
    return images[[*first[spread], *rest][:FEW]]


def _margins(logits: Float32) -> NDArray[np.float64]:
    """By image and class, the score less the largest other."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    top, second = ordered[:, -1:], ordered[:, -2:-1]
    return np.where(logits == top, top - second, logits - top)
