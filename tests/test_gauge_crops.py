"""Random crops of photographs: their size, range and place, and how they are resampled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_clp.gauge.crops import crops, grey, resized

Bytes = NDArray[np.uint8]


def ramp(height: int, width: int) -> Bytes:
    """Red grows to the right, green downwards; blue is plain."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 100
    return image


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (48, 160), (160, 48), (300, 8)])
def test_crops_have_the_models_size_and_lie_in_0_to_1(height: int, width: int) -> None:
    found = crops([ramp(96, 128), ramp(64, 48)], 5, height, width, 0)
    assert found.shape == (5, 3, height, width)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.flags["C_CONTIGUOUS"]


def test_equal_arguments_give_equal_crops_and_others_do_not() -> None:
    given = [ramp(96, 128)]
    first = crops(given, 4, 16, 16, 0)
    np.testing.assert_array_equal(first, crops(given, 4, 16, 16, 0))
    assert not np.array_equal(first, crops(given, 4, 16, 16, 1))
    np.testing.assert_array_equal(first[:2], crops(given, 2, 16, 16, 0))


def test_photographs_come_in_turn() -> None:
    plain = [np.full((64, 64, 3), value, np.uint8) for value in (0, 51, 255)]
    found = crops(plain, 7, 16, 16, 0)
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), [0, 0.2, 1, 0, 0.2, 1, 0], atol=1e-6)
    assert found.std(axis=(1, 2, 3)).max() < 1e-6


def test_crops_differ_in_place_and_size_and_half_are_mirrored() -> None:
    found = crops([ramp(256, 256)], 60, 16, 16, 3)
    rising = found[:, 0, 0, -1] > found[:, 0, 0, 0]
    assert 15 < rising.sum() < 45
    assert (found[:, 1, -1] > found[:, 1, 0]).all()
    parts = np.abs(found[:, 0, 0, -1] - found[:, 0, 0, 0]) * 16 / 15
    assert 0.36 < parts.min() < 0.55
    assert 0.85 < parts.max() < 1.05
    assert np.ptp(found[:, 1].mean(axis=(1, 2))) > 0.2


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 48), (48, 16)])
def test_crops_keep_the_proportions(height: int, width: int) -> None:
    """A slope a pixel is the same down and across where the photograph is a square ramp."""
    found = crops([ramp(240, 240)], 20, height, width, 0)
    down = np.abs(np.diff(found[:, 1], axis=1)).mean(axis=(1, 2))
    across = np.abs(np.diff(found[:, 0], axis=2)).mean(axis=(1, 2))
    np.testing.assert_allclose(down, across, rtol=0.1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 90), (90, 5), (32, 48), (200, 300)])
def test_a_plain_image_stays_plain_at_any_size(height: int, width: int) -> None:
    found = resized(np.full((32, 48, 3), 51, np.uint8), height, width)
    assert found.shape == (height, width, 3)
    np.testing.assert_allclose(found, 0.2, rtol=1e-5)


def test_the_same_size_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)
    np.testing.assert_allclose(resized(image, 12, 9), image / 255, rtol=1e-5, atol=1e-6)


def test_a_mirrored_image_is_resized_to_the_mirrored_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    for size in ((13, 11), (80, 64)):
        mirrored = resized(image[:, ::-1], *size)[:, ::-1]
        np.testing.assert_allclose(mirrored, resized(image, *size), atol=1e-5)
        turned = resized(image[::-1], *size)[::-1]
        np.testing.assert_allclose(turned, resized(image, *size), atol=1e-5)


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resized(stripes, 4, 4)[:, 1:-1] - 0.5).max() < 0.13
    edge = np.zeros((2, 2, 3), np.uint8)
    edge[:, 1] = 255
    np.testing.assert_allclose(resized(edge, 1, 4)[0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_grey_is_luminance() -> None:
    images = np.zeros((3, 3, 2, 2), np.float32)
    images[0, 0], images[1, 1], images[2, 2] = 1, 1, 1
    found = grey(images)
    assert found.shape == (3, 1, 2, 2)
    np.testing.assert_allclose(found[:, 0, 0, 0], [0.299, 0.587, 0.114], rtol=1e-6)
    np.testing.assert_allclose(grey(np.full((1, 3, 4, 4), 0.6, np.float32)), 0.6, rtol=1e-5)
