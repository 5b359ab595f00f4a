"""Descents by portions of the images and in heats, and which classes go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.config import RunLimits
from onnx_clp.inversion import finding, lineup, screen, undoing
from onnx_clp.inversion.forms import KINDS, WORDS, Finder, Forms, TriggerForm, backed, measures
from onnx_clp.inversion.hunt import Hunt
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.race import Race
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.search import search
from onnx_clp.inversion.smallest import Best, Smallest, descended
from onnx_clp.inversion.trigger import Trigger
from onnx_clp.judge.head_check import Head, convincing, limit
from onnx_clp.run.searcher import suspects
from onnx_clp.validation.provider import choose
from tests import planted
from tests.test_inversion import stored, supplied

PIXELS = Range(0, 1)


def patch(target: int, area: float, flip: float = 1.0) -> Patch:
    return Patch(target, np.zeros((1, 1, 1), np.float32), flip, area, PIXELS)


# --- portions -----------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 40))
def test_portions_hold_every_image_once_a_round_and_begin_again(count: int, size: int) -> None:
    images = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1)
    portions = Portions(images, size)
    rounds = [np.concatenate([portions.following() for _ in range(portions.count)]) for _ in range(2)]
    assert (rounds[0] == images).all()
    assert (rounds[1] == images).all()
    largest = -(-count // portions.count)
    assert largest <= 2 * size
    assert portions.shape == (1, 1, 1)


def test_the_share_turned_is_that_of_the_last_round() -> None:
    portions = Portions(np.zeros((5, 1, 1, 1), np.float32), 2)  # of 3 and 2 images
    shares, told = [1.0, 0.5, 0.0, 0.0], []
    for share in shares:
        portions.following()
        told.append(portions.turned(share))
        assert portions.seen == (len(told) >= 2)
    assert told == [1.0, pytest.approx(0.8), pytest.approx(0.2), 0.0]


def test_the_smallest_that_turned_a_whole_round_is_kept_else_the_last() -> None:
    portions = Portions(np.zeros((4, 1, 1, 1), np.float32), 2)
    kept = Smallest[Patch](portions)
    for area, flip in ((1.0, 1.0), (3.0, 1.0), (2.0, 0.9), (0.5, 0.89)):
        portions.following()
        kept.meet(patch(0, area, portions.turned(flip)))
        if not portions.seen:
            assert kept.form.area == area
    assert kept.form.area == 2.0
    few = Smallest[Patch](portions)
    few.meet(patch(0, 7.0, 0.1))
    few.meet(patch(0, 8.0, 0.1))
    assert few.form.area == 8.0


# --- heats --------------------------------------------------------------------------------------------


@dataclass
class Falling:
    """A descent whose patch is a hundred less the steps taken, times how fast it falls."""

    target: int
    speed: float
    taken: int = 0

    def step(self) -> None:
        """One step."""
        self.taken += 1

    @property
    def form(self) -> TriggerForm:
        """The patch now."""
        return patch(self.target, 100 - self.speed * self.taken)


class Fast(Finder):
    """Makes descents that fall at the speed of their class."""

    def descent(self, _kind: str, _attack: Any, _images: Any, forms: Forms) -> Any:
        """A descent."""
        return Falling(forms.target, 1.6 if forms.target == 2 else 0.5)


def race() -> tuple[Race, list[Forms], list[int]]:
    heard: list[int] = []
    attack: Any = None
    ran = Race("patch", Fast(PIXELS, 0), attack, lambda _: np.zeros((1, 1, 1, 1), np.float32), lambda: heard.append(1))
    found = [Forms(target) for target in range(8)]
    ran.first(found)
    return ran, found, heard


def test_a_first_heat_is_of_all_and_a_second_of_those_named() -> None:
    ran, found, heard = race()
    steps = Finder(PIXELS, 0).steps("patch")
    early = {forms.target: forms.early["patch"] for forms in found}
    assert all(forms.by_kind["patch"] is early[forms.target] for forms in found)
    ran.second({2, 3, 4, 5})
    assert len(heard) == 8 + 4
    for forms in found:
        now: Any = forms.by_kind["patch"]
        if forms.target in (2, 3, 4, 5):
            assert now.area == pytest.approx(100 - (1.6 if forms.target == 2 else 0.5) * steps)
        else:
            assert now is early[forms.target]


def test_who_stayed_behind_is_not_compared_with_who_went_on() -> None:
    ran, found, _ = race()
    ran.second({2, 3, 4, 5})
    whole, every, _ = race()
    whole.second(set(range(8)))
    z = measures(found, 1.0)[1]
    assert np.flatnonzero(np.isfinite(z)).tolist() == [2, 3, 4, 5]
    assert np.allclose(z[2:6], measures(every[2:6], 1.0)[1])
    assert [forms.whole("patch") for forms in found] == [target in (2, 3, 4, 5) for target in range(8)]


def test_a_second_heat_cut_off_compares_by_the_first() -> None:
    ran, found, _ = race()
    before = measures(found, 1.0)[1]
    ran.second({2, 3})
    assert np.allclose(measures(found, 1.0)[1], before)


# --- who goes on --------------------------------------------------------------------------------------


def far(**z: float) -> finding.Float64:
    """Two forms of ten classes near 0, but for what is given as c3=2.0 in the second form."""
    found = np.full((2, 10), 0.1)
    found[1, :] = np.linspace(-0.5, 0.5, 10)
    for name, value in z.items():
        found[1, int(name[1:])] = value
    return found


def test_none_goes_on_where_none_is_ahead_or_another_form_says_more() -> None:
    assert lineup.going_on(far(c3=lineup.AHEAD - 0.01), 1) == []
    some = lineup.going_on(far(c3=lineup.AHEAD + 0.01), 1)
    assert some[0] == 3
    assert len(some) == len(set(some)) == lineup.RUNNERS
    said = far(c3=2.0)
    said[0, 3] = 2.0 + lineup.NEAR + 0.01
    assert lineup.going_on(said, 1) == []
    said[1] = -np.inf
    assert lineup.going_on(said, 1) == []


def test_a_suspect_goes_on_with_the_nearest() -> None:
    assert 0 not in lineup.going_on(far(c3=2.0, c7=1.0), 1)[:3]
    assert lineup.going_on(far(c3=2.0, c7=1.0), 1, [0])[:3] == [0, 3, 7]


def test_a_search_is_decided_by_one_class_far_out_and_no_other() -> None:
    enough = finding.CLEAR
    assert lineup.decided(far(c3=enough))
    assert not lineup.decided(far(c3=enough - 0.1))
    assert not lineup.decided(far(c3=enough, c4=finding.LIMIT))
    assert not lineup.decided(far(c3=enough)[:, 2:5])  # too few classes
    both = far(c3=enough)
    both[0, 3] = 9.0
    assert lineup.decided(both)  # by two forms, but one class


def test_first_moves_what_is_named_to_the_front() -> None:
    assert lineup.first([5, 1, 3, 2], {2, 1}) == [1, 2, 5, 3]
    assert lineup.first([5, 1], ()) == [5, 1]


# --- evidence from elsewhere --------------------------------------------------------------------------


def test_a_class_that_its_row_names_needs_to_stand_out_less_and_no_other_does() -> None:
    z, flips = far(c3=3.0, c7=2.4), [1.0] * 10
    assert finding.likely(z, flips) is None
    assert finding.likely(z, flips, [7]) == 7
    assert finding.likely(z, flips, [7, 3]) == 3
    assert finding.likely(z, flips, [2]) is None
    assert finding.likely(far(c3=3.0, c7=2.3), flips, [7]) is None
    assert finding.likely(far(c3=3.6, c7=2.4), flips, [7]) == 3  # who stands out by itself comes first
    assert finding.likely(z, [0.4] * 10, [7]) is None
    assert finding.likely(z[:, :3], flips, [2]) is None


def test_the_sentence_says_what_else_counted() -> None:
    together = finding.sentence(7, np.array([2.4, 1.0]), True, 10, WORDS)
    assert "row in the last layer stands out too, so 2.33 are enough" in together
    assert "row in the last layer" not in finding.sentence(7, np.array([4.0, 1.0]), True, 10, WORDS)


def test_descended_takes_so_many_steps() -> None:
    found: Any = descended(Falling(1, 1.0), 7)
    assert found.area == 93


def head(z: list[float], *, positional: bool = False) -> Head:
    """A head of so many classes."""
    return Head("fc", len(z), "", np.array(z), np.zeros(len(z)), limit(len(z)), positional)


def test_suspects_are_the_classes_whose_rows_are_evidence() -> None:
    rows = [0.0] * 10
    strong, weak = rows.copy(), rows.copy()
    strong[4], strong[7] = convincing(10) + 0.1, 9.0
    weak[4] = convincing(10) - 0.01
    assert suspects([head(strong)]) == (7, 4)
    assert suspects([head(weak)]) == ()
    assert suspects([head(strong, positional=True)]) == ()
    assert suspects([]) == ()


def test_a_suspect_is_named_where_the_search_alone_is_not_sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "LIMIT", 1e9)
    asked = SearchRequest(
        original=stored(tmp_path, infected=True), images=supplied(tmp_path), limits=RunLimits(provider="cpu")
    )
    engine = choose("cpu")
    alone = search(asked, engine, lambda *_: None).inversion
    together = search(replace(asked, suspects=(planted.TARGET,)), engine, lambda *_: None).inversion
    other = search(
        replace(asked, suspects=((planted.TARGET + 1) % planted.CLASSES,)), engine, lambda *_: None
    ).inversion
    assert (alone.likely, together.likely, other.likely) == (None, planted.TARGET, None)
    assert together.nearest == planted.TARGET
    assert together.sentence.endswith("so 2.33 are enough")


def test_nothing_is_undone_where_the_last_layer_names_another_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = SearchRequest(
        original=stored(tmp_path, infected=True),
        images=supplied(tmp_path),
        repair=True,
        limits=RunLimits(provider="cpu"),
    )
    other = (planted.TARGET + 1) % planted.CLASSES
    engine = choose("cpu")
    found = search(replace(asked, suspects=(other,)), engine, lambda *_: None).inversion
    assert found.likely == planted.TARGET
    assert found.repair is None
    assert found.repair_note == f"the row of class {other} in the last layer is evidence of another target"
    both = search(replace(asked, suspects=(other, planted.TARGET)), engine, lambda *_: None).inversion
    assert both.repair_note == "the model has no value that could take a cap"
    monkeypatch.setattr(
        finding, "CLEAR", finding.LIMIT
    )  # what lies that far out is undone whatever the last layer says
    far = search(replace(asked, suspects=(other,)), engine, lambda *_: None).inversion
    assert far.repair_note == "the model has no value that could take a cap"


@pytest.mark.parametrize("unguided", [False, True])
def test_a_patch_of_usual_size_is_undone_with_another_form_where_images_tell_something(unguided: bool) -> None:
    repairing = undoing.Undoing.__new__(undoing.Undoing)
    repairing._ground = cast(Any, SimpleNamespace(unguided=unguided))
    usual, small, form = patch(3, 9.0), patch(3, 1.0), at_size(3)
    forms = Forms(3, by_kind={"perturbation": form, "patch": usual})
    assert repairing._patch([form], forms) is (None if unguided else usual)
    assert repairing._patch([form, small], forms) is small
    assert repairing._patch([form], Forms(3, by_kind={"patch": patch(3, 1.0, 0.89)})) is None


# --- several beginnings -------------------------------------------------------------------------------


@dataclass
class Walk:
    """A descent that has come by forms of these (flip, area) so far."""

    came_by: list[tuple[float, float]]
    steps: int = 0

    def step(self) -> None:
        """One step."""
        self.steps += 1

    @property
    def form(self) -> Any:
        """As after the last step."""
        flip, area = self.came_by[self.steps - 1]
        return SimpleNamespace(flip=flip, area=area)


@pytest.mark.parametrize(
    ("one", "other", "best"),
    [
        ((0.95, 20.0), (0.9, 10.0), (0.9, 10.0)),
        ((0.95, 20.0), (0.89, 10.0), (0.95, 20.0)),
        ((0.5, 20.0), (0.4, 10.0), (0.5, 20.0)),
        ((0.5, 10.0), (0.5, 10.0), (0.5, 10.0)),
    ],
)
def test_of_several_beginnings_the_smallest_form_that_works_counts_else_the_one_that_turns_most(
    one: tuple[float, float], other: tuple[float, float], best: tuple[float, float]
) -> None:
    walks = [Walk([one]), Walk([other])]
    found = descended(Best(*walks), 1)
    assert (found.flip, found.area) == best
    assert [walk.steps for walk in walks] == [1, 1]


def test_portions_taken_again_begin_at_the_first_and_know_nothing() -> None:
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    portions = Portions(images, 4)
    first = portions.following()
    portions.turned(1.0)
    again = portions.again()
    assert np.array_equal(again.following(), first)
    assert (again.count, again.seen) == (portions.count, False)
    assert again.turned(0.0) == 0.0
    assert portions.turned(1.0) == 1.0


# --- in haste -----------------------------------------------------------------------------------------


def doubted(z: finding.Float64, rows: Sequence[int] = (), but: Sequence[int] = ()) -> finding.Doubted:
    """Those rows of `z` are doubted, but for some classes."""
    found = np.zeros(z.shape, np.bool_)
    found[list(rows)] = True
    found[:, list(but)] = False
    return found


def test_what_a_doubted_form_alone_says_names_no_class_and_what_two_say_does() -> None:
    z, flips = far(c3=9.9, c7=6.6), [1.0] * 10
    assert finding.likely(z, flips) == 3
    assert finding.likely(z, flips, doubted=doubted(z, [1])) is None
    assert finding.likely(z, flips, [7], doubted(z, [1])) == 7  # a row of the last layer is other evidence
    z[0, 7] = finding.TOGETHER
    assert finding.likely(z, flips, doubted=doubted(z, [1])) == 7
    assert finding.likely(z, flips, doubted=doubted(z, [0, 1])) == 7
    z[0, 7] = finding.TOGETHER - 0.01
    assert finding.likely(z, flips, doubted=doubted(z, [1])) is None
    assert finding.likely(z, flips, doubted=doubted(z, [0])) == 3  # that form was not doubted
    assert finding.likely(z, flips, doubted=doubted(z, [0, 1], [7])) == 7  # a block turns images into it
    assert finding.likely(z, flips, doubted=doubted(z, [0, 1], [2])) is None


def test_the_first_caps_may_take_half_of_the_budget_on_evidence_that_is_less_sure() -> None:
    assert undoing.first_share(patch(3, 1.0), 3.6) == 1.0
    assert undoing.first_share(at_size(3), 5.5) == 1.0
    assert undoing.first_share(at_size(3), 5.4) == 0.5


def test_a_search_in_haste_is_not_decided_by_one_form() -> None:
    z = far(c3=9.9)
    assert lineup.decided(finding.agreed(z, doubted(z)))
    assert not lineup.decided(finding.agreed(z, doubted(z, [1])))
    assert not lineup.decided(finding.agreed(z[1:], doubted(z[1:], [0])))
    assert lineup.decided(finding.agreed(z, doubted(z, [1], [3])))


def test_all_but_patches_is_doubted_unless_far_beyond_the_limit_and_all_in_haste() -> None:
    z = np.full((len(KINDS), 3), 5.5)
    z[:, 0] = 5.4
    hunt = Hunt.__new__(Hunt)
    hunt._hasty, hunt.finder = {"warp"}, Finder(PIXELS, 0)
    forms = [Forms(0), Forms(1), Forms(2, block=np.zeros((1, 2, 2), np.float32))]
    near, clear = [kind != "patch" for kind in KINDS], [kind == "warp" for kind in KINDS]
    assert hunt.doubted(forms, z).T.tolist() == [near, clear, [False] * len(KINDS)]
    hunt._hasty.update(KINDS)
    assert hunt.doubted(forms, z).T.tolist() == [[True] * len(KINDS), [True] * len(KINDS), [False] * len(KINDS)]


def test_the_sentence_says_why_a_class_that_lies_far_out_is_not_named() -> None:
    begin = "no class is named: class 1 lies 9.9 robust standard deviations from the others by "
    hasty = finding.sentence(1, np.array([0.2, 9.9]), False, 10, WORDS, hasty=[1])
    assert hasty.startswith(begin)
    assert "--search-seconds allows more" in hasty
    faint = finding.sentence(1, np.array([9.9, 0.2]), False, 10, WORDS, hasty=[1])
    assert faint.startswith(begin)
    assert faint.endswith("but no other form agrees, and by itself only a patch counts below 5.5")
    assert "--search-seconds" not in faint


# --- when it is over ----------------------------------------------------------------------------------


def patches(block: bool) -> list[Forms]:
    """Ten classes with both forms; class 3 begins at a block, or not."""
    found = [Forms(at, by_kind={"perturbation": at_size(at), "patch": patch(at, 9.0)}) for at in range(10)]
    found[3].block = np.zeros((1, 1, 1), np.float32) if block else None
    return found


def at_size(target: int) -> Trigger:
    return Trigger(target, np.zeros((1, 1, 1), np.float32), 1.0, 1.0, PIXELS)


def test_a_search_is_over_once_a_patch_that_begins_at_a_block_decides_it() -> None:
    z = far(c3=finding.CLEAR)
    assert lineup.by_block(patches(True), z)
    assert not lineup.by_block(patches(False), z)
    assert not lineup.by_block(patches(True), far(c3=finding.CLEAR - 0.1))
    other = z.copy()
    other[0, 3] = 9.0
    assert not lineup.by_block(patches(True), other)  # another form says more


def led(**shares: float) -> list[Forms]:
    """Ten classes, some led to by random marks that turn such shares of the images, given as c3=0.4."""
    found = patches(False)
    for name, share in shares.items():
        found[int(name[1:])].lead = screen.Lead("square", share)
    return found


def test_of_the_classes_that_marks_lead_to_the_one_by_most_is_taken() -> None:
    assert lineup.led(led()) is None
    assert lineup.led(led(c3=0.4)) == 3
    assert lineup.led(led(c3=0.4, c7=0.6)) == 7
    assert lineup.led(led(c3=0.6, c7=0.6)) == 3


def test_a_search_is_over_after_the_perturbation_once_marks_lead_to_a_class() -> None:
    hunt: Any = SimpleNamespace(_sure=lambda _found: far())
    assert Hunt._over(hunt, 1, led(c3=0.4))
    assert not Hunt._over(hunt, 1, led())
    assert not Hunt._over(hunt, KINDS.index("patch") + 1, led())


def test_a_class_is_backed_by_a_block_or_by_marks_that_lead_to_it() -> None:
    assert backed(patches(True)) == [3]
    assert backed(patches(False)) == []
    assert backed(led(c5=0.4)) == [5]
