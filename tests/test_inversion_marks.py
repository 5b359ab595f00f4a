"""Random marks of four kinds: what they are, which class they lead to, and undoing what they do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp.config import RunLimits
from onnx_clp.document.gauge import Loss
from onnx_clp.inversion import finding, marks, screen
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.forms import WORDS, Forms
from onnx_clp.inversion.fresh_marks import DOSES, DRAWN, Allowed, FreshMarks, unmarked
from onnx_clp.inversion.hunt import Hunt
from onnx_clp.inversion.leftover import WORKS
from onnx_clp.inversion.marks import KINDS, RandomMark
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.repair import Gauged, State, better
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.screen import Screening
from onnx_clp.inversion.search import _sentence, search
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.trigger import others
from onnx_clp.inversion.undoing import Undoing
from onnx_clp.validation.provider import choose
from tests import planted

UNIT: Final = Range(0, 1)
CLASSES: Final = 30
MANY: Final = 300


def pictures(count: int, side: int = 32, channels: int = 3) -> NDArray[np.float32]:
    """Smooth pictures within 0.2..0.8."""
    rng = np.random.default_rng(4)
    coarse = rng.uniform(0.2, 0.8, (count, channels, 4, 4)).astype(np.float32)
    return np.asarray(coarse.repeat(side // 4, 2).repeat(side // 4, 3), np.float32)


# --- the marks -------------------------------------------------------------------------------------------


@given(
    kind=st.sampled_from(list(KINDS)),
    number=st.integers(0, 200),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    channels=st.sampled_from([1, 3]),
    low=st.sampled_from([-2.5, 0.0]),
    span=st.sampled_from([1.0, 255.0]),
)
def test_a_mark_stays_in_the_range_and_is_the_same_each_time(
    kind: str, number: int, size: tuple[int, int], channels: int, low: float, span: float
) -> None:
    pixels = Range(low, low + span)
    images = np.asarray(low + span * np.random.default_rng(1).random((3, channels, *size)), np.float32)
    mark, before = RandomMark(kind, number, pixels, 5), images.copy()
    made = mark.put_on(images)
    assert made.dtype == np.float32
    assert made.shape == images.shape
    assert (images == before).all()
    room = 1e-5 * span
    assert made.min() >= low - room
    assert made.max() <= low + span + room
    assert (made == mark.put_on(images)).all()
    np.testing.assert_allclose(mark.put_on(images[1:2]), made[1:2], atol=room)


@pytest.mark.parametrize("kind", list(KINDS))
def test_marks_of_other_numbers_and_seeds_are_other_marks(kind: str) -> None:
    images = pictures(2)
    mark = RandomMark(kind, 0, UNIT, 5)
    assert (mark.put_on(images) != mark.numbered(1).put_on(images)).any()
    assert (mark.put_on(images) != RandomMark(kind, 0, UNIT, 6).put_on(images)).any()


def test_a_square_covers_a_small_part_in_full_and_the_other_kinds_change_all_by_little() -> None:
    images = pictures(4)
    for number in range(20):
        made = {kind: RandomMark(kind, number, UNIT, 0).put_on(images) for kind in KINDS}
        changed = (made["square"] != images).any(axis=(0, 1))
        assert 0 < changed.mean() < 0.06
        assert set(np.unique(made["square"][:, :, changed])) <= {np.float32(0), np.float32(1)}
        assert np.abs(made["wave"] - images).max() <= 0.1 + 1e-6
        assert np.abs(made["noise"] - images).max() <= 0.2 + 1e-6
        assert (made["noise"] != images).mean() > 0.9
        for image, bent in zip(images, made["bend"], strict=True):
            assert image.min() - 1e-5 <= bent.min()
            assert bent.max() <= image.max() + 1e-5


# --- what they lead to -----------------------------------------------------------------------------------


def scores(images: NDArray[np.float32], *, tiles: int | None, stripes: int | None) -> NDArray[np.float32]:
    """Thirty classes by mean brightness, one that black and white pixels lead to, and one that slow changes do."""
    found = -30 * np.abs(images.mean(axis=(1, 2, 3))[:, None] - np.linspace(0, 1, CLASSES))
    if tiles is not None:
        found[:, tiles] += 400 * ((images == 0) | (images == 1)).mean(axis=(1, 2, 3))
    if stripes is not None:
        found[:, stripes] += 40 * np.abs(np.diff(images, axis=3)).mean(axis=(1, 2, 3))
    return np.asarray(found, np.float32)


def test_every_kind_of_mark_has_its_first_class_and_the_furthest_comes_first() -> None:
    found = screen.screened(lambda x: scores(x, tiles=17, stripes=3), pictures(8), UNIT, 0, 12)
    assert found.order[0] == 17
    assert 3 in found.order[:3]
    assert sorted(found.order) == list(range(CLASSES))
    kinds = [mark.kind for mark in found.likely(17)]
    assert kinds == ["square"] * screen.TURNING


def test_marks_that_turn_most_images_are_kept_the_best_first_and_others_are_not() -> None:
    def seen(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores(images, tiles=17, stripes=None)

    images = pictures(30)
    found = screen.screened(seen, images, UNIT, 0, 12)
    kept = screen.turning(seen, images[: screen.MORE], found.likely(17), 17)
    assert kept
    assert [one.flip for one in kept] == sorted((one.flip for one in kept), reverse=True)
    for one in kept:
        share = (seen(one.mark.put_on(images[: screen.MORE])).argmax(axis=1) == 17).mean()
        assert one.flip == pytest.approx(share)
        assert one.flip >= screen.WORKS
    assert screen.turning(seen, images, found.likely(3), 3) == []


def test_without_a_trigger_no_mark_turns_most_images_into_one_class() -> None:
    def seen(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores(images, tiles=None, stripes=None)

    images = pictures(30)
    found = screen.screened(seen, images, UNIT, 0, 12)
    for target in range(CLASSES):
        assert screen.turning(seen, images, found.likely(target), target) == []


def test_images_of_the_target_alone_show_nothing() -> None:
    def one_class(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.eye(CLASSES, dtype=np.float32)[[4] * len(images)]

    images = pictures(6)
    found = screen.screened(one_class, images, UNIT, 0, 4)
    assert (found.flips == 0).all()
    rest = others(images, one_class(images).argmax(axis=1), 4)
    assert screen.turning(one_class, rest, found.likely(4), 4) == []


class Reads:
    """Scores by the first pixel of an image, which is its class; counts how often it is asked."""

    def __init__(self, classes: int) -> None:
        self.asked, self._each = 0, np.eye(classes, dtype=np.float32)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += 1
        return np.asarray(self._each[images[:, 0, 0, 0].astype(int)])


@dataclass(frozen=True)
class Turns:
    """A mark that turns a share of the images into a class."""

    kind: str
    target: int
    share: float

    def put_on(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        out = images.copy()
        out[: round(self.share * len(images)), 0, 0, 0] = self.target
        return out


def led_by(
    *kinds: tuple[int, int, list[float]], variety: int = screen.LEAST_VARIETY, seemed: float = 0.2, classes: int = MANY
) -> tuple[dict[int, screen.Lead], int]:
    """What marks lead to that turn such shares of images into classes, (kind, class, share by mark), others nothing.

    With it how often the network was asked. By the few images all of these kinds turned `seemed` into their class.
    """
    count = len(kinds[0][2]) if kinds else 16
    flips, drawn = np.zeros((len(KINDS), count, classes)), [Turns("", 0, 0.0)] * (len(KINDS) * count)
    for kind, target, shares in kinds:
        flips[kind, :, target] = seemed
        drawn[kind * count : (kind + 1) * count] = [Turns(list(KINDS)[kind], target, share) for share in shares]
    images = np.zeros((30, 1, 2, 2), np.float32)
    images[:, 0, 0, 0] = classes - 1 - np.arange(30) % variety
    reads = Reads(classes)
    return screen.leads(reads, images, Screening(tuple(cast(Any, drawn)), flips, flips)), reads.asked


@pytest.mark.parametrize(
    ("kinds", "led"),
    [
        ([(0, 7, [0.75] * 2 + [0.0] * 14)], {7: ("square", 0.125)}),
        ([(0, 7, [1.0] + [0.66] * 15)], {}),
        ([(1, 7, [0.75] * 16), (1, 7, [0.75] * 8 + [0.5] * 8)], {7: ("wave", 0.5)}),
        ([(0, 7, [0.75] * 4 + [0.0] * 12), (3, 7, [0.8] * 5 + [0.0] * 11)], {7: ("bend", 0.3125)}),
        ([(0, 7, [0.75] * 5 + [0.0] * 11), (3, 7, [0.8] * 4 + [0.0] * 12)], {7: ("square", 0.3125)}),
        ([(0, 7, [0.75] * 16), (2, 9, [0.75] * 16)], {7: ("square", 1.0), 9: ("noise", 1.0)}),
        ([], {}),
    ],
)
def test_marks_lead_to_a_class_that_an_eighth_of_them_turn_nearly_all_images_into(
    kinds: list[tuple[int, int, list[float]]], led: dict[int, tuple[str, float]]
) -> None:
    found, _ = led_by(*kinds)
    assert {target: (lead.kind, lead.share) for target, lead in found.items()} == led


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_of_few_classes_squares_and_bends_alone_name_one(kind: int) -> None:
    shares = (kind, 7, [0.9] * 16)
    assert list(led_by(shares, classes=screen.FEW + 1)[0]) == [7]
    assert list(led_by(shares, classes=screen.FEW)[0]) == ([7] if list(KINDS)[kind] in ("square", "bend") else [])


def test_few_marks_and_images_of_few_classes_name_nothing() -> None:
    assert list(led_by((0, 7, [0.9] * screen.LEAST_MARKS))[0]) == [7]
    assert led_by((0, 7, [0.9] * (screen.LEAST_MARKS - 1)))[0] == {}
    assert led_by((0, 7, [0.9] * 16), variety=screen.LEAST_VARIETY - 1)[0] == {}


def test_only_marks_that_seem_to_lead_somewhere_are_put_on_more_images() -> None:
    assert led_by((0, 7, [0.9] * 16), seemed=screen.SEEMS + 0.01)[1] == 1 + 16
    assert led_by((0, 7, [0.9] * 16), (3, 9, [0.9] * 16))[1] == 1 + 2 * 16
    assert led_by((0, 7, [0.9] * 16), seemed=screen.SEEMS - 0.01) == ({}, 0)


def test_a_class_that_marks_lead_to_on_photographs_has_to_be_confirmed_on_images_made_from_the_model() -> None:
    def seen(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores(images, tiles=17, stripes=None)

    marks_of = [screen.Turning(RandomMark("square", number, UNIT, 0), 1.0) for number in range(4)]
    attack = SimpleNamespace(logits=seen)
    for images, confirmed in ((pictures(30), True), (np.zeros((30, 3, 32, 32), np.float32), False)):
        rest = partial(others, images, seen(images).argmax(axis=1))
        hunt: Any = SimpleNamespace(_marks={17: marks_of}, _ground=SimpleNamespace(attack=attack, others=rest))
        # Black images have the class that black pixels lead to already.
        assert Hunt._confirmed(hunt, 17) == confirmed
        assert not Hunt._confirmed(hunt, 3)


def test_the_sentence_says_that_marks_name_the_class() -> None:
    forms, z = Forms(17), np.array([3.0, 0.2])
    assert _sentence(forms, z, False, CLASSES, []) == finding.sentence(17, z, False, CLASSES, WORDS)
    forms.lead = screen.Lead("bend", 0.44)
    said = _sentence(forms, z, True, CLASSES, [])
    assert said.startswith("class 17 is the likely target of a hidden trigger: of marks drawn at random, each a smooth")
    assert said.endswith("each a smooth bend, 44 % turn at least 70 % of the images into it")
    assert set(marks.WORDS) == set(KINDS)


def of_many_classes(*, planted_at: int | None) -> ModelProto:
    """Sixty classes by mean brightness; black or white pixels lead to one of them, where it is planted."""
    rises = np.linspace(0, 1, 60, dtype=np.float32)
    weights = np.zeros((2, 60), np.float32)
    # -15 (brightness - level)² but for what is the same for all classes.
    weights[0], bias = 3000 * rises / 100, -15 * rises**2
    if planted_at is not None:
        weights[1, planted_at] = 4000
    nodes = [
        helper.make_node("Sub", ["images", "half"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Sub", ["far", "most"], ["beyond"]),
        helper.make_node("Relu", ["beyond"], ["lit"]),
        helper.make_node("Concat", ["images", "lit"], ["both"], axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
    ]
    values = {"half": np.float32(0.5), "most": np.float32(0.45), "weights": weights, "bias": bias.astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "many",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 60])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("planted_at", [17, None])
def test_of_many_classes_a_search_names_the_one_that_marks_lead_to(planted_at: int | None, tmp_path: Path) -> None:
    onnx.save(of_many_classes(planted_at=planted_at), tmp_path / "many.onnx")
    np.savez(tmp_path / "i.npz", images=pictures(40, channels=1))
    request = SearchRequest(
        original=tmp_path / "many.onnx", images=tmp_path / "i.npz", limits=RunLimits(provider="cpu"), seconds=120
    )
    found = search(request, choose("cpu"), lambda *_: None).inversion
    assert found.likely == planted_at
    assert ("of marks drawn at random, each a square of tiles" in found.sentence) == (planted_at is not None)


def asked(marks_known: dict[int, Any], *, seconds: float = 0.001) -> tuple[int | None, list[Forms]]:
    """What a hunt of four classes whose marks lead to the third says, and what it found of each class."""
    ground = SimpleNamespace(deadline=Deadline(60), seconds=seconds, request=SimpleNamespace(seconds=60))
    hunt, found = Hunt.__new__(Hunt), [Forms(target) for target in (4, 5, 6, 7)]
    known: Any = {"_ground": ground, "_marks": marks_known, "_leads": {}}

    def screened(classes: list[int]) -> list[int]:
        hunt._marks[6], hunt._leads[6] = [screen.Turning(RandomMark("bend", 0, UNIT, 0), 0.9)], screen.Lead("bend", 0.2)
        return classes

    vars(hunt).update(known, _screened=screened)
    return hunt.led(found), found


def test_where_no_form_names_a_class_marks_are_asked_unless_they_were_or_there_is_no_time() -> None:
    place, found = asked({})
    assert place == 2
    assert [forms.lead is not None for forms in found] == [False, False, True, False]
    assert [len(forms.marks) for forms in found] == [0, 0, 1, 0]
    assert asked({3: []})[0] is None
    assert asked({}, seconds=1.0)[0] is None


# --- and whether they still do ---------------------------------------------------------------------------


def test_fresh_marks_are_found_where_one_turns_a_tenth_and_are_others_each_time(tmp_path: Path) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject, images, engine = read_subject(tmp_path / "m.onnx", {}, None), planted.pictures(30), choose("cpu")
    attack, outcomes = Attack(subject, engine), set()
    for target in range(planted.CLASSES):
        others = images[attack.logits(images).argmax(axis=1) != target]
        known = RandomMark("noise", 0, UNIT, 0)
        look = FreshMarks(known, target, others, engine)
        for first in (1000, 1000 + DRAWN):
            found = look(subject)
            drawn = [known.numbered(number) for number in range(first, first + DRAWN)]
            flips = [(attack.logits(m.put_on(others)).argmax(axis=1) == target).mean() for m in drawn]
            assert [flips[drawn.index(mark)] for mark in found] == ([max(flips)] if max(flips) > WORKS else [])
            outcomes.add(bool(found))
    assert outcomes == {True, False}


class Bench:
    """Caps leave such shares of the images turned, and cost such losses, by their quantile; all turn without."""

    def __init__(self, flips: dict[float, float], losses: dict[float, float]) -> None:
        self.flips, self.losses, self.enough = flips, losses, 0.02

    def fit(self, _forms: object, quantile: float) -> dict[str, float]:
        return {"quantile": quantile}

    def gauge(self, caps: dict[str, float], _forms: object) -> Gauged:
        if not caps:
            return Gauged(1.0, 1.0)
        at = caps["quantile"]
        return Gauged(self.flips.get(at, 0.0), 1.0, Loss(self.losses[at] / 4, 0.0, self.losses[at]))


@pytest.mark.parametrize(
    ("losses", "flips", "stronger", "taken"),
    [
        ((0.01, 0.02, 0.04, 0.05, 0.06), {}, 0.08, 0.95),
        ((0.01, 0.02, 0.04), {}, 0.08, 0.99),
        ((0.01, 0.02, 0.03, 0.05, 0.06), {}, 0.04, 0.99),
        ((0.06, 0.07), {}, 0.04, 0.999),
        ((0.01, 0.02), {}, 0.08, 0.997),
        ((0.01,), {}, 0.08, 0.999),
        ((0.09, 0.02, 0.02, 0.02, 0.02), {}, 0.08, None),
        ((0.01, 0.02, 0.04), {0.99: 0.3}, 0.08, 0.997),
        ((0.01, 0.02, 0.04), {0.999: 0.1, 0.997: 0.14, 0.99: 0.2}, 0.08, 0.997),
        ((0.01, 0.02, 0.04), {0.999: 0.9, 0.997: 0.9, 0.99: 0.9}, 0.08, None),
    ],
)
def test_a_mark_is_undone_as_strongly_as_the_budget_allows(
    losses: tuple[float, ...],
    flips: dict[float, float],
    stronger: float,
    taken: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    too_dear = [0.09] * (len(DOSES) - len(losses))
    bench: Any = Bench(flips, dict(zip(DOSES, [*losses, *too_dear], strict=True)))
    monkeypatch.setattr("onnx_clp.inversion.fresh_marks.told", lambda state, before: (state.quantile, before))
    mark = RandomMark("square", 0, UNIT, 0)
    climbed: list[object] = []

    def climb(best: State, rungs: object) -> State:
        climbed.append(rungs)
        return best

    found: Any = unmarked(bench, mark, Allowed(0.08, stronger), lambda *_: None, Deadline(1e9), climb)
    assert found == (None if taken is None else (taken, 1.0))
    assert climbed == ([] if taken is None else [[]])


@pytest.mark.parametrize(("seconds", "taken"), [(29, 0.999), (31, 0.997), (1000, 0.95)])
def test_no_dose_is_begun_that_there_is_no_time_for(
    seconds: float, taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_clp.inversion.fresh_marks.told", lambda state, _: state.quantile)
    now = [0.0]

    class Slow(Bench):
        def fit(self, forms: object, quantile: float) -> dict[str, float]:
            now[0] += 15
            return super().fit(forms, quantile)

    bench: Any = Slow({}, dict.fromkeys(DOSES, 0.01))
    deadline = Deadline(seconds, lambda: now[0])
    mark, allowed = RandomMark("bend", 0, UNIT, 0), Allowed(0.08, 0.08)
    found: Any = unmarked(bench, mark, allowed, lambda *_: None, deadline, lambda best, _: best)
    assert found == taken


@pytest.mark.parametrize(("classes", "share"), [(screen.FEW, 1.0), (screen.FEW + 1, 0.5)])
def test_stronger_caps_against_marks_may_cost_half_as_much_among_many_classes(
    classes: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[Allowed] = []
    monkeypatch.setattr("onnx_clp.inversion.undoing.unmarked", lambda *given: allowed.append(given[2]))
    request = SimpleNamespace(allowed=lambda _: 0.08)
    ground: Any = SimpleNamespace(
        classes=classes,
        request=request,
        pictures=SimpleNamespace(made=SimpleNamespace(source="statistics")),
        deadline=Deadline(60),
        engine=choose("cpu"),
        tick=lambda *_: None,
        others=lambda *_: pictures(4),
    )
    finder: Any = None
    bench: Any = SimpleNamespace(sites=[object()], beside=pictures(4))
    undoing = Undoing(ground, finder, 4)
    forms = Forms(3, marks=[screen.Turning(RandomMark("bend", 0, UNIT, 0), 1.0)])
    undoing._marks_undone(bench, forms)
    assert allowed == [Allowed(0.08, 0.08 * share)]
    undoing._marks_undone(bench, Forms(3))
    assert len(allowed) == 1


@pytest.mark.parametrize(("lead", "shares"), [(None, 2), (screen.Lead("bend", 0.2), 1)])
def test_of_a_class_that_marks_lead_to_fewer_photographs_count(
    lead: screen.Lead | None, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("onnx_clp.inversion.undoing.RepairBench", lambda *values: given.append(values[-1]))
    ground: Any = SimpleNamespace(
        unguided=False,
        subject=SimpleNamespace(shape=(3, 32, 32)),
        engine=choose("cpu"),
        seconds=0.01,
        request=SimpleNamespace(limits=RunLimits(provider="cpu"), sites=[], seconds=60),
        pictures=SimpleNamespace(made=SimpleNamespace(source="statistics"), images=pictures(4), pixels=UNIT),
    )
    finder: Any = None
    Undoing(ground, finder, 4)._bench(Forms(3, lead=lead))
    assert given == [shares]


@pytest.mark.parametrize(("slack", "taken"), [(0.0, False), (0.05, True)])
def test_a_round_may_let_the_forms_turn_a_few_more_where_there_is_slack(slack: float, taken: bool) -> None:
    bench: Any = Bench({}, {})
    best = State(0.99, {}, Gauged(0.1, 1.0))
    assert better(bench, State(0.99, {}, Gauged(0.14, 1.0)), best, 0.08, slack) is taken
    assert not better(bench, State(0.99, {}, Gauged(0.16, 1.0)), best, 0.08, slack)
