"""Small blocks that turn images into a class: drawn, tried on all classes at once, and kept where they work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from onnx_clp.inversion import blocks
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images

PIXELS = Range(-1, 1)
GRID = 0b101010101
"""A chequered block."""


@pytest.mark.parametrize(("side", "cell"), [(16, 1), (32, 1), (64, 2), (224, 7)])
def test_a_block_sets_its_pixels_to_the_ends_a_cell_off_the_border(side: int, cell: int) -> None:
    grey, corners = np.full((1, 3, side, side), 0.3, np.float32), set()
    for place in range(blocks.PLACES):
        change = blocks.block(GRID + place * blocks.PICTURES, (3, side, side), PIXELS)
        marked = PIXELS.clipped(grey + change)[0]
        rows, columns = np.nonzero(change[0])
        assert len(rows) == (3 * cell) ** 2
        assert set(np.unique(marked[:, rows, columns])) == {-1.0, 1.0}
        assert (marked[:, change[0] == 0] == np.float32(0.3)).all()
        assert {rows.min(), side - 1 - rows.max()} & {cell, side // 2 - 2 * cell, (side - 4 * cell) // 2}
        corners.add((int(rows.min()), int(columns.min())))
    assert len(corners) == blocks.PLACES


@pytest.mark.parametrize("channels", [1, 3])
def test_squares_have_every_colour_and_side_near_every_corner_in_the_middle_and_at_the_border(channels: int) -> None:
    found = set()
    for at in range(blocks.PICTURES * blocks.PLACES, blocks.count(channels)):
        change = blocks.block(at, (channels, 32, 32), PIXELS)
        rows, columns = np.nonzero(change[0])
        side = int(rows.max() - rows.min()) + 1
        assert len(rows) == side**2
        colours = change[:, rows, columns]
        assert (colours == colours[:, :1]).all()
        found.add((int(rows.min()), int(columns.min()), side, tuple(np.sign(colours[:, 0]).astype(int))))
    ends = {(side, begin) for side in range(1, 6) for begin in (0, 1, 31 - side, 32 - side)}
    corners = {
        (side, a, b)
        for side, a in ends
        for other, b in ends
        if side == other and (a in (0, 32 - side)) == (b in (0, 32 - side))
    }
    middle = {(side, (31 - side) // 2, (31 - side) // 2) for side in range(1, 6)}
    assert {(side, top, left) for top, left, side, _ in found} == corners | middle
    assert len(found) == blocks.count(channels) - blocks.PICTURES * blocks.PLACES == 2**channels * 5 * 9


def test_a_block_fits_an_image_smaller_than_itself() -> None:
    assert blocks.block(GRID, (1, 2, 5), PIXELS).shape == (1, 2, 5)


@dataclass
class Gated:
    """Four classes: the first for all images, and one that a chequered block in the last corner leads to."""

    target: int | None
    sensitive: float = 1.0

    def logits(self, images: Images) -> Float32:
        """The scores; the target's stays flat until all of the block is there."""
        scores = np.zeros((len(images), 4), np.float32)
        scores[:, 0] = 1
        if self.target is not None:
            drawn = blocks.block(GRID + 3 * blocks.PICTURES, (1, 20, 20), PIXELS)[0]
            there = (images[:, 0, drawn != 0] == np.sign(drawn[drawn != 0])).all(axis=1)
            scores[:, self.target] += 5 * there * self.sensitive
        return scores


def pictures() -> Images:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (30, 1, 20, 20)).astype(np.float32)


def test_the_block_that_a_silent_feature_waits_for_is_found_and_ordinary_classes_have_none() -> None:
    attack: Any = Gated(2)
    given = attack.logits(pictures()).argmax(axis=1)
    found = blocks.starts(attack, pictures(), given, PIXELS)
    assert list(found) == [2]
    assert np.array_equal(found[2], blocks.block(GRID + 3 * blocks.PICTURES, (1, 20, 20), PIXELS))


@dataclass
class White:
    """Four classes: the first for all images, and the third where a corner is white, so many pixels of it at least."""

    pixels: int

    def logits(self, images: Images) -> Float32:
        """The scores."""
        scores = np.zeros((len(images), 4), np.float32)
        scores[:, 0] = 1
        scores[:, 2] = 5 * ((images[:, 0, 15:, 15:] == 1).sum(axis=(1, 2)) >= self.pixels)
        return scores


@pytest.mark.parametrize(("pixels", "square"), [(9, False), (10, True), (25, True)])
def test_a_square_in_one_colour_is_taken_where_no_picture_does(pixels: int, square: bool) -> None:
    attack: Any = White(pixels)
    found = blocks.starts(attack, pictures(), np.zeros(30, np.int64), PIXELS)
    assert list(found) == [2]
    assert np.count_nonzero(found[2]) == (9 if not square else 16 if pixels == 10 else 25)
    assert (found[2] >= 0).all()


@pytest.mark.parametrize("attack", [Gated(None), Gated(2, 0.1)])
def test_where_no_block_turns_half_of_the_images_nothing_starts_there(attack: Any) -> None:
    assert blocks.starts(attack, pictures(), np.zeros(30, np.int64), PIXELS) == {}


def test_small_images_have_no_blocks() -> None:
    attack: Any = Gated(None)
    small = pictures()[:, :, :19]
    assert blocks.starts(attack, small, np.zeros(30, np.int64), PIXELS) == {}


def test_the_images_that_blocks_are_put_on_are_of_many_classes() -> None:
    images, given = pictures(), np.repeat([0, 0, 1, 2, 3, 4], 5)
    chosen = blocks._varied(images, given)
    places = [int(np.flatnonzero((images == one).all(axis=(1, 2, 3)))[0]) for one in chosen]
    assert len({int(given[place]) for place in places}) == blocks.FEW
    assert len(blocks._varied(images[:3], given[:3])) == 3
