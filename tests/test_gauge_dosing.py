"""How far a dose goes: the order of the channels, how many of them go, how low the caps are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from onnx_clp.document.gauge import Loss, OutputChange, Prediction
from onnx_clp.gauge import dosing
from onnx_clp.gauge.dosing import LADDER, Allowance, Channel, DialDose
from onnx_clp.gauge.request import Dial, Switch


def dial(z: tuple[float, ...], channels: int = 8, axis: int = 3, **changes: Any) -> Dial:
    given_: dict[str, Any] = {"data_type": TensorProto.FLOAT, "fills": None, "spreads": None, **changes}
    outlying = tuple(range(1, 1 + len(z)))
    switch = Switch(value="v", channels=channels, axis_from_end=axis, outlying=outlying, z=z, **given_)
    return Dial(switch, f"off{len(z)}", f"fill{len(z)}", "before")


class Bench:
    """Counts what is measured; a dose costs what its channels (by place) and caps cost."""

    def __init__(self, cost: Callable[[DialDose], float]) -> None:
        self.asked: list[DialDose] = []
        self._cost = cost

    def __call__(self, dose: DialDose) -> Prediction:
        self.asked.append(dose)
        high = self._cost(dose)
        return Prediction(Loss(high / 3, high / 9, high), ())


def steps(costs: list[float]) -> tuple[list[Channel], Bench]:
    channels = [Channel(0, place, 9.0 - place) for place in range(len(costs))]
    return channels, Bench(lambda dose: math.fsum(costs[one.place] for one in dose.off))


# --- the order ----------------------------------------------------------------------------------------


def test_a_channel_that_lies_far_out_and_hardly_varies_goes_first() -> None:
    dials = [dial((4.0, 8.0)), dial((5.0,))]
    found = dosing.ordered(dials, [np.array([1.0, 1.0]), np.array([0.1])])
    assert found == [Channel(1, 0, 5.0), Channel(0, 1, 8.0), Channel(0, 0, 4.0)]


def test_channels_below_count_by_their_distance_and_dead_ones_do_not_divide_by_0() -> None:
    found = dosing.ordered([dial((-6.0, 4.0, 5.0))], [np.array([1.0, 0.0, 1e-9])])
    assert [one.z for one in found] == [5.0, 4.0, -6.0]
    assert dosing.ordered([], []) == []


# --- how many -----------------------------------------------------------------------------------------


@given(
    costs=st.lists(st.floats(0, 0.02), max_size=40),
    budget=st.floats(1e-6, 0.2),
)
def test_the_longest_beginning_within_the_budget_is_found(costs: list[float], budget: float) -> None:
    channels, bench = steps(costs)
    found, prediction = dosing.longest(channels, None, Allowance(budget), bench)
    fits = [n for n in range(len(costs) + 1) if math.fsum(costs[:n]) <= budget]
    assert len(found.off) == max(fits)
    assert list(found.off) == channels[: max(fits)]
    assert prediction.loss.high == math.fsum(costs[: max(fits)]) <= budget
    assert len(bench.asked) <= 3 + math.ceil(math.log2(max(len(costs), 1)))


def test_where_all_fit_one_measurement_is_enough() -> None:
    channels, bench = steps([0.001] * 30)
    found, _ = dosing.longest(channels, None, Allowance(0.5), bench)
    assert len(found.off) == 30
    assert len(bench.asked) == 1


def test_without_channels_the_caps_alone_are_measured() -> None:
    channels, bench = steps([])
    assert dosing.longest(channels, 2.5, Allowance(0.0), bench)[0] == DialDose((), 2.5)
    assert bench.asked == [DialDose((), 2.5)]


def test_caps_are_part_of_every_dose() -> None:
    channels = [Channel(0, place, 5.0) for place in range(4)]
    bench = Bench(lambda dose: 0.1 * len(dose.off) + (0.15 if dose.caps == 3.0 else 0))
    found, prediction = dosing.longest(channels, 3.0, Allowance(0.36), bench)
    assert (len(found.off), found.caps) == (2, 3.0)
    assert prediction.loss.high == pytest.approx(0.35)
    assert {dose.caps for dose in bench.asked} == {3.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.05, 1))
def test_nothing_above_the_budget_is_given_whatever_the_losses(highs: list[float], budget: float) -> None:
    """Losses that go up and down with the number of channels, 0 without any."""
    channels = [Channel(0, place, 5.0) for place in range(len(highs))]
    bench = Bench(lambda dose: highs[len(dose.off) - 1] if dose.off else 0.0)
    found, prediction = dosing.longest(channels, None, Allowance(budget), bench)
    assert prediction.loss.high <= budget
    assert prediction.loss.high == (highs[len(found.off) - 1] if found.off else 0.0)


def answers(changed: float, kind: str = "classes") -> Prediction:
    return Prediction(Loss(0.0, 0.0, 0.001), (OutputChange("y", kind, changed=changed),))  # type: ignore[arg-type]


def test_answers_that_change_count_beside_the_loss() -> None:
    assert Allowance(0.01, 0.02).holds(answers(0.02))
    assert not Allowance(0.01, 0.02).holds(answers(0.03))
    assert Allowance(0.01).holds(answers(1.0))
    assert not Allowance(0.0001, 0.02).holds(answers(0.0))
    assert Allowance(0.01, 0.02).holds(answers(0.5, "discrete"))


def test_the_output_whose_answers_change_most_decides() -> None:
    both = answers(0.0).outputs + answers(0.5).outputs
    assert not Allowance(1.0, 0.02).holds(Prediction(Loss(0.0, 0.0, 0.0), both))


def test_no_more_channels_go_than_answers_may_change() -> None:
    channels = [Channel(0, place, 5.0) for place in range(8)]
    found, prediction = dosing.longest(
        channels, None, Allowance(0.01, 0.02), lambda dose: answers(0.005 * len(dose.off))
    )
    assert (len(found.off), prediction.outputs[0].changed) == (4, 0.02)


# --- the caps -----------------------------------------------------------------------------------------


def caps(cost: Callable[[float], float]) -> Bench:
    return Bench(lambda dose: 0.0 if dose.caps is None else cost(dose.caps))


@pytest.mark.parametrize("fits", LADDER)
def test_the_lowest_caps_within_the_budget_are_found(fits: float) -> None:
    bench = caps(lambda c: 0.005 if c >= fits else 0.05)
    found, prediction = dosing.lowest(0.0, Allowance(0.01), bench)
    assert found == fits
    assert prediction.loss.high == 0.005
    assert len(bench.asked) <= 4


def test_caps_are_no_lower_than_asked_for() -> None:
    bench = caps(lambda _: 0.0)
    assert dosing.lowest(2.7, Allowance(0.01), bench)[0] == 2.7
    assert all(dose.caps is not None and dose.caps >= 2.7 for dose in bench.asked)
    assert dosing.lowest(2.7, Allowance(0.01), caps(lambda c: 0.05 / c**3))[0] == 2.7
    assert dosing.lowest(2.7, Allowance(0.001), caps(lambda c: 0.05 / c**3))[0] == 4.0
    assert dosing.lowest(20.0, Allowance(0.01), caps(lambda _: 0.0))[0] == 20.0


def test_where_no_caps_fit_there_are_none() -> None:
    found, prediction = dosing.lowest(0.0, Allowance(0.01), caps(lambda _: 0.5))
    assert found is None
    assert prediction.loss.high == 0.0
    assert dosing.lowest(20.0, Allowance(0.01), caps(lambda _: 0.5))[0] is None


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 1))
def test_caps_never_exceed_the_budget(highs: list[float], budget: float) -> None:
    by_caps = dict(zip(LADDER, highs, strict=True))
    found, prediction = dosing.lowest(0.0, Allowance(budget), caps(lambda c: by_caps[c]))
    assert prediction.loss.high == (0.0 if found is None else by_caps[found])
    assert prediction.loss.high <= budget


# --- what is fed --------------------------------------------------------------------------------------


def test_dials_are_fed_masks_and_fills_of_their_shape() -> None:
    dials = [dial((4.0, 5.0)), dial((6.0,), channels=4, axis=1)]
    dose = DialDose((Channel(0, 1, 5.0), Channel(1, 0, 6.0)))
    fills = [np.array([0.25, -0.5]), np.array([2.0])]
    given_ = dosing.feeds(dials, fills, dose, {"fill2": np.dtype(np.float32), "fill1": np.dtype(np.float16)})
    assert given_["off2"].shape == given_["fill2"].shape == (8, 1, 1)
    assert np.flatnonzero(given_["off2"]).tolist() == [2]
    assert given_["fill2"].ravel().tolist() == [0, 0.25, -0.5, 0, 0, 0, 0, 0]
    assert given_["off1"].tolist() == [False, True, False, False]
    assert given_["fill1"].dtype == np.float16
    assert given_["off1"].dtype == given_["off2"].dtype == np.bool_
    nothing = dosing.feeds(dials, fills, DialDose(()), {"fill2": np.dtype(np.float32), "fill1": np.dtype(np.float16)})
    assert not nothing["off1"].any()
    assert not nothing["off2"].any()


@pytest.mark.parametrize(
    ("value", "dtype", "stored"),
    [(0.0, np.uint8, 10), (1.26, np.uint8, 13), (1e9, np.uint8, 255), (-1e9, np.uint8, 0), (-1e9, np.int8, -128)],
)
def test_a_quantised_value_is_fed_what_its_number_is_stored_as(
    value: float, dtype: type[np.generic], stored: int
) -> None:
    one = dial((4.0,), quantum=(0.5, 10.0))
    given_ = dosing.feeds([one], [np.array([value])], DialDose(()), {"fill1": np.dtype(dtype)})
    assert given_["fill1"].dtype == dtype
    assert given_["fill1"].ravel()[1] == stored
    assert given_["fill1"].ravel()[0] == 10
