"""A search that ends in time and fits into memory, and what it says of what it left out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnx_clp
from onnx_clp.cap.bound_directions import Site
from onnx_clp.cli.arguments import parse
from onnx_clp.config import CleanConfig, RunLimits
from onnx_clp.document.gauge import Loss
from onnx_clp.document.search import Inversion
from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.inversion import finding, hunt, lineup, screen
from onnx_clp.inversion import search as searching
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.forms import KINDS, STEPS_OF, Finder, Forms, TriggerForm, measures
from onnx_clp.inversion.ladder import other_patches, rungs
from onnx_clp.inversion.ordinary import BESIDE, COUNT, halves, loss, photographs
from onnx_clp.inversion.pace import Batches, Deadline, TimeUp, fewer, thinned
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.program import OutOfMemory
from onnx_clp.inversion.repair import Gauged, repair
from onnx_clp.inversion.request import Images, SearchRequest
from onnx_clp.inversion.rounds import Rounds
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.synthesis import Synthesiser
from onnx_clp.inversion.trigger import Trigger
from onnx_clp.report import inverting
from onnx_clp.validation.provider import Engine, choose
from tests import planted
from tests.test_inversion import stored, supplied


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


class Clock:
    """Seconds that pass when they are told to, and `each` with every look."""

    def __init__(self, each: float = 0.0) -> None:
        self.now, self._each = 0.0, each

    def __call__(self) -> float:
        self.now += self._each
        return self.now


# --- seconds ------------------------------------------------------------------------------------------


def test_a_deadline_counts_down_and_is_narrowed_to_a_share() -> None:
    clock = Clock()
    deadline = Deadline(100, clock)
    clock.now = 30
    assert deadline.left == 70
    deadline.until(0.5)
    assert deadline.left == 20
    deadline.check()
    clock.now = 51
    with pytest.raises(TimeUp):
        deadline.check()
    deadline.until(1.0)
    deadline.check()


@given(st.floats(0, 1e6), st.floats(1, 1e6), st.integers(1, 200))
def test_what_is_thinned_is_affordable_or_the_least(affordable: float, wanted: float, least: int) -> None:
    factor = thinned(affordable, wanted)
    assert 0 < factor <= 1
    assert factor == 1 or factor**2 * wanted == pytest.approx(max(affordable, 1e-9))
    assert min(200, least) <= fewer(200, factor, least) <= 200
    assert fewer(least - 1, factor, least) == least - 1


# --- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("trouble", [OutOfMemory, MemoryError])
def test_parts_shrink_until_they_fit_and_hold_every_image_once(room: int, trouble: type[Exception]) -> None:
    batches = Batches()

    def work(part: slice) -> list[int]:
        if part.stop - part.start > room:
            raise trouble("full")
        return list(range(part.start, part.stop))

    assert [one for _, found in batches.run(230, work) for one in found] == list(range(230))
    assert batches.size <= max(room, 1) or batches.size == 100


def test_what_not_even_one_image_has_room_for_is_refused() -> None:
    def work(_part: slice) -> None:
        raise OutOfMemory("no")

    with pytest.raises(NotValidated, match="not enough memory for one image: no; allow more with --memory"):
        list(Batches().run(5, work))


def small(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(Batches.__init__, "__defaults__", (size,))


def test_scores_and_gradients_are_the_same_in_parts(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, images = read_subject(stored(tmp_path, infected=True), {}, None), planted.pictures(10)
    whole = Attack(subject, engine)
    small(monkeypatch, 3)
    parts = Attack(subject, engine)
    np.testing.assert_allclose(parts.logits(images), whole.logits(images), rtol=1e-5)
    for one, other in zip(parts.pull(images, 1), whole.pull(images, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_images_made_in_parts_match_the_statistics_too(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = read_subject(stored(tmp_path, infected=False), {}, None)

    def mismatch(steps: int) -> float:
        made = Synthesiser(subject, engine).make(16, planted.CLASSES, 0, 1, 0, lambda *_: None, steps)
        assert made.mismatch is not None
        return made.mismatch

    start, whole = mismatch(1), mismatch(60)
    small(monkeypatch, 8)
    assert abs(mismatch(60) - whole) < 0.5 * (start - whole)


def test_making_images_ends_at_the_deadline(tmp_path: Path, engine: Engine) -> None:
    subject, ticks = read_subject(stored(tmp_path, infected=False), {}, None), list[int]()
    maker = Synthesiser(subject, engine)
    maker.make(4, 6, 0, 1, 0, lambda _stage, at, _all: ticks.append(at), 50, Deadline(2.5, Clock(1)))
    assert ticks == [1, 2, 3]


def test_a_pull_after_the_deadline_is_none(tmp_path: Path, engine: Engine) -> None:
    subject, clock = read_subject(stored(tmp_path, infected=True), {}, None), Clock()
    attack = Attack(subject, engine, Deadline(1, clock))
    attack.pull(planted.pictures(2), 0)
    clock.now = 2
    with pytest.raises(TimeUp):
        attack.pull(planted.pictures(2), 0)


# --- many classes -------------------------------------------------------------------------------------


def test_half_of_a_spread_is_the_nearest_and_half_lies_between_the_rest() -> None:
    assert lineup.spread(list(range(100)), 6) == [0, 1, 2, 3, 51, 99]
    assert lineup.spread([4, 2, 7], 6) == [4, 2, 7]


@pytest.mark.parametrize(
    ("affordable", "portion", "most", "steps"),
    [(500.0, 16, 60, 60), (16.0, 16, 60, 60), (9.0, 9, 36, 60), (4.0, 4, 24, 60), (2.0, 4, 24, 30), (0.01, 4, 24, 12)],
)
def test_where_time_is_short_images_of_a_step_become_fewer_and_then_steps(
    affordable: float, portion: int, most: int, steps: int
) -> None:
    seconds = affordable * 6 * hunt._FIRST_STEPS / 0.6
    ground = SimpleNamespace(deadline=Deadline(seconds, Clock()), seconds=1.0)
    given: Any = SimpleNamespace(most=60, _ground=ground, finder=Finder(Range(0, 1), 0))
    hunt.Hunt._thin(given, 6)
    assert (given.finder.portion, given.most) == (portion, most)
    assert given.finder.steps("patch") == steps


def chosen(
    classes: int,
    affordable: int,
    starts: Sequence[int] = (),
    suspects: Sequence[int] = (),
    led: Sequence[int] = (),
    named: Sequence[int] = (),
) -> tuple[list[int], list[str]]:
    """The classes that a search begins with, the last ones being the nearest, and the forms that it has no time for."""
    hurried = list[str]()
    request = SimpleNamespace(suspects=suspects)
    ground = SimpleNamespace(
        classes=classes, given=np.arange(10), request=request, deadline=Deadline(1, Clock()), seconds=1
    )
    given: Any = SimpleNamespace(
        _ground=ground,
        _classes_affordable=lambda: affordable,
        _leads=named,
        _screened=lambda able: sorted(able, key=lambda c: (c not in led, -c)),
        _hurry=lambda *kinds: hurried.extend(kinds),
    )
    return hunt.Hunt._chosen(given, starts), hurried


def test_of_many_classes_all_are_searched_that_there_is_time_for_and_few_are_in_haste() -> None:
    assert chosen(43, 60) == (list(range(43)), [])
    assert chosen(20, 3) == (list(range(20)), [])  # with fewer steps instead
    some, hurried = chosen(43, 30)
    assert (some[:15], len(some), hurried) == (list(range(42, 27, -1)), 30, [])
    assert len(chosen(1000, 900)[0]) == 50
    few, hurried = chosen(43, 8)
    assert (few[:4], len(few), hurried) == ([42, 41, 40, 39], 8, list(KINDS))


def test_suspects_and_classes_that_a_block_works_for_are_among_those_searched() -> None:
    some, _ = chosen(43, 30, starts=[7, 5], suspects=[3])
    assert some[:4] == [3, 7, 5, 42]


def test_classes_that_marks_lead_to_are_searched_before_those_that_a_short_search_finds_near() -> None:
    led = list(range(10, 10 + screen.LEADING))
    some, _ = chosen(43, 30, suspects=[3], led=led)
    assert some[: 2 + len(led)] == [3, *led[::-1], 42]


def test_where_marks_name_a_class_few_others_are_searched() -> None:
    some, _ = chosen(43, 30, led=[12], named=[12])
    assert (some[0], len(some)) == (12, lineup.RUNNERS)


# --- forms that not every class has -------------------------------------------------------------------


def with_margin(target: int, margin: float, *kinds: str) -> Forms:
    trigger = Trigger(target, np.zeros((1, 1, 1), np.float32), 1.0, margin, Range(0, 1))
    patch = Patch(target, np.zeros((1, 1, 1), np.float32), 1.0, 10 - margin, Range(0, 1))
    known: dict[str, TriggerForm] = {"perturbation": trigger, "patch": patch}
    return Forms(target, None, {kind: known[kind] for kind in kinds})


def test_a_form_counts_among_the_classes_that_have_it_if_they_are_enough() -> None:
    first = [with_margin(t, float(t), "perturbation", "patch") for t in range(4)]
    rest = [with_margin(t, float(t), "perturbation") for t in range(4, 8)]
    z = measures([*first, *rest], 1.0)
    assert np.isfinite(z[0]).all()
    assert np.isfinite(z[1]).tolist() == [True] * 4 + [False] * 4
    assert np.isneginf(z[2:]).all()
    assert np.isneginf(measures([*first[:3], *rest], 1.0)[1]).all()


def test_fewer_steps_are_taken_by_the_factor_but_never_under_the_least() -> None:
    finder = Finder(Range(0, 1), 0, 0.5)
    assert {kind: finder.steps(kind) for kind in KINDS} == {kind: STEPS_OF[kind] // 2 for kind in KINDS}
    assert set(map(replace(finder, factor=1e-9).steps, KINDS)) == {12}


# --- a search against time ----------------------------------------------------------------------------


def request(tmp_path: Path, **more: Any) -> SearchRequest:
    base = SearchRequest(
        original=stored(tmp_path, infected=True), images=supplied(tmp_path), limits=RunLimits(provider="cpu")
    )
    return replace(base, **more)


def within(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine, pulls: float, **more: Any) -> Inversion:
    """A search that has time for so many looks at the clock, one a gradient and some more."""
    monkeypatch.setattr(searching, "Deadline", lambda _seconds: Deadline(pulls, Clock(1)))
    monkeypatch.setattr(Attack, "seconds", lambda *_: 1e-6)
    return search(request(tmp_path, **more), engine, lambda *_: None).inversion


def test_a_search_with_time_leaves_nothing_out(tmp_path: Path, engine: Engine) -> None:
    found = search(request(tmp_path), engine, lambda *_: None).inversion
    assert found.likely == planted.TARGET
    assert found.unfinished == ""


@pytest.mark.parametrize(("factor", "portion", "share"), [(1.0, 16, ""), (1.0, 8, "50 %"), (0.5, 4, "12 %")])
def test_a_search_that_did_less_than_usual_says_how_much(factor: float, portion: int, share: str) -> None:
    said = searching._thinned(Finder(Range(0, 1), 0, factor, portion).share, 300.0)
    assert said == (
        f"{share} of the usual work was done in the 300 s given; --search-seconds allows more" if share else ""
    )


def test_a_search_that_is_cut_off_judges_by_the_forms_that_all_classes_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine
) -> None:
    full = 6 * (25 + 25 + 60)
    found = within(monkeypatch, tmp_path, engine, (full + 100) / hunt.SEARCHED)
    assert found.likely == planted.TARGET
    assert {len(one.forms) for one in found.results} <= {2, 3}
    assert "6 of 6 classes were searched" in found.unfinished
    assert "--search-seconds allows more" in found.unfinished


def test_a_search_that_is_cut_off_at_once_says_that_nothing_was_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine
) -> None:
    found = within(monkeypatch, tmp_path, engine, 120 / hunt.SEARCHED, repair=True)
    assert (found.likely, found.repair, found.results) == (None, None, ())
    assert found.sentence.startswith(
        "not judged: 3 of 6 classes were searched, for perturbation alone, in the 300 s given"
    )


@pytest.mark.parametrize(("suspects", "named"), [((), None), ((planted.TARGET,), planted.TARGET)])
def test_what_one_form_says_in_haste_names_no_class_without_other_evidence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine, suspects: tuple[int, ...], named: int | None
) -> None:
    found = within(monkeypatch, tmp_path, engine, (6 * 50 + 5 * 30 + 20) / hunt.SEARCHED, suspects=suspects)
    assert [len(one.forms) for one in found.results] == [2] * 5 + [1]  # no patch towards the last class
    assert max(one.forms[1].z for one in found.results[:5]) > finding.LIMIT
    assert (found.likely, found.nearest) == (named, planted.TARGET)
    assert found.sentence.startswith("no class is named: class 2 lies ") == (named is None)


def test_a_run_whose_search_is_cut_off_writes_its_model(tmp_path: Path) -> None:
    config = CleanConfig(repair=True, images=supplied(tmp_path), search_seconds=1e-3, provider="cpu")
    with onnx_clp.clean(stored(tmp_path, infected=True), config) as result:
        found = result.report.inversion
        assert found is not None
        assert found.sentence.startswith("not judged: 0 of 6 classes")
        assert "not judged" in " ".join(inverting.rows(result.report))
        onnx.checker.check_model(result.model)


def test_the_seconds_are_an_option_above_0() -> None:
    assert parse(["m.onnx", "--invert", "--search-seconds", "12", "--no-config"]).config.search_seconds == 12
    assert CleanConfig().search_seconds is None
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="search_seconds"):
            CleanConfig(search_seconds=wrong)


# --- what is undone, and what it may cost -------------------------------------------------------------


def patch(size: int = 8) -> Patch:
    change = np.zeros((1, size, size), np.float32)
    change[0, 3, 3] = 1
    return Patch(2, change, 1.0, 1.0, Range(0, 1))


def test_rungs_hold_more_and_more() -> None:
    one, other = patch(), replace(patch(), area=2.0)
    assert [len(rung) for rung in rungs(one, [other, other])] == [1, 3]
    assert [len(rung) for rung in rungs(one, [])] == [1]
    trigger = Trigger(0, np.zeros((1, 8, 8), np.float32), 1.0, 1.0, Range(0, 1))
    assert rungs(trigger, [other]) == [[trigger]]


def test_other_patches_are_found_from_other_starts_while_there_is_time(tmp_path: Path, engine: Engine) -> None:
    subject, images = read_subject(stored(tmp_path, infected=True), {}, None), planted.pictures(40)
    finder, attack = Finder(Range(0, 1), 0), Attack(subject, engine)
    large = replace(patch(), target=planted.TARGET, area=1e9)
    found = other_patches(finder, attack, images, large)
    assert [one.target for one in found] == [planted.TARGET] * 2
    assert not np.array_equal(found[0].change, found[1].change)
    late = Attack(subject, engine, Deadline(100, Clock(1)))
    assert len(other_patches(finder, late, images, large)) == 1
    assert other_patches(finder, attack, images, replace(large, area=1e-9)) == []


class Costly:
    """A bench on which caps against so many forms cost so much, and stop everything."""

    sites = (Site("a", 1, 4, 1, "a"),)
    enough = 0.015

    def __init__(self, *costs: float) -> None:
        self.costs = dict(enumerate(costs))

    def fit(self, forms: Any, _quantile: float) -> dict[Any, Any]:
        return {self.sites[0]: [] if len(forms) == 1 else forms}

    def gauge(self, caps: dict[Any, Any], forms: Any) -> Gauged:
        cost = self.costs[len(forms) - 1]
        return Gauged(0.0, 1.0, Loss(cost / 3, 0, cost)) if caps else Gauged(0.9, 1.0)


@pytest.mark.parametrize(
    ("costs", "predicted"),
    [((0.01, 0.02, 0.03), 0.03), ((0.01, 0.07, 0.02), 0.02), ((0.01, 0.02, 0.07), 0.02), ((0.01, 0.07, 0.07), 0.01)],
)
def test_the_highest_rung_within_the_budget_is_taken(
    costs: tuple[float, ...], predicted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_clp.inversion.repair.told", lambda state, _before: state.gauged)
    bench: Any = Costly(*costs)
    forms: Any = [object() for _ in range(3)]
    ladder = [forms[:1], forms[:2], forms]
    climb = Rounds(bench, ladder[0], 0.06, Deadline(math.inf))
    done: Any = repair(bench, ladder, 0.06, lambda *_: None, None, climb)[0]
    assert done.loss.high == predicted


class Still:
    """A form that changes nothing."""

    def put_on(self, images: Images) -> Images:
        """The images as they are."""
        return images


def test_a_repair_that_costs_too_much_is_left_with_the_reason() -> None:
    bench: Any = Costly(0.15)
    done, why = repair(bench, [[Still()]], 0.06, lambda *_: None)
    assert done is None
    assert why == (
        "every repair would cost too much: the mildest about 5.0% of ordinary images, up to 15.0%, and 6.0% are "
        "allowed; --budget allows more"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_have_the_shape_and_the_range(channels: int) -> None:
    shown = photographs((channels, 12, 20), Range(-1, 1), 0)
    assert shown is not None
    assert shown.shape == (COUNT, channels, 12, 20)
    assert -1 <= shown.min() < -0.8
    assert 0.8 < shown.max() <= 1
    assert photographs((2, 12, 20), Range(-1, 1), 0) is None
    gauging, fitting = halves((channels, 12, 20), Range(-1, 1), 0)
    assert gauging is not None
    assert fitting is not None
    assert [len(gauging), len(fitting)] == [COUNT, BESIDE]
    assert not any((one == other).all() for one in gauging for other in fitting)
    assert halves((2, 12, 20), Range(-1, 1), 0) == (None, None)


def test_a_repair_may_cost_less_on_images_that_match_no_statistics(tmp_path: Path) -> None:
    asked = SearchRequest(original=tmp_path / "m.onnx")
    assert (asked.allowed("statistics"), asked.allowed("data"), asked.allowed("classes")) == (0.08, 0.08, 0.06)
    assert replace(asked, budget=0.3).allowed("classes") == 0.3


def scores_of(classes: Sequence[int], ahead: float = 6.0) -> Float32:
    """Scores (n, 10) with each image's class so far ahead of the others, which differ a little."""
    scores = np.random.default_rng(0).normal(size=(len(classes), 10)) / 4
    scores[np.arange(len(classes)), classes] += ahead
    return scores.astype(np.float32)


def test_scores_that_stay_lose_nothing_and_scores_that_turn_do() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32) * 4
    assert loss([(scores, scores)], 3).high == 0
    turned = loss([(scores, scores[:, ::-1])], 3)
    assert turned.high > 0.5
    assert loss([(scores, scores), (scores, scores[:, ::-1])], 3) == turned
    assert loss([], 3).high == 0


def test_images_of_other_classes_may_lose_what_spoke_for_the_target_and_nothing_else() -> None:
    scores = scores_of([1 + at % 9 for at in range(45)], 1.0)
    without = scores.copy()
    without[:, 0] -= 4
    assert loss([(scores, without)], 0).share < 1e-6
    assert loss([(scores, without)], 5).share > 0.01


def test_images_that_a_repair_turns_into_the_target_are_lost() -> None:
    scores = scores_of([1 + at % 9 for at in range(45)])
    turned = scores.copy()
    turned[::3, 0] += 20
    assert loss([(scores, turned)], 0).share > 0.1


@pytest.mark.parametrize(("own", "lost"), [(5, True), (10, True), (45, False)])
def test_of_the_targets_images_at_most_twice_its_fair_share_count_those_that_change_least(own: int, lost: bool) -> None:
    """Where it has far more than that, a trigger may have brought them."""
    scores = scores_of([0] * own + [1 + at % 9 for at in range(50 - own)])
    turned = scores.copy()
    turned[: min(own, 35), 0] -= 20
    assert (loss([(scores, turned)], 0).share > 0.1) is lost


@pytest.mark.parametrize(("shares", "lost"), [(1, False), (2, True)])
def test_fewer_of_the_targets_images_count_where_a_trigger_is_known_to_bring_them(shares: int, lost: bool) -> None:
    scores = scores_of([0] * 12 + [1 + at % 9 for at in range(38)])
    turned = scores.copy()
    turned[:7, 0] -= 20
    assert (loss([(scores, turned)], 0, shares).share > 0.05) is lost


def test_the_time_for_one_image_is_measured(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = itertools.count()
    attack = Attack(read_subject(stored(tmp_path, infected=True), {}, None), engine)
    monkeypatch.setattr("onnx_clp.inversion.attack.time.monotonic", lambda: float(next(counted)))
    assert attack.seconds(planted.pictures(4)) == 0.25
