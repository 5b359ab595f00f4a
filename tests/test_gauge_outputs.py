"""How far outputs lie apart, each in its own terms, and what loss that foretells."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnx_clp.document.gauge import Loss, OutputChange
from onnx_clp.gauge.loss import NOTHING, predicted
from onnx_clp.gauge.outputs import by_place, changes, lead

Array = NDArray[Any]

RNG = np.random.default_rng(0)
MANY = 10**6
"""Images enough to show any loss."""


def change(before: Array, after: Array) -> OutputChange:
    """Of one output of which the first axis counts the images."""
    (found,) = changes({"y": list(before)}, {"y": list(after)})
    assert found.output == "y"
    return found


def own(values: Array) -> float:
    """How far values lie from their mean over the images."""
    return float(np.linalg.norm(values - values.mean(axis=0)))


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


LOGITS = RNG.normal(0, 2, (40, 10)).astype(np.float32)
MOVED = LOGITS + RNG.normal(0, 1, LOGITS.shape).astype(np.float32)


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_class_left_out_may_lose_every_image_and_others_may_not(probabilities: bool) -> None:
    before, after = LOGITS.copy(), LOGITS.copy()
    before[:, 4] += 20
    seen = [{"y": list(softmax(one) if probabilities else one)} for one in (before.astype(float), after.astype(float))]
    (found,) = changes(seen[0], seen[1], beside=4)
    assert found.changed == 0
    assert found.divergence == pytest.approx(0, abs=1e-3)
    (other,) = changes(seen[0], seen[1], beside=5)
    assert other.changed is not None
    assert other.changed > 0.8


def test_of_two_classes_none_is_left_out() -> None:
    before, after = [np.array([2.0, 0.0])] * 3, [np.array([0.0, 2.0])] * 3
    assert changes({"y": before}, {"y": after}, beside=0) == changes({"y": before}, {"y": after})


# --- class scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 10), (40, 10, 1, 1), (40, 1, 10)])
def test_logits_are_classes(shape: tuple[int, ...]) -> None:
    found = change(LOGITS.reshape(shape), MOVED.reshape(shape))
    p, q = softmax(LOGITS.astype(np.float64)), softmax(MOVED.astype(np.float64))
    first, then = p.argmax(axis=1), q.argmax(axis=1)
    sure = p[np.arange(40), first] - p[np.arange(40), then]
    assert (found.kind, found.classes) == ("classes", 10)
    plain = LOGITS - LOGITS.mean(axis=1, keepdims=True), MOVED - MOVED.mean(axis=1, keepdims=True)
    assert found.relative == pytest.approx(np.linalg.norm(plain[1] - plain[0]) / own(plain[0]), rel=1e-5)
    assert found.changed == pytest.approx((first != then).mean())
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-6)
    assert found.cost == pytest.approx(sure.mean(), rel=1e-6)
    assert (first != then).mean() > sure.mean() > 0


def test_a_class_that_leads_by_a_hair_is_no_answer_to_change() -> None:
    close, clear = ([[0.5 + lead, 0.5 - lead]] * 4 for lead in (0.004, 0.006))
    for before, changed in ((np.array(close), 0.0), (np.array(clear), 1.0)):
        assert change(before, before[:, ::-1]).changed == changed


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_probabilities_are_classes_as_they_are(dtype: type[np.floating]) -> None:
    given_ = softmax(LOGITS).astype(dtype), softmax(MOVED).astype(dtype)
    found, wanted = change(*given_), change(LOGITS, MOVED)
    assert found.kind == "classes"
    assert found.divergence == pytest.approx(wanted.divergence, rel=0.05)
    assert found.changed == wanted.changed


def test_a_shift_of_all_logits_changes_nothing() -> None:
    found = change(LOGITS, LOGITS + 3)
    assert (found.changed, found.cost) == (0.0, 0.0)
    assert found.divergence == pytest.approx(0, abs=1e-6)
    assert found.relative == pytest.approx(0, abs=1e-6)


def test_scores_that_move_show_even_where_all_images_are_of_one_class() -> None:
    """What photographs are to a network that knows clothes: one class, and surely so."""
    sure = LOGITS + np.eye(10, dtype=np.float32)[3] * 30
    found, wanted = change(sure, sure * 0.5), change(LOGITS, LOGITS * 0.5)
    assert found.changed == 0
    assert found.divergence is not None
    assert found.divergence < 0.01 * (wanted.divergence or 0)
    loss, seen = predicted([found], MANY), predicted([wanted], MANY)
    assert loss.share > seen.share / 2
    blind = replace(found, relative=None)
    assert predicted([blind], MANY).share < 0.01 * seen.share
    assert predicted([change(sure, sure)], MANY) == NOTHING


@pytest.mark.parametrize(("answers", "variety"), [([3] * 8, 1.0), ([0, 1] * 4, 2.0), ([0, 0, 0, 1], 1.755)])
def test_variety_says_over_how_many_classes_the_answers_spread(answers: list[int], variety: float) -> None:
    before = {"y": list(np.arange(5, 5 + len(answers))[:, None] * np.eye(10)[answers])}
    (found,) = changes(before, before)
    assert found.variety == pytest.approx(variety, rel=1e-3)


def test_scores_that_hardly_vary_are_held_against_a_tenth_of_a_nat() -> None:
    """An untrained network: no class is likelier than another, so no change of scores matters that is small."""
    small = LOGITS / 1000
    found = change(small, -small)
    plain = small - small.mean(axis=1, keepdims=True)
    assert found.relative == pytest.approx(20 * math.sqrt(float((plain**2).mean())), rel=1e-3)
    assert found.relative is not None
    assert found.relative < 0.05
    assert predicted([found], MANY).high < 1e-3
    larger = change(LOGITS, -LOGITS).relative
    assert larger == pytest.approx(2, rel=0.05)


def test_a_class_taken_over_counts_by_how_much_surer_the_model_was() -> None:
    before = np.log(np.array([[0.7, 0.3], [0.6, 0.4]]))
    found = change(before, before[:, ::-1])
    assert found.changed == 1.0
    assert found.cost == pytest.approx(0.3)
    half = change(before, np.stack([before[0], before[1, ::-1]]))
    assert half.changed == 0.5
    assert half.cost == pytest.approx(0.1)


def test_a_sequence_of_classes_sums_over_its_places() -> None:
    places = softmax(RNG.normal(0, 2, (30, 7, 12)))
    other = places.copy()
    other[:3, 2] = np.roll(other[:3, 2], 1, axis=-1)
    found = change(places, other)
    assert (found.kind, found.classes, found.relative) == ("classes", 12, None)
    assert found.changed == pytest.approx(0.1)
    single = change(places[:, 2], other[:, 2])
    assert found.divergence == pytest.approx(single.divergence)
    assert found.cost == pytest.approx(single.cost)


# --- everything else ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 7, 12), (40, 3, 8, 8), (40, 1), (40,), (40, 12, 7)])
def test_other_floats_move_against_their_own_variation(shape: tuple[int, ...]) -> None:
    before = RNG.normal(5, 1, shape)
    after = before + RNG.normal(0, 0.1, shape)
    found = change(before, after)
    assert (found.kind, found.changed, found.divergence, found.classes) == ("values", None, None, None)
    wanted = np.linalg.norm(after - before) / np.linalg.norm(before - before.mean(axis=0))
    assert found.relative == pytest.approx(wanted)
    assert 0.05 < wanted < 0.2


def test_probabilities_along_another_axis_are_values() -> None:
    masks = softmax(RNG.normal(size=(20, 9, 4))).transpose(0, 2, 1)
    assert change(masks, masks).kind == "values"


def test_vectors_of_equal_length_are_an_embedding() -> None:
    unit = LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True)
    found = change(unit, -unit)
    assert found.kind == "values"
    assert found.relative == pytest.approx(2, rel=0.2)
    assert change(LOGITS, MOVED).kind == "classes"


def test_outputs_that_never_vary_move_against_their_size() -> None:
    same = np.full((8, 3, 5, 5), 2.0)
    assert change(same, same * 1.1).relative == pytest.approx(0.1)
    zero = np.zeros((8, 3, 5, 5))
    assert change(zero, zero).relative == 0
    assert change(zero, zero + 1).relative == pytest.approx(math.sqrt(zero.size))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_whole_numbers_change_or_do_not(dtype: type[np.generic]) -> None:
    before = RNG.integers(0, 2, (8, 5)).astype(dtype)
    after = before.copy()
    after[3, 2] = not after[3, 2]
    found = change(before, after)
    assert (found.kind, found.changed, found.relative) == ("discrete", 1 / 8, None)
    assert change(before, before).changed == 0


def test_words_change_or_do_not() -> None:
    before = np.array([["a"], ["b"]], object)
    assert change(before, np.array([["a"], ["c"]], object)).changed == 0.5


# --- what is infinite, and what has another shape -----------------------------------------------------


def test_what_was_not_finite_before_does_not_count() -> None:
    before = LOGITS.copy()
    before[:, 0] = -np.inf
    after = before.copy()
    after[:, 0] = 7.0
    found = change(before, after)
    assert (found.kind, found.relative) == ("values", 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("before", [LOGITS, softmax(LOGITS), LOGITS.reshape(40, 5, 2)], ids=["logits", "p", "values"])
def test_what_is_no_longer_finite_is_lost(value: float, before: Array) -> None:
    after = before.copy()
    after.reshape(-1)[3] = value
    found = change(before, after)
    assert found.relative == math.inf
    assert predicted([found], MANY) == Loss(1.0, 1.0, 1.0)


def test_an_output_of_another_shape_is_lost() -> None:
    before = [np.zeros((n, 4)) for n in (3, 2, 5, 1)]
    found = changes({"y": before}, {"y": [np.zeros((n, 4)) for n in (3, 9, 5, 1)]})[0]
    assert (found.kind, found.changed, found.relative) == ("values", 0.25, 0.0)
    found = changes({"y": before}, {"y": [one[:0] for one in before]})[0]
    assert (found.kind, found.changed, found.relative) == ("values", 1.0, None)


def test_outputs_whose_size_differs_from_image_to_image_move_against_themselves() -> None:
    before = [np.full((n, 4), 2.0) for n in (3, 2, 5)]
    found = changes({"y": before}, {"y": [one * 1.25 for one in before]})[0]
    assert (found.kind, found.changed) == ("values", 0.0)
    assert found.relative == pytest.approx(0.25)


def test_whole_numbers_of_another_shape_changed() -> None:
    before = [np.zeros(n, np.int64) for n in (3, 3, 3, 3)]
    after = [np.zeros(3, np.int64), np.ones(3, np.int64), np.zeros(4, np.int64), np.zeros(3, np.int64)]
    assert changes({"y": before}, {"y": after})[0].changed == pytest.approx(0.5)


def giving(*dims: int | str) -> ModelProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)
    return helper.make_model(helper.make_graph([], "g", [], [y]))


@pytest.mark.parametrize(
    ("dims", "named"),
    [
        (("n", "time", 32), True),
        (("time", 1, "frames", 32), True),
        (("n", 21, "height", "width"), True),
        (("n", 32), False),
        (("n", "classes"), False),
        (("n", 10, 1, 1), False),
        (("a", "b", "c", "d"), False),
        (("n", 97, 32), False),
        ((), False),
    ],
)
def test_an_output_is_by_place_where_the_number_of_places_is_open_and_that_of_values_is_not(
    dims: tuple[int | str, ...], named: bool
) -> None:
    assert by_place(giving(*dims)) == ({"y"} if named else set())


def test_a_spectrum_of_one_frame_is_no_set_of_class_scores_unless_it_sums_to_one() -> None:
    def kind(before: Array, places: set[str]) -> str:
        return changes({"y": list(before)}, {"y": list(before)}, places=places)[0].kind

    assert [kind(LOGITS[:, None], places) for places in ({"y"}, set())] == ["values", "classes"]
    assert kind(softmax(LOGITS)[:, None], {"y"}) == "classes"


def test_only_outputs_of_both_count() -> None:
    found = changes({"y": [LOGITS[0]], "z": [LOGITS[0]]}, {"z": [LOGITS[0]]})
    assert [one.output for one in found] == ["z"]


# --- what must hold of any ----------------------------------------------------------------------------

shapes = st.sampled_from([(6, 5), (6, 3, 4), (6, 1), (6, 2, 3, 3)])
numbers = st.floats(-50, 50, width=32)
answers = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=numbers))
pairs = shapes.flatmap(lambda s: st.tuples(*[arrays(np.float32, s, elements=numbers) for _ in range(2)]))


@given(answers)
def test_equal_outputs_foretell_no_loss(values: Array) -> None:
    found = change(values, values)
    assert not found.changed
    assert not found.cost
    assert found.divergence is None or found.divergence == pytest.approx(0, abs=1e-12)
    assert found.relative in (None, 0.0)
    assert predicted([found], MANY).high <= 1e-9


@given(pairs)
def test_nothing_is_negative_and_shares_are_shares(pair: tuple[Array, Array]) -> None:
    found = change(*pair)
    for share in (found.changed, found.cost):
        assert share is None or 0 <= share <= 1
    assert found.divergence is None or found.divergence >= -1e-9
    assert found.relative is None or found.relative >= 0
    loss = predicted([found], MANY)
    assert 0 <= loss.low <= loss.share <= loss.high <= 1


@given(pairs, st.integers(1, 5))
def test_the_order_of_the_images_does_not_matter(pair: tuple[Array, Array], by: int) -> None:
    before, after = pair
    found, rolled = change(before, after), change(np.roll(before, by, axis=0), np.roll(after, by, axis=0))
    assert found.kind == rolled.kind
    for name in ("changed", "divergence", "cost", "relative"):
        one, other = getattr(found, name), getattr(rolled, name)
        assert one == other or other == pytest.approx(one, rel=1e-6, abs=1e-9)


# --- the loss -----------------------------------------------------------------------------------------


def test_no_outputs_foretell_nothing() -> None:
    assert predicted([], MANY) == NOTHING == Loss(0.0, 0.0, 0.0)


def classes(divergence: float) -> OutputChange:
    return OutputChange("y", "classes", changed=0.0, divergence=divergence, cost=0.0, classes=10)


def test_the_loss_grows_with_the_divergence_and_stays_a_share() -> None:
    losses = [predicted([classes(d)], MANY) for d in (0.0, 1e-4, 0.01, 0.1, 1.0, 30.0)]
    for low, high in pairwise(losses):
        assert low.share < high.share
        assert low.high <= high.high
    assert losses[0] == NOTHING
    assert losses[-1].high == losses[-1].share == 1.0
    assert all(0 < one.low <= one.share for one in losses[1:])
    assert all(one.low < one.share < one.high for one in losses[1:5])
    assert all(one.share <= one.high for one in losses)


@pytest.mark.parametrize(
    "change",
    [
        OutputChange("y", "values", relative=0.02),
        OutputChange("y", "discrete", changed=0.01),
        OutputChange("y", "values", changed=0.01, relative=0.0),
    ],
)
def test_other_outputs_foretell_a_loss_too(change: OutputChange) -> None:
    assert predicted([change], MANY).share == pytest.approx(0.01)
    assert predicted([change], MANY).high > 0.01


def test_of_divergence_and_relative_change_of_scores_the_greater_counts() -> None:
    both = [predicted([replace(classes(0.01), relative=r)], MANY) for r in (None, 0.0, 0.1, 0.3, 0.6)]
    assert both[0] == both[1] == both[2] == predicted([classes(0.01)], MANY)
    assert both[2].share < both[3].share < both[4].share
    assert predicted([replace(classes(0.0), relative=math.inf)], MANY) == Loss(1.0, 1.0, 1.0)


def test_on_made_up_signals_the_upper_end_is_ten_times_as_high() -> None:
    plain, noisy = predicted([classes(0.01)], MANY), predicted([classes(0.01)], MANY, noise=True)
    assert (noisy.share, noisy.low) == (plain.share, plain.low)
    assert noisy.high == pytest.approx(10 * plain.high)
    assert predicted([classes(5.0)], MANY, noise=True).high == 1.0
    assert predicted([], MANY, noise=True) == NOTHING


@pytest.mark.parametrize("images", [80, 144, 500])
def test_a_small_loss_is_not_foretold_finer_than_so_many_images_can_show(images: int) -> None:
    small, large = predicted([classes(2e-4)], images), predicted([classes(1.0)], images)
    assert small.high == pytest.approx(0.3 / images)
    assert (small.share, small.low) == (predicted([classes(2e-4)], MANY).share, predicted([classes(2e-4)], MANY).low)
    assert large == predicted([classes(1.0)], MANY)
    assert predicted([classes(1e-5)], images).high < 1e-5
    assert predicted([classes(2e-4)], images, noise=True) == predicted([classes(2e-4)], MANY, noise=True)
    assert predicted([classes(2e-4)], 1).high == predicted([classes(2e-4)], 60).high == pytest.approx(0.005)


def test_the_output_that_moves_most_counts() -> None:
    small, large = classes(0.001), OutputChange("z", "values", relative=0.5)
    assert predicted([small, large], MANY) == predicted([large, small], MANY) == predicted([large], MANY)


@pytest.mark.parametrize("lost", [math.inf, math.nan])
def test_what_cannot_be_measured_counts_as_all(lost: float) -> None:
    assert predicted([OutputChange("y", "values", relative=lost)], MANY) == Loss(1.0, 1.0, 1.0)
    assert predicted([classes(lost)], MANY) == Loss(1.0, 1.0, 1.0)


@pytest.mark.parametrize(("beside", "kind"), [((10, 4), "values"), ((10, 1), "classes"), ((7, 4), "classes")])
def test_a_score_for_each_box_is_no_class(beside: tuple[int, ...], kind: str) -> None:
    boxes = list(RNG.normal(size=(40, *beside)))
    before, after = ({"score": list(x.reshape(40, 10, 1)), "boxes": boxes} for x in (LOGITS, MOVED))
    found = {one.output: one.kind for one in changes(before, after)}
    assert found["score"] == kind


def test_the_lead_of_a_class_is_told_in_logits() -> None:
    scores = np.array([[5.0, 2.0, 0.0], [0.0, 1.0, 6.5]])
    assert lead({"y": list(scores)}) == pytest.approx(4.25)
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert lead({"boxes": list(np.ones((2, 4, 4))), "y": list(softmax)}) == pytest.approx(4.25)
    assert lead({"y": list(200 * scores)}) == pytest.approx(math.log(1e12), rel=1e-3)


@pytest.mark.parametrize("rows", [np.ones((2, 3, 4, 4)), np.ones((2, 5), np.int64), np.full((2, 5), np.nan)])
def test_what_is_no_class_has_no_lead(rows: Array) -> None:
    assert lead({"y": list(rows)}) is None


@pytest.mark.parametrize("normalised", [True, False])
def test_answers_of_many_places_are_compared_without_many_copies(normalised: bool) -> None:
    """A text reader's take gigabytes; in double precision, all at once and several times over they do not fit."""
    rng = np.random.default_rng(0)
    rows = rng.random((40, 20, 500), np.float32)
    rows /= rows.sum(axis=2, keepdims=True) if normalised else 1
    before, after = {"y": list(rows)}, {"y": list(rows[:, ::-1])}
    tracemalloc.start()
    try:
        (found,) = changes(before, after)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.kind == ("classes" if normalised else "values")
    assert peak < 3 * rows.nbytes
