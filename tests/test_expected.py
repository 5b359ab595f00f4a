"""What a channel is on average behind its normalisation, and where nothing tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp.cap.bound_activations import record
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.expected import Expectations, Expected
from onnx_clp.numerics.clipped import clipped_moments
from tests.forms.build import bn, model

Array = NDArray[Any]

CHANNELS = 6
SIX = "k = Constant<value_float = 6.0>() z = Constant<value_float = 0.0>() "


def built(body: str, **facts: Any) -> ModelProto:
    given: dict[str, Any] = {"w": (CHANNELS, 3, 3, 3), **bn(CHANNELS), **facts}
    return model(body, x="float[1,3,8,8] x", **given)()


def indexed(proto: ModelProto) -> ModelIndex:
    return ModelIndex(proto, TensorStore())


def expectation(body: str, value: str = "n", channels: int = CHANNELS, **facts: Any) -> Expected | None:
    main: GraphIndex = indexed(built(body, **facts)).main
    return Expectations(record(main)).of(main, value, channels)


NORMAL = "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) "
BETA, GAMMA = (bn(CHANNELS)[name].astype(np.float64) for name in "bg")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rest", "low", "high"),
    [
        ("y = Relu(n)", 0.0, np.inf),
        (f"{SIX} y = Clip(n, z, k)", 0.0, 6.0),
        (f"{SIX} y = Clip(n, , k)", -np.inf, 6.0),
        ("y = Sigmoid(n)", -np.inf, np.inf),
        ("y = LeakyRelu(n)", -np.inf, np.inf),
        ("r = Relu(n) y = Add(n, r)", -np.inf, np.inf),
        ("y = Identity(n)", -np.inf, np.inf),
    ],
)
def test_what_counts_is_the_mean_behind_the_activation_that_alone_reads_it(rest: str, low: float, high: float) -> None:
    found = expectation(NORMAL + rest)
    assert found is not None
    mean, variance = clipped_moments(BETA, np.abs(GAMMA), low, high)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.spread, variance / variance.mean(), rtol=1e-9)
    if not np.isfinite([low, high]).any():
        np.testing.assert_allclose(found.mean, BETA)
        np.testing.assert_allclose(found.spread, GAMMA**2 / (GAMMA**2).mean())


def test_a_clip_with_its_limits_the_wrong_way_round_is_none() -> None:
    found = expectation(f"{NORMAL} {SIX} y = Clip(n, k, z)")
    assert found is not None
    np.testing.assert_allclose(found.mean, BETA)


def test_limits_that_are_no_constants_are_none() -> None:
    found = expectation(f"{NORMAL} h = ReduceMax<keepdims = 0>(x) y = Clip(n, , h)")
    assert found is not None
    np.testing.assert_allclose(found.mean, BETA)


def test_an_activation_that_reads_it_elsewhere_than_at_its_data_is_none() -> None:
    body = "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) s = Constant<value_float = 1.0>() y = Max(s, n)"
    found = expectation(body)
    assert found is not None
    np.testing.assert_allclose(found.mean, BETA)


@pytest.mark.parametrize(("value", "channels"), [("c", CHANNELS), ("y", CHANNELS), ("n", CHANNELS + 1), ("q", 6)])
def test_where_no_normalisation_tells_nothing_is_known(value: str, channels: int) -> None:
    assert expectation(NORMAL + "y = Relu(n)", value, channels) is None
    assert expectation(NORMAL + "y = Relu(n)") is not None


def test_without_statistics_nothing_is_known() -> None:
    main = indexed(built("c = Conv(x, w) y = Relu(c)")).main
    assert Expectations([]).of(main, "c", CHANNELS) is None


def test_another_scopes_value_of_the_same_name_is_another() -> None:
    one, other = (indexed(built(NORMAL + "y = Relu(n)")).main for _ in range(2))
    expectations = Expectations(record(one))
    assert expectations.of(one, "n", CHANNELS) is not None
    assert expectations.of(other, "n", CHANNELS) is None


def test_a_channel_that_never_varies_has_a_spread_of_0() -> None:
    scale = np.where(np.arange(CHANNELS) == 2, 0, 1).astype(np.float32)
    found = expectation(NORMAL + "y = Relu(n)", g=scale)
    assert found is not None
    assert found.mean[2] == pytest.approx(max(BETA[2], 0), abs=1e-9)
    assert found.spread[2] == pytest.approx(0, abs=1e-9)
    assert (np.delete(found.spread, 2) > 0.01).all()
