"""Directions in channel space: what is found, what the cap takes away, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_clp.numerics import directions
from onnx_clp.numerics.directions import Fit, fit

Float64 = NDArray[np.float64]


def cloud(seed: int, channels: int, count: int) -> tuple[Float64, Float64]:
    """Correlated clean positions with an offset, and a unit vector."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(count, channels)) @ rng.normal(size=(channels, channels)) + rng.normal(size=channels) * 5
    u = rng.normal(size=channels)
    return clean, u / np.linalg.norm(u)


def found(clean: Float64, pushed: Float64, quantile: float = 0.9) -> Fit:
    made = fit(clean, pushed, quantile)
    assert made is not None
    return made


PLACES = given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(3, 120), st.floats(0.1, 50))


@PLACES
def test_a_planted_shift_is_found_and_cut_back(seed: int, channels: int, count: int, size: float) -> None:
    clean, u = cloud(seed, channels, count)
    made = found(clean, np.outer(np.full(count, size), u))
    one = made.direction
    np.testing.assert_allclose(one.u, u, atol=1e-6)
    assert one.v @ one.u == pytest.approx(1, abs=1e-9)
    along, limit = clean @ one.v + one.offset, 1e-8 * max(1.0, float(np.abs(clean).max() * np.abs(one.v).sum()))
    assert (one.cut(clean + 1e3 * size * u) @ one.v + one.offset).max() <= limit
    inside = along < -limit
    assert (one.cut(clean)[inside] == clean[inside]).all()
    np.testing.assert_allclose(
        one.cut(clean + size * u) - one.cut(clean),
        np.outer(np.maximum(along + size, 0) * -1 + size + np.maximum(along, 0), u),
        atol=1e-6 * (1 + size) * (1 + limit * 1e8),
    )


@PLACES
def test_the_order_of_channels_does_not_matter(seed: int, channels: int, count: int, size: float) -> None:
    clean, u = cloud(seed, channels, count)
    rng = np.random.default_rng(seed + 1)
    pushed = np.outer(size * rng.uniform(0.5, 1.5, count), u) + 0.01 * size * rng.normal(size=(count, channels))
    order = rng.permutation(channels)
    one, other = found(clean, pushed), found(clean[:, order], pushed[:, order])
    assume(np.linalg.norm(one.direction.v) < 1e3)
    np.testing.assert_allclose(other.direction.u, one.direction.u[order], atol=1e-7)
    np.testing.assert_allclose(other.direction.v, one.direction.v[order], atol=1e-5)
    assert other.direction.offset == pytest.approx(one.direction.offset, rel=1e-5, abs=1e-4)
    assert other.shift == pytest.approx(one.shift, rel=1e-5)


def test_v_reads_what_correlated_channels_share() -> None:
    """Two channels that move together: their difference is quiet, so a push along one alone is read from it."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=4000)
    clean = np.stack([common, common + 0.05 * rng.normal(size=4000)], axis=1)
    made = found(clean, np.tile([1.0, 0.0], (10, 1)))
    assert made.direction.v == pytest.approx([1, -1], abs=0.02)
    assert made.shift > 5
    assert found(clean, np.tile([-1.0, 0.0], (10, 1))).direction.v == pytest.approx([-1, 1], abs=0.02)


@pytest.mark.parametrize(("quantile", "share"), [(0.99, 0.01), (0.8, 0.2), (0.5, 0.5)])
def test_the_quantile_says_what_share_is_cut(quantile: float, share: float) -> None:
    clean, u = cloud(3, 6, 2000)
    made = found(clean, np.outer(np.ones(5), u), quantile)
    assert made.beyond == pytest.approx(share, abs=1e-3)
    assert (made.direction.beyond(clean) > 1e-9).mean() == pytest.approx(share, abs=1e-3)


def test_clean_positions_that_are_all_alike_are_read_along_u() -> None:
    made = found(np.full((5, 3), 2.0), np.tile([0.0, 3.0, 4.0], (2, 1)))
    np.testing.assert_allclose(made.direction.v, [0, 0.6, 0.8], atol=1e-12)
    np.testing.assert_allclose(made.direction.cut(np.array([[2.0, 5.0, 6.0]])), [[2.0, 2.0, 2.0]], atol=1e-9)


def test_many_channels_and_few_positions_give_the_same_as_all_eigenvectors() -> None:
    clean, u = cloud(5, 300, 20)
    made = found(clean, np.outer([1.0, 2.0], u))
    np.testing.assert_allclose(made.direction.u, u, atol=1e-6)
    assert made.direction.v @ u == pytest.approx(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_is_found_where_nothing_moves_or_something_is_not_finite(bad: float) -> None:
    clean, u = cloud(1, 4, 30)
    assert fit(clean, np.zeros((3, 4)), 0.9) is None
    assert fit(clean, np.full((3, 4), 1e-12), 0.9) is None
    assert fit(clean, np.full((3, 4), bad), 0.9) is None
    spoilt = clean.copy()
    spoilt[0, 0] = bad
    assert fit(spoilt, np.tile(u, (3, 1)), 0.9) is None
    assert fit(clean, np.tile(u, (3, 1)), 0.9) is not None


@pytest.mark.parametrize("channels", [200, 300, 600])
def test_the_first_direction_of_many_channels_is_that_of_the_whole_spectrum(channels: int) -> None:
    rng = np.random.default_rng(channels)
    pushed = rng.normal(size=(500, channels)) * 0.1 + np.outer(rng.random(500) + 0.5, rng.normal(size=channels))
    found = directions._first(pushed)
    truth = np.linalg.eigh(pushed.T @ pushed)[1][:, -1]
    assert abs(found @ truth) == pytest.approx(1, abs=1e-12)
    lone = np.zeros((50, channels))
    lone[:, 7], lone[:, 9] = 1.0, -1.0
    assert np.abs(directions._first(lone))[[7, 9]] == pytest.approx([0.5**0.5] * 2)
    assert (directions._first(lone) == directions._first(lone)).all()
