"""The paper's threshold, by hand and by its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.numerics.outliers import find_outliers, too_few


def test_a_threshold_by_hand() -> None:
    """Scores 1, 2, 3, 6: mean 3, sum of squares 14, std sqrt(14/3) with ddof 1 (sqrt(3.5) with ddof 0)."""
    found = find_outliers(np.array([1.0, 2.0, 3.0, 6.0]), 1.3)
    std = math.sqrt(14 / 3)
    assert found.mean == pytest.approx(3)
    assert found.std == pytest.approx(std)
    assert found.threshold == pytest.approx(3 + 1.3 * std)
    np.testing.assert_allclose(found.z, (np.array([1, 2, 3, 6]) - 3) / std)
    assert found.outlying.tolist() == [False, False, False, True]


def test_the_std_is_unbiased() -> None:
    """6 lies 1.389 unbiased and 1.604 biased stds above the mean: u = 1.5 tells them apart."""
    assert not find_outliers(np.array([1.0, 2.0, 3.0, 6.0]), 1.5).outlying.any()


def test_a_score_on_the_threshold_does_not_exceed_it() -> None:
    """Scores 0, 0, 4, 0: mean 1, std 2; 4 = 1 + 1.5·2, all exact in floating point."""
    scores = np.array([0.0, 0.0, 4.0, 0.0])
    assert find_outliers(scores, 1.5).threshold == 4
    assert not find_outliers(scores, 1.5).outlying.any()
    assert find_outliers(scores, math.nextafter(1.5, 0)).outlying.tolist() == [False, False, True, False]


def test_only_high_scores_stand_out() -> None:
    scores = np.r_[np.full(30, 5.0), 0.0]
    found = find_outliers(scores, 3.0)
    assert found.z[30] < -5
    assert not found.outlying.any()


@pytest.mark.parametrize("value", [0.0, 1e-300, 0.1, 1 / 3, 7e200])
@pytest.mark.parametrize("channels", [1, 2, 64, 1000])
def test_equal_scores_have_no_outlier(value: float, channels: int) -> None:
    found = find_outliers(np.full(channels, value), 3.0)
    assert found.std == 0
    assert not found.outlying.any()
    assert (found.z == 0).all()
    assert found.threshold == pytest.approx(value)


def test_equal_scores_up_to_rounding_have_no_outlier() -> None:
    scores = np.full(64, 0.1)
    scores[7] = math.nextafter(0.1, 1)
    assert not find_outliers(scores, 3.0).outlying.any()


def test_huge_scores_do_not_overflow() -> None:
    scores = np.full(20, 1e300)
    scores[4] = 1e308
    found = find_outliers(scores, 3.0)
    assert np.flatnonzero(found.outlying).tolist() == [4]
    assert math.isfinite(found.std)
    assert math.isfinite(found.threshold)


@pytest.mark.parametrize(
    ("channels", "u", "short"),
    [
        (10, 3.0, True),  # 9/sqrt(10) = 2.846
        (11, 3.0, False),  # 10/sqrt(11) = 3.015
        (4, 1.5, True),  # 3/2 is not above 1.5
        (5, 1.5, False),  # 4/sqrt(5) = 1.789
        (1, 0.001, True),
        (2, 0.7, False),  # 1/sqrt(2) = 0.7071
        (2, 0.71, True),
        (0, 1.0, True),
    ],
)
def test_few_channels_cannot_be_judged(channels: int, u: float, short: bool) -> None:
    assert too_few(channels, u) is short


@given(st.integers(2, 400), st.floats(0.1, 10))
def test_too_few_means_that_even_a_lone_spike_stays_below(channels: int, u: float) -> None:
    spike = np.zeros(channels)
    spike[0] = 1.0
    reach = (channels - 1) / math.sqrt(channels)
    if abs(reach - u) > 1e-9:
        assert find_outliers(spike, u).outlying.any() == (not too_few(channels, u))


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=60),
    st.floats(0.5, 4),
    st.floats(1e-3, 1e3),
)
def test_scale_and_order_do_not_matter(values: list[float], u: float, factor: float) -> None:
    scores = np.array(values)
    order = np.random.default_rng(len(values)).permutation(len(values))
    found = find_outliers(scores, u)
    near = np.abs(scores - found.threshold) <= 1e-9 * max(found.threshold, 1e-300)
    if found.std < 1e-9 * scores.max() or near.any():
        return
    assert (find_outliers(scores * factor, u).outlying == found.outlying).all()
    assert (find_outliers(scores[order], u).outlying == found.outlying[order]).all()
