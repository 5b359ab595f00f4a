"""The photographs that the package ships, and the form they are kept in."""

from __future__ import annotations

import zipfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_clp.gauge.photographs import BASIS, SHIPPED, load
from tools.photographs.__main__ import save

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def shipped() -> list[Bytes]:
    return load()


def test_there_are_two_dozen_of_ordinary_size(shipped: list[Bytes]) -> None:
    assert len(shipped) == 24
    for photograph in shipped:
        height, width, channels = photograph.shape
        assert photograph.dtype == np.uint8
        assert channels == 3
        assert min(height, width) >= 224
        assert height % 16 == width % 16 == 0


def test_they_are_varied_and_use_the_whole_range(shipped: list[Bytes]) -> None:
    for photograph in shipped:
        assert photograph.std() > 20
        assert int(photograph.max()) - int(photograph.min()) > 150
    means = np.array([photograph.mean(axis=(0, 1)) for photograph in shipped])
    assert np.ptp(means, axis=0).min() > 50
    corners = [photograph[:224:4, :224:4].astype(float) for photograph in shipped]
    assert min(np.abs(one - other).mean() for one, other in combinations(corners, 2)) > 10


def test_they_are_in_colour(shipped: list[Bytes]) -> None:
    apart = [np.ptp(photograph.astype(int), axis=2).mean() for photograph in shipped]
    assert sum(one > 5 for one in apart) > 16


def test_the_file_is_small_and_holds_numbers_alone() -> None:
    assert SHIPPED.stat().st_size < 1_000_000
    with zipfile.ZipFile(SHIPPED) as archive:
        assert sorted(archive.namelist()) == ["high.npy", "low.npy", "size.npy"]


def test_reading_them_again_gives_the_same(shipped: list[Bytes]) -> None:
    again = load()
    assert all(np.array_equal(one, other) for one, other in zip(shipped, again, strict=True))
    again[0][:] = 0
    assert load()[0].any()


def smooth(height: int, width: int, seed: int) -> Bytes:
    """A picture of slow waves, one a channel."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width] / 32
    waves = [np.sin(down * a + across * b + c) for a, b, c in generator.uniform(0, 1.5, (3, 3))]
    return np.asarray(128 + 60 * np.stack(waves, axis=2), np.uint8)


def test_what_is_saved_comes_back_nearly_as_it_was(tmp_path: Path) -> None:
    pictures = [smooth(32, 48, 0), smooth(64, 16, 1)]
    save(tmp_path / "p.npz", pictures)
    found = load(tmp_path / "p.npz")
    for one, other in zip(found, pictures, strict=True):
        assert one.shape == other.shape
        assert one.dtype == np.uint8
        apart = np.abs(one.astype(int) - other)
        assert apart.mean() < 4
        assert apart.max() < 32


def test_saving_what_was_loaded_loses_little_more(shipped: list[Bytes], tmp_path: Path) -> None:
    save(tmp_path / "p.npz", shipped[:2])
    for one, other in zip(load(tmp_path / "p.npz"), shipped, strict=False):
        assert np.abs(one.astype(int) - other).mean() < 1.5


@pytest.mark.parametrize("value", [0, 7, 128, 255])
def test_a_plain_picture_comes_back_plain(value: int, tmp_path: Path) -> None:
    save(tmp_path / "p.npz", [np.full((16, 32, 3), value, np.uint8)])
    (found,) = load(tmp_path / "p.npz")
    assert np.ptp(found) == 0
    assert abs(int(found[0, 0, 0]) - value) <= 1


@pytest.mark.parametrize("shape", [(24, 32, 3), (32, 40, 3)])
def test_a_side_that_is_no_multiple_of_16_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        save(tmp_path / "p.npz", [np.zeros(shape, np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_the_transform_is_orthonormal() -> None:
    np.testing.assert_allclose(BASIS @ BASIS.T, np.eye(64), atol=1e-6)
    np.testing.assert_allclose(BASIS[0], np.full(64, 1 / 8), rtol=1e-6)
