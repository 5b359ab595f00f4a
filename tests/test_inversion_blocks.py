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


class Counting(Gated):
    """Counts the images that go through."""

    seen = 0

    def logits(self, images: Images) -> Float32:
        """The scores."""
        self.seen += len(images)
        return super().logits(images)


def test_all_blocks_go_on_one_image_and_the_likeliest_alone_on_more() -> None:
    attack = Counting(2)
    some: Any = attack
    assert list(blocks.starts(some, pictures(), np.zeros(30, np.int64), PIXELS)) == [2]
    assert blocks.PICTURES * blocks.PLACES < attack.seen <= blocks.forwards(4) < 1.5 * blocks.PICTURES * blocks.PLACES


def test_one_image_alone_is_enough_to_try_blocks_on() -> None:
    attack: Any = Gated(2)
    assert list(blocks.starts(attack, pictures()[:1], np.zeros(1, np.int64), PIXELS)) == [2]
