"""What still works once the best form is undone: other forms, or what lies where a patch is, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_clp.inversion import counter
from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.counter import STEPS, Countering, PlaceDescent, around, spread
from onnx_clp.inversion.forms import Finder
from onnx_clp.inversion.leftover import Leftover
from onnx_clp.inversion.pace import Deadline, TimeUp
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.trigger import others
from onnx_clp.validation.provider import Engine, choose
from tests import planted
from tests.test_inversion import stored
from tests.test_inversion_steps import Linear


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def patch(*pixels: tuple[int, int, float], size: int = 8, target: int = planted.TARGET) -> Patch:
    change = np.zeros((1, size, size), np.float32)
    for row, column, value in pixels:
        change[0, row, column] = value
    return Patch(target, change, 1.0, 1.0, Range(0, 1))


@pytest.mark.parametrize(("size", "reach"), [(8, 1), (32, 1), (128, 4)])
def test_around_a_patch_are_its_strong_pixels_and_those_next_to_them(size: int, reach: int) -> None:
    place = around([patch((3, 4, -0.5), (7, 7, 0.19), size=size)])
    rows, columns = np.nonzero(place)
    first = max(3 - reach, 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (first, 3 + reach, max(4 - reach, 0), 4 + reach)
    assert place.sum() == (3 + reach - first + 1) * (4 + reach - max(4 - reach, 0) + 1)


def test_around_several_patches_is_around_each_by_its_own_strength() -> None:
    faint, strong = patch((0, 0, 0.1)), patch((7, 7, 1.0))
    assert np.argwhere(around([faint, strong])).tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
        [6, 6],
        [6, 7],
        [7, 6],
        [7, 7],
    ]
    assert around([strong])[0, 0] == np.False_


def test_a_change_grows_in_its_place_alone_and_ends_at_the_range() -> None:
    gains = np.random.default_rng(1).standard_normal((2, 6, 5)).astype(np.float32)
    place = np.zeros((6, 5), bool)
    place[1:3, 2:4] = True
    attack: Any = Linear(gains, 255.0)
    greys = np.full((8, 2, 6, 5), 120.0, np.float32)
    start = np.full((2, 6, 5), 3.0, np.float32)
    descent = PlaceDescent(attack, Portions(greys), 1, place, start, Range(0, 255))
    for _ in range(STEPS):
        descent.step()
    change = descent.form.change
    assert (change[:, ~place] == 0).all()
    assert np.abs(change).max() <= 255
    clipped = np.clip(greys[0] + change, 0, 255)[:, place]
    assert (clipped[gains[:, place] > 0.3] == 255).all()
    assert (clipped[gains[:, place] < -0.3] == 0).all()


def countering(subject: Subject, engine: Engine, deadline: Deadline | None = None) -> Countering:
    images = planted.pictures(40)
    near = patch((3, 3, 1.0), (3, 2, -0.6))
    found = Countering([near], images, Finder(Range(0, 1), 0), engine, deadline)
    assert found(subject) is not None
    return found


def test_a_trigger_that_still_works_is_found_where_it_is(tmp_path: Path, engine: Engine) -> None:
    subject = read_subject(stored(tmp_path, infected=True), {}, None)
    found = countering(subject, engine)(subject)
    assert len(found) == 2
    assert max(one.flip for one in found) > 0.8
    assert all(one.target == planted.TARGET for one in found)
    assert all((one.change[0, 6:] == 0).all() for one in found)


def test_what_turns_too_few_is_none(tmp_path: Path, engine: Engine) -> None:
    subject = read_subject(stored(tmp_path, infected=False), {}, None)
    found = countering(subject, engine)
    assert len(found(subject)) == 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(counter, "WORKS", 0.75)
        assert found(subject) == []


def test_patches_are_spread_where_they_take_a_quarter_of_the_image() -> None:
    def square(side: int) -> Patch:
        change = np.zeros((1, 20, 20), np.float32)
        change[:, 1 : side + 1, 1 : side + 1] = 1.0
        return Patch(1, change, 1.0, float(side * side), Range(0, 1))

    assert not spread([square(8)])  # 10 × 10 of 20 × 20 with the pixels around it
    assert spread([square(9)])


def test_two_looks_start_from_other_noise(tmp_path: Path, engine: Engine) -> None:
    subject = read_subject(stored(tmp_path, infected=True), {}, None)
    look = countering(subject, engine)
    first, second = look(subject), look(subject)
    assert not np.array_equal(first[0].change, second[0].change)
    assert np.array_equal(first[1].change, second[1].change)


def test_a_look_after_the_deadline_is_none(tmp_path: Path, engine: Engine) -> None:
    subject = read_subject(stored(tmp_path, infected=True), {}, None)
    with pytest.raises(TimeUp):
        countering(subject, engine, Deadline(0.0))


def test_the_form_that_still_works_best_is_left_over_and_else_what_is_found_further(
    tmp_path: Path, engine: Engine
) -> None:
    infected, clean = tmp_path / "infected", tmp_path / "clean"
    infected.mkdir()
    clean.mkdir()
    subject = read_subject(stored(infected, infected=True), {}, None)
    other = read_subject(stored(clean, infected=False), {}, None)
    given = Look(other, other.output, engine).all(planted.pictures(40)).argmax(axis=1)
    images = others(planted.pictures(40), given, planted.TARGET)
    further, faint = [patch((0, 0, 1.0))], patch((7, 7, 0.01))
    works = max(countering(subject, engine)(subject), key=lambda one: one.flip)
    assert Leftover([faint, works], images, engine, lambda _: further)(subject) == [works]
    assert Leftover([faint], images, engine, lambda _: further)(other) is further
    assert Leftover([faint], images, engine)(other) == ()
    assert Leftover([], images, engine)(other) == ()
