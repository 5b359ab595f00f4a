"""The threshold rules, by hand and by their properties."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp import config
from onnx_clp.config.rules import FACTS
from onnx_clp.numerics.outliers import RULES, Float64, find_outliers, too_few, why_too_few


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


# --- the other rules ----------------------------------------------------------------------------------

NAMES = sorted(RULES)
MARKED = st.lists(st.floats(0, 1e6), min_size=3, max_size=40).map(np.array)


def oracle(scores: Float64, rule: str) -> Float64:
    """Each channel's distance by its rule's definition, channel by channel."""
    if rule == "loo":
        rest = [np.delete(scores, c) for c in range(len(scores))]
        return np.array([(s - r.mean()) / r.std(ddof=1) for s, r in zip(scores, rest, strict=True)])
    if rule == "mad":
        deviations = np.abs(scores - np.median(scores))
        return np.asarray((scores - np.median(scores)) / (1.4826022185 * np.median(deviations)))
    return np.asarray((scores - scores.mean()) / scores.std(ddof=1))


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("channels", [8, 11, 64])
def test_every_rule_is_what_its_definition_says(rule: str, channels: int) -> None:
    source = np.random.default_rng(channels)
    for u in (1.0, 2.0, 3.5):
        scores = source.gamma(4.0, size=channels)
        z = oracle(scores, rule)
        found = find_outliers(scores, u, rule)
        np.testing.assert_allclose(found.z, z, rtol=1e-6)
        wanted = (z > u) | ((z < -u) & (rule == "two-sided"))
        assert (found.outlying == (wanted if not too_few(channels, u, rule) else False)).all()
        assert (scores > found.threshold).tolist() == (z > u).tolist()


def test_the_configuration_names_every_rule() -> None:
    prunes_nothing = "inverted"
    assert {*get_args(config.Rule)} == {*RULES, "exact", prunes_nothing}
    assert RULES.keys() == FACTS.keys()


@pytest.mark.parametrize("rule", ["loo", "mad"])
def test_one_outlier_of_few_channels_is_found_by_the_rules_that_leave_it_out(rule: str) -> None:
    scores = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 50.0])
    assert find_outliers(scores, 3.0, rule).outlying.tolist() == [False] * 7 + [True]
    for blind in ("paper", "gain", "two-sided"):
        assert too_few(8, 3.0, blind)
        assert not find_outliers(scores, 3.0, blind).outlying.any()


@pytest.mark.parametrize("rule", ["loo", "mad"])
def test_seven_channels_are_too_few_even_for_those(rule: str) -> None:
    scores = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 50.0])
    assert too_few(7, 3.0, rule)
    assert not too_few(8, 1e9, rule)
    assert not find_outliers(scores, 3.0, rule).outlying.any()
    assert "7 channels are too few" in why_too_few(7, rule)
    assert "2.27 std" in why_too_few(7)


@pytest.mark.parametrize(("channels", "expected"), [(3, 0.37), (4, 0.24), (8, 0.12), (64, 0.13)])
def test_the_least_number_of_channels_rests_on_these_chances(channels: int, expected: float) -> None:
    from scipy import stats

    tail = stats.t.sf(3 * math.sqrt((channels - 1) / channels), channels - 2)
    assert channels * tail == pytest.approx(expected, abs=0.006)
    normal = np.random.default_rng(0).normal(10, 1, size=(4000, channels))
    a = (normal - normal.mean(1, keepdims=True)) / normal.std(1, ddof=1, keepdims=True)
    rest = ((channels - 1) - a**2 * channels / (channels - 1)) / (channels - 2)
    marked = a * channels / (channels - 1) / np.sqrt(rest) > 3
    assert marked.sum(1).mean() == pytest.approx(expected, rel=0.2)


def test_two_outliers_hide_each_other_from_the_paper_and_not_from_mad() -> None:
    scores = np.r_[np.linspace(0.9, 1.1, 12), 9.0, 9.1]
    assert not find_outliers(scores, 3.0).outlying.any()
    assert np.flatnonzero(find_outliers(scores, 3.0, "mad").outlying).tolist() == [12, 13]


def test_mad_is_not_zero_where_over_half_of_the_scores_are_equal() -> None:
    scores = np.r_[np.full(20, 1.0), 1.2, 0.8, 1.1, 9.0]
    found = find_outliers(scores, 3.0, "mad")
    assert found.spread == pytest.approx(math.sqrt(math.pi / 2) * np.abs(scores - 1).mean())
    assert np.flatnonzero(found.outlying).tolist() == [23]
    mostly_dead = np.r_[np.zeros(20), 1.0, 1.1, 0.9]
    assert np.isfinite(find_outliers(mostly_dead, 3.0, "mad").z).all()


def test_two_sided_takes_low_channels_and_leaves_dead_ones() -> None:
    scores = np.r_[np.linspace(9.5, 10.5, 60), 0.5, 0.0]
    found = find_outliers(scores, 3.0, "two-sided")
    assert found.lower is not None
    assert found.lower > 0.5
    assert np.flatnonzero(found.outlying).tolist() == [60]
    assert found.z[60] < -3
    assert found.max_z == pytest.approx(-found.z[60])
    assert not find_outliers(scores, 3.0).outlying.any()


def test_two_sided_has_no_lower_limit_where_nothing_can_lie_below() -> None:
    scores = np.r_[np.linspace(0.1, 2.0, 30), 0.0]
    assert find_outliers(scores, 3.0, "two-sided").lower is None


@given(MARKED, st.floats(0.5, 5))
def test_two_sided_marks_all_that_the_paper_marks_and_only_low_ones_more(scores: Float64, u: float) -> None:
    paper, both = find_outliers(scores, u), find_outliers(scores, u, "two-sided")
    more = both.outlying & ~paper.outlying
    assert not (paper.outlying & ~both.outlying).any()
    assert (both.z[more] < -u + 1e-9).all()
    assert (scores[more] > 0).all()


@given(MARKED, st.floats(0.5, 5))
def test_leaving_one_out_marks_all_that_the_paper_marks(scores: Float64, u: float) -> None:
    """Where it judges at all: leaving a high channel out lowers the mean and the std it is held against."""
    if not too_few(len(scores), u, "loo"):
        paper, loo = find_outliers(scores, u), find_outliers(scores, u, "loo")
        assert not (paper.outlying & ~loo.outlying).any()


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-300, 0.1, 7e200])
@pytest.mark.parametrize("channels", [1, 2, 3, 64])
def test_equal_scores_have_no_outlier_by_any_rule(rule: str, value: float, channels: int) -> None:
    found = find_outliers(np.full(channels, value), 3.0, rule)
    assert not found.outlying.any()
    assert (found.z == 0).all()
    assert (found.std, found.spread, found.max_z) == (0, 0, 0)


@pytest.mark.parametrize("rule", NAMES)
@given(scores=st.lists(st.floats(0, 1e300), min_size=1, max_size=30).map(np.array), u=st.floats(1e-200, 1e200))
def test_no_rule_gives_nan_or_infinity(rule: str, scores: Float64, u: float) -> None:
    found = find_outliers(scores, u, rule)
    assert np.isfinite(found.z).all()
    assert not math.isnan(found.threshold)
    for value in (found.mean, found.std, found.centre, found.spread, found.max_z):
        assert math.isfinite(value)
    assert found.rule == rule


@pytest.mark.parametrize("rule", NAMES)
@given(scores=MARKED, u=st.floats(0.5, 4), power=st.integers(-20, 20), seed=st.integers(0, 99))
def test_no_rule_depends_on_scale_or_order(rule: str, scores: Float64, u: float, power: int, seed: int) -> None:
    """Powers of two and integer order leave every rounding but that of the sums in place."""
    order = np.random.default_rng(seed).permutation(len(scores))
    found = find_outliers(scores, u, rule)
    limits = [found.threshold] if found.lower is None else [found.threshold, found.lower]
    size = max(float(scores.max()), 1e-300)
    if found.spread < 1e-6 * size or any((np.abs(scores - limit) < 1e-9 * size).any() for limit in limits):
        return
    moved = find_outliers(scores[order] * 2.0**power, u, rule)
    assert (moved.outlying == found.outlying[order]).all()
    assert moved.threshold == pytest.approx(found.threshold * 2.0**power)


@pytest.mark.parametrize("rule", ["loo", "mad"])
@given(spike=st.floats(2, 1e6), channels=st.integers(8, 50))
def test_a_lone_outlier_is_always_found_where_it_is_left_out(rule: str, spike: float, channels: int) -> None:
    scores = np.linspace(0.99, 1.01, channels)
    scores[3] = spike
    assert np.flatnonzero(find_outliers(scores, 3.0, rule).outlying).tolist() == [3]
