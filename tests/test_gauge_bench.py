"""Images through a model, several at once: in order, filled up where the batch is fixed, one by one where they must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_clp.gauge.bench import TOGETHER, Bench
from onnx_clp.validation.session import FailureKind, Feeds, Outputs, RunError, Signature

Array = NDArray[Any]
IMAGES = [{"x": np.full((1, 2), float(at))} for at in range(20)]


class Model:
    """A runner whose output y is `answer` of its input x; it notes the rows of every run."""

    provider = "test"
    placed: Mapping[str, int] = {}
    inputs: Signature = ()
    outputs: Signature = ()

    def __init__(self, answer: Callable[[Array], Array]) -> None:
        self.rows: list[int] = []
        self.fed: list[Feeds] = []
        self._answer = answer

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        assert wanted is not None
        self.rows.append(len(feeds["x"]))
        self.fed.append(feeds)
        return {name: self._answer(feeds["x"]) for name in wanted}


def double(x: Array) -> Array:
    return np.asarray(2 * x)


def answers(bench: Bench, images: Sequence[Feeds] = IMAGES) -> list[list[float]]:
    return [one.tolist() for one in bench.answers(images, {})["y"]]


DOUBLED = [[2.0 * at, 2.0 * at] for at in range(20)]


def test_an_open_batch_takes_eight_at_a_time_and_a_rest() -> None:
    model = Model(double)
    assert answers(Bench(model, ["y"], TOGETHER, "x")) == DOUBLED
    assert model.rows == [8, 8, 4]


def test_a_fixed_batch_is_filled_up() -> None:
    model = Model(double)
    assert answers(Bench(model, ["y"], 6, "x", 6)) == DOUBLED
    assert model.rows == [6, 6, 6, 6]
    assert model.fed[-1]["x"][:, 0].tolist() == [18, 19, 19, 19, 19, 19]


def test_a_fixed_batch_with_other_inputs_holds_one_image_many_times() -> None:
    model = Model(double)
    images = [{**image, "k": np.zeros((3, 5))} for image in IMAGES]
    assert answers(Bench(model, ["y"], 1, "x", 3), images) == DOUBLED
    assert set(model.rows) == {3}
    assert {feed["k"].shape for feed in model.fed} == {(3, 5)}


def test_what_takes_no_images_is_fed_as_it_is() -> None:
    model = Model(double)
    images = [{"x": np.full((4, 2), float(at))} for at in range(3)]
    found = Bench(model, ["y"], 1).answers(images, {})["y"]
    assert [one.shape for one in found] == [(4, 2)] * 3


@pytest.mark.parametrize("rows", [0, 8])
def test_images_that_come_out_mixed_go_in_one_by_one_from_then_on(rows: int) -> None:
    model = Model(lambda x: 2 * x.mean(axis=0, keepdims=True))
    bench = Bench(model, ["y"], TOGETHER, "x", rows)
    assert answers(bench) == DOUBLED
    assert len(model.rows) == 1 + 20
    assert answers(bench) == DOUBLED
    assert len(model.rows) == 1 + 20 + 20


def test_a_batch_that_is_refused_is_taken_apart() -> None:
    def single(x: Array) -> Array:
        if len(x) > 1:
            raise RunError(FailureKind.REFUSED, "one at a time")
        return double(x)

    assert answers(Bench(Model(single), ["y"], TOGETHER, "x")) == DOUBLED


@pytest.mark.parametrize(("kind", "together"), [(FailureKind.MEMORY, TOGETHER), (FailureKind.REFUSED, 1)])
def test_other_failures_are_passed_on(kind: FailureKind, together: int) -> None:
    def never(_: Array) -> Array:
        raise RunError(kind, "no")

    with pytest.raises(RunError, match="no"):
        answers(Bench(Model(never), ["y"], together, "x"))


def test_dials_and_named_outputs_are_passed_on() -> None:
    model = Model(double)
    found = Bench(model, ["y"], TOGETHER, "x").answers(IMAGES[:3], {"off": np.ones(1)}, ["z"])
    assert list(found) == ["z"]
    assert model.fed[0]["off"].tolist() == [1.0]


def test_a_number_for_all_is_no_answer_for_each() -> None:
    model = Model(lambda x: np.asarray(x.sum()))
    assert [float(one) for one in Bench(model, ["y"], TOGETHER, "x").answers(IMAGES[:3], {})["y"]] == [0.0, 2.0, 4.0]
