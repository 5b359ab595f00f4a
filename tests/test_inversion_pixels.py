"""The range of pixels: what lies outside, what leads further out, searches that stay within; and how forms compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.blend import Blend, invert_blend
from onnx_clp.inversion.forms import KINDS, Forms, TriggerForm, measures
from onnx_clp.inversion.patch import Patch, invert_patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.trigger import Trigger, invert, lead, outcome
from onnx_clp.inversion.warp import Warp
from onnx_clp.inversion.wave import Wave, invert_wave
from onnx_clp.validation.provider import choose

RANGES = st.tuples(st.floats(-5, 5, width=32), st.floats(0.125, 8, width=32)).map(lambda r: Range(r[0], r[0] + r[1]))
SEEDS = st.integers(0, 2**32 - 1)


# --- the range ----------------------------------------------------------------------------------------


def around(pixels: Range, seed: int, shape: tuple[int, ...] = (3, 2, 4, 4)) -> NDArray[np.float32]:
    """Values inside, outside, and at both ends."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(pixels.low - pixels.span, pixels.high + pixels.span, shape).astype(np.float32)
    values.flat[0], values.flat[-1] = pixels.low, pixels.high
    return values


@settings(max_examples=50, deadline=None)
@given(RANGES, SEEDS)
def test_clipped_moves_what_lies_outside_to_the_nearest_end(pixels: Range, seed: int) -> None:
    images = around(pixels, seed)
    low, high = np.float32(pixels.low), np.float32(pixels.high)
    found = pixels.clipped(images)
    assert found.dtype == np.float32
    assert (found[images < low] == low).all()
    assert (found[images > high] == high).all()
    inside = (images >= low) & (images <= high)
    assert (found[inside] == images[inside]).all()


@settings(max_examples=50, deadline=None)
@given(RANGES, SEEDS)
def test_a_gradient_is_stopped_exactly_where_a_step_would_lead_further_out(pixels: Range, seed: int) -> None:
    images = around(pixels, seed)
    slopes = np.random.default_rng([seed, 1]).standard_normal(images.shape).astype(np.float32)
    found = pixels.inward(images, slopes)
    assert found.dtype == np.float32
    away = np.abs(images - pixels.clipped(images))
    stepped = images - np.float32(0.01 * pixels.span) * np.sign(slopes)
    further = (away > 0) & (np.abs(images - stepped) > 0) & ((images > np.float32(pixels.high)) == (stepped > images))
    assert (found[further] == 0).all()
    assert (found[~further] == slopes[~further]).all()


@pytest.mark.parametrize(
    ("place", "slope", "left"),
    [(-0.5, 1.0, 0.0), (-0.5, -1.0, -1.0), (1.5, -1.0, 0.0), (1.5, 1.0, 1.0), (0.5, 1.0, 1.0), (0.0, 1.0, 1.0)],
)
def test_a_pixel_outside_may_come_back(place: float, slope: float, left: float) -> None:
    images, gradient = np.array([place], np.float32), np.array([slope], np.float32)
    assert Range(0, 1).inward(images, gradient).tolist() == [left]


@settings(max_examples=50, deadline=None)
@given(RANGES, SEEDS, st.floats(0, 1e6))
def test_what_is_put_on_never_leaves_the_range(pixels: Range, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    change = (size * rng.standard_normal((2, 4, 4))).astype(np.float32)
    images = pixels.clipped(around(pixels, seed))
    low, high = np.float32(pixels.low), np.float32(pixels.high)
    for form in (
        Trigger(0, change, 1.0, 0.0, pixels),
        Patch(0, change, 1.0, 1.0, pixels),
        Wave(0, change, 1.0, 1.0, pixels),
    ):
        marked = form.put_on(images)
        assert low <= marked.min()
        assert marked.max() <= high
        assert (marked == np.clip(images + change, low, high)).all()
    pattern = pixels.clipped(around(pixels, seed + 1, (2, 4, 4)))
    blended = Blend(0, rng.random((4, 4)).astype(np.float32), pattern, 1.0).put_on(images)
    slack = 1e-6 * (abs(pixels.low) + pixels.span)  # a mean of two values within, to within rounding
    assert pixels.low - slack <= blended.min()
    assert blended.max() <= pixels.high + slack


# --- planted detectors --------------------------------------------------------------------------------


def detector(folder: Path, sign: float) -> Path:
    """Three scores; that of 1 is the sum over pixels of relu(0.1 + sign · x), 0 has 12, 2 nothing.

    With sign −1 all of 64 black pixels give 6.4: only pixels below 0 could give more than 12.
    """
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Mul", ["flat", "sign"], ["signed"]),
        helper.make_node("Add", ["signed", "shift"], ["raised"]),
        helper.make_node("Relu", ["raised"], ["lit"]),
        helper.make_node("MatMul", ["lit", "one"], ["sum"]),
        helper.make_node("Gemm", ["sum", "spread", "rest"], ["y"]),
    ]
    values: dict[str, list[Any]] = {
        "sign": [sign],
        "shift": [0.1],
        "one": [[1.0]] * 64,
        "spread": [[0, 1, 0]],
        "rest": [12, 0, 0],
    }
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()],
    )
    path = folder / "detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def searched(folder: Path, sign: float, pixels: Range) -> Sequence[TriggerForm]:
    """What leads nearly black images to class 1."""
    attack = Attack(read_subject(detector(folder, sign), {}, None), choose("cpu"))
    images = np.random.default_rng(0).uniform(0, 0.08, (6, 1, 8, 8)).astype(np.float32)
    assert (attack.logits(images).argmax(axis=1) == 0).all()
    trigger = invert(attack, images, 1, pixels, 0, budget=0.2)
    start = trigger.perturbation
    patch, wave = (search(attack, images, 1, start, pixels) for search in (invert_patch, invert_wave))
    found = (trigger, patch, wave, invert_blend(attack, images, 1, pixels, 0))
    for form in found:
        assert outcome(attack.logits(form.put_on(images)), 1)[0] == form.flip
    return found


def test_what_only_pixels_below_the_range_reach_is_not_found(tmp_path: Path) -> None:
    assert [form.flip for form in searched(tmp_path, -1.0, Range(0, 1))] == [0.0] * 4
    assert min(form.flip for form in searched(tmp_path, -1.0, Range(-1, 1))) >= 0.9  # where they are in range


def test_what_bright_pixels_within_the_range_reach_is_found(tmp_path: Path) -> None:
    assert min(form.flip for form in searched(tmp_path, 1.0, Range(0, 1))) >= 0.9


# --- how far classes stand out ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ease:
    """How easily a class is reached: the margin, and patch, blend, warp and wave sizes; `flips` in the forms' order."""

    margin: float = 1.0
    sizes: tuple[float, float, float, float] = (20.0, 10.0, 1.0, 0.5)
    flips: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)

    def forms(self, target: int) -> Forms:
        """Forms of these sizes."""
        one, pixels = np.zeros((1, 1, 1), np.float32), Range(0, 1)
        patch, blend, warp, wave = self.sizes
        found: list[TriggerForm] = [
            Trigger(target, one, self.flips[0], self.margin, pixels),
            Patch(target, one, self.flips[1], patch, pixels),
            Blend(target, np.full((1, 1), blend, np.float32), one, self.flips[2]),
            Warp(target, np.full((2, 1, 1), warp, np.float32), self.flips[3]),
            Wave(target, one, self.flips[4], wave, pixels),
        ]
        return Forms(target, one, dict(zip(KINDS, found, strict=True)))


def among(odd: Ease) -> finding.Float64:
    """Measures of nine ordinary classes and, in place 6, another one."""
    common = [Ease(1 + 0.02 * n, (20.0 + n, 10.0 + n / 5, 1 + n / 50, 0.5 + n / 100)) for n in range(9)]
    return measures([one.forms(at) for at, one in enumerate([*common[:6], odd, *common[6:]])], 2.0)


@pytest.mark.parametrize("form", range(4))
def test_a_class_stands_out_by_its_one_small_form_if_that_works(form: int) -> None:
    sizes, flips = [20.0, 10.0, 1.0, 0.5], [1.0] * 5
    sizes[form] /= 20
    small = Ease(sizes=(sizes[0], sizes[1], sizes[2], sizes[3]))
    z = among(small)
    assert divmod(int(z.argmax()), 10) == (form + 1, 6)
    assert finding.likely(z, [1.0] * 10) == 6
    assert np.delete(z, form + 1, axis=0)[:, 6].max() < finding.LIMIT
    flips[form + 1] = 0.89
    weak = among(replace(small, flips=(flips[0], flips[1], flips[2], flips[3], flips[4])))
    assert weak[form + 1, 6] <= 0
    assert finding.likely(weak, [1.0] * 10) is None


def test_a_perturbation_that_turns_few_images_cannot_make_a_class_stand_out() -> None:
    far = Ease(margin=9.0)
    assert finding.likely(among(far), [1.0] * 10) == 6
    assert finding.likely(among(replace(far, flips=(0.49, 1.0, 1.0, 1.0, 1.0))), [1.0] * 10) is None


def test_a_form_that_does_not_work_may_still_set_a_class_back() -> None:
    z = among(Ease(margin=-9.0, flips=(0.0, 1.0, 1.0, 1.0, 1.0)))
    assert z[0, 6] < -finding.LIMIT


def test_doubling_every_logit_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    own = rng.standard_normal((20, 6)).astype(np.float32)
    reached = rng.standard_normal((6, 20, 6)).astype(np.float32) + 2 * np.eye(6, dtype=np.float32)[:, None]

    def judged(margin_scale: float, lead_scale: float) -> finding.Float64:
        margins = [outcome(np.float32(margin_scale) * reached[t], t)[1] for t in range(6)]
        return measures([Ease(m).forms(t) for t, m in enumerate(margins)], lead(np.float32(lead_scale) * own))

    assert np.allclose(judged(1, 1), judged(2, 2), rtol=1e-4)
    assert not np.allclose(judged(1, 1)[0], judged(2, 1)[0], rtol=1e-2)


def test_a_lead_is_the_mean_of_the_largest_score_less_the_next() -> None:
    logits = np.array([[3, 1, 2.5], [-1, -4, -6], [7, 7, 0]], np.float32)
    assert lead(logits) == pytest.approx((0.5 + 3 + 0) / 3)
    assert logits.tolist() == [[3, 1, 2.5], [-1, -4, -6], [7, 7, 0]]  # left as they were
