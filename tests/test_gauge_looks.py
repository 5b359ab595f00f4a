"""A dose that costs too much is given up after a part of the images, and no other is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from onnx_clp.document.gauge import Loss, OutputChange, Prediction
from onnx_clp.gauge.dosing import Allowance, DialDose
from onnx_clp.gauge.worker import _looks, _Trial

DOSE = DialDose(())


class Trial(SimpleNamespace):
    """What `measure` needs of a trial: images that cost so much each, and how many of them were run."""

    def __init__(self, costs: list[float], ways: int = 1) -> None:
        super().__init__(_known={}, _looks=_looks(len(costs), ways), _images=costs, _bench=self, _feeds=lambda _: {})
        self.run = 0

    def answers(self, images: list[float], _: dict[str, Any]) -> dict[str, list[float]]:
        self.run += len(images)
        return {"y": images}

    def _foretold(self, after: dict[str, list[float]]) -> Prediction:
        mean = float(np.mean(after["y"]))
        return Prediction(Loss(mean, mean, mean), (OutputChange("y", "classes", changed=mean),))

    def _send(self, line: str) -> None:
        pass

    def measure(self, allowed: Allowance | None) -> Prediction:
        return _Trial.measure(cast("_Trial", self), DOSE, allowed)


def test_a_dose_that_costs_far_too_much_runs_a_third_of_the_images() -> None:
    trial = Trial([0.5] * 144)
    assert trial.measure(Allowance(0.1)).loss.high == 0.5
    assert trial.run == 48
    assert not trial._known


def test_classes_that_change_too_often_are_enough() -> None:
    trial = Trial([0.5] * 144)
    trial.measure(Allowance(1.0, changed=0.1))
    assert trial.run == 48


def test_a_dose_that_costs_a_little_too_much_runs_two_thirds() -> None:
    trial = Trial([0.2] * 144)
    assert not Allowance(0.1).holds(trial.measure(Allowance(0.1)))
    assert trial.run == 96


def test_one_that_is_wanted_whole_runs_all_of_them_and_is_known() -> None:
    trial = Trial([0.5] * 144)
    assert trial.measure(None) is trial.measure(Allowance(0.1))
    assert trial.run == 144


def test_few_images_are_not_parted() -> None:
    trial = Trial([0.5] * 11)
    trial.measure(Allowance(0.1))
    assert trial.run == 11


@given(
    costs=st.lists(st.floats(0, 1), min_size=1, max_size=200),
    budget=st.floats(0.01, 1),
    ways=st.integers(1, 3),
)
def test_no_dose_that_holds_is_given_up(costs: list[float], budget: float, ways: int) -> None:
    costs = costs * ways
    allowed, trial = Allowance(budget), Trial(costs, ways)
    assume(abs(np.mean(costs) - budget) > 1e-9)
    holds = np.mean(costs) <= budget
    found = trial.measure(allowed)
    assert allowed.holds(found) == holds
    if holds:
        assert trial.run == len(costs)
        assert found.loss.high == float(np.mean(costs))


@given(images=st.integers(1, 600), ways=st.integers(1, 4))
def test_parts_are_whole_runs_of_images_in_all_their_ways(images: int, ways: int) -> None:
    looks = _looks(images * ways, ways)
    assert (looks[0], looks[-1]) == (0, images * ways)
    assert looks == sorted(set(looks))
    assert all(one % (8 * ways) == 0 for one in looks[:-1])
