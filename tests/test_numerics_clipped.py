"""Moments of a clipped normal variable, against numerical integration, draws and what must hold of any of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_clp.numerics.clipped import clipped_moments

Float64 = NDArray[np.float64]

PLACES = np.linspace(-12, 12, 48_001)
DENSITY = np.exp(-0.5 * PLACES**2) / math.sqrt(2 * math.pi) * (PLACES[1] - PLACES[0])

means = st.floats(-6, 6)
stds = st.floats(0.01, 6)


def moments(mean: float, std: float, low: float, high: float) -> tuple[float, float]:
    first, variance = clipped_moments(np.array([mean]), np.array([std]), low, high)
    return float(first[0]), float(variance[0])


def integrated(mean: float, std: float, low: float, high: float) -> tuple[float, float]:
    """Mean and variance by the trapezoid rule over 12 stds on both sides."""
    values = np.clip(mean + std * PLACES, low, high)
    first = float(values @ DENSITY)
    return first, float((values - first) ** 2 @ DENSITY)


@given(mean=means, std=stds, low=means, width=st.floats(0, 9))
def test_they_are_those_of_the_integral(mean: float, std: float, low: float, width: float) -> None:
    found = moments(mean, std, low, low + width)
    assert found == pytest.approx(integrated(mean, std, low, low + width), rel=1e-5, abs=1e-6)


@given(mean=means, std=stds, limit=means)
def test_one_limit_alone_is_enough(mean: float, std: float, limit: float) -> None:
    for low, high in ((limit, math.inf), (-math.inf, limit)):
        assert moments(mean, std, low, high) == pytest.approx(integrated(mean, std, low, high), rel=1e-5, abs=1e-6)


@given(mean=means, std=stds)
def test_without_limits_they_are_the_normal_variables_own(mean: float, std: float) -> None:
    assert moments(mean, std, -math.inf, math.inf) == pytest.approx((mean, std**2), rel=1e-9, abs=1e-12)


@given(mean=means, std=stds, low=means, width=st.floats(0, 9))
def test_clipping_keeps_the_mean_within_the_limits_and_takes_variance_away(
    mean: float, std: float, low: float, width: float
) -> None:
    first, variance = moments(mean, std, low, low + width)
    assert low <= first <= low + width
    assert 0 <= variance <= min(std**2, width**2 / 4) * (1 + 1e-9) + 1e-9


@given(mean=means, std=stds, low=means, width=st.floats(0, 9))
def test_turning_the_sign_turns_the_mean(mean: float, std: float, low: float, width: float) -> None:
    first, variance = moments(mean, std, low, low + width)
    turned = moments(-mean, std, -low - width, -low)
    assert turned == pytest.approx((-first, variance), rel=1e-6, abs=1e-9)


@given(mean=means, low=means, width=st.floats(0, 9))
def test_a_std_of_0_is_a_constant(mean: float, low: float, width: float) -> None:
    found = moments(mean, 0.0, low, low + width)
    assert found == pytest.approx((min(max(mean, low), low + width), 0.0), abs=1e-9)


def test_relu_of_a_standard_normal_by_hand() -> None:
    """Half of it is 0; the mean of the rest is sqrt(2/pi): 1/sqrt(2 pi) in all, second moment 1/2."""
    first = 1 / math.sqrt(2 * math.pi)
    assert moments(0.0, 1.0, 0.0, math.inf) == pytest.approx((first, 0.5 - first**2), rel=1e-12)


def test_draws_agree_for_every_channel_at_once() -> None:
    generator = np.random.default_rng(0)
    mean, std = generator.normal(0, 2, 12), generator.uniform(0.1, 3, 12)
    drawn = np.clip(generator.normal(mean, std, (200_000, 12)), 0, 6)
    first, variance = clipped_moments(mean, std, 0.0, 6.0)
    np.testing.assert_allclose(first, drawn.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(variance, drawn.var(axis=0), atol=0.05)
    assert first.dtype == variance.dtype == np.float64
    assert first.shape == variance.shape == (12,)


@pytest.mark.parametrize(("mean", "low", "high"), [(500.0, 0.0, 6.0), (-500.0, 0.0, 6.0), (-500.0, 0.0, math.inf)])
def test_far_outside_the_limits_only_the_limit_is_left(mean: float, low: float, high: float) -> None:
    assert moments(mean, 1.0, low, high) == pytest.approx((np.clip(mean, low, high), 0.0), abs=1e-9)


def test_far_inside_the_limits_they_change_nothing() -> None:
    assert moments(1.0, 0.5, -1e9, 1e9) == pytest.approx((1.0, 0.25), rel=1e-9)


def test_no_channels_have_no_moments() -> None:
    first, variance = clipped_moments(np.zeros(0), np.zeros(0), 0.0, 6.0)
    assert (first.shape, variance.shape) == ((0,), (0,))
