"""Waves: their spectrum there and back, the shrinking that leaves few, and a search that finds a planted one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.wave import Spectrum, invert_wave
from onnx_clp.validation.provider import choose

SIDE = 12
SIZES = st.integers(1, 12)


# --- the spectrum -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_an_image_comes_back_from_its_amplitudes(height: int, width: int, channels: int, seed: int) -> None:
    image = np.random.default_rng(seed).standard_normal((channels, height, width)).astype(np.float32)
    spectrum = Spectrum(height, width)
    amplitudes = spectrum.amplitudes(image)
    assert amplitudes.shape == (height, width // 2 + 1, channels, 2)
    assert np.allclose(spectrum.image(amplitudes), image, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_slope_is_the_adjoint_of_the_image(height: int, width: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spectrum = Spectrum(height, width)
    amplitudes = rng.standard_normal((height, width // 2 + 1, channels, 2)).astype(np.float32)
    pull = rng.standard_normal((channels, height, width)).astype(np.float32)
    image, slope = (x.astype(np.float64) for x in (spectrum.image(amplitudes), spectrum.slope(pull)))
    size = float(np.linalg.norm(image) * np.linalg.norm(pull))
    assert abs((image * pull).sum() - (amplitudes * slope).sum()) <= 1e-5 * size + 1e-6


def drawn(height: int, width: int, down: int, across: int, phase: float) -> Float32:
    """One wave of amplitude 1, (1, height, width): a cosine at phase 0, less a sine at phase π/2."""
    rows, columns = np.mgrid[:height, :width]
    turns = down * rows / height + across * columns / width
    return np.asarray(np.cos(2 * np.pi * turns + phase)[None], np.float32)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (9, 6)])
@pytest.mark.parametrize("phase", [0.0, np.pi / 2])
def test_a_pure_wave_has_one_frequency_and_its_own_amplitude(height: int, width: int, phase: float) -> None:
    for down, across in ((0, 1), (3, 2), (height - 1, 1)):
        found = Spectrum(height, width).amplitudes(0.7 * drawn(height, width, down, across, phase))
        expected = np.zeros_like(found)
        expected[down, across, 0, int(phase > 0)] = 0.7
        assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("across", [0, 4])
@pytest.mark.parametrize("phase", [0.0, np.pi / 2])
def test_at_the_edge_columns_a_wave_and_its_mirror_image_share_the_amplitude(across: int, phase: float) -> None:
    found = Spectrum(8, 8).amplitudes(0.7 * drawn(8, 8, 3, across, phase))
    expected = np.zeros_like(found)
    part = int(phase > 0)
    expected[3, across, 0, part] = 0.35
    expected[5, across, 0, part] = -0.35 if part else 0.35  # a sine changes its sign with its direction
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("down", "across"), [(0, 0), (4, 0), (0, 4), (4, 4)])
def test_a_wave_that_is_its_own_mirror_image_stands_once(down: int, across: int) -> None:
    found = Spectrum(8, 8).amplitudes(0.7 * drawn(8, 8, down, across, 0.0))
    expected = np.zeros_like(found)
    expected[down, across, 0, 0] = 0.7
    assert np.allclose(found, expected, atol=1e-6)


# --- shrinking ----------------------------------------------------------------------------------------


def solved(truth: Float32, together: int) -> Float32:
    """Least squares of 80 random measurements of `truth`, shrunk while they are met to within a little."""
    rng = np.random.default_rng(0)
    measured = (rng.standard_normal((80, truth.size)) / np.sqrt(80)).astype(np.float32)
    seen = measured @ truth.ravel()
    found = rng.standard_normal(truth.shape).astype(np.float32)
    descent = Shrinking(found, 0.02, 1e-2, together)
    for _ in range(600):
        missed = measured @ found.ravel() - seen
        descent.step((measured.T @ missed).reshape(truth.shape), float(missed @ missed) < 0.1)
    return found


def test_alone_entries_shrink_to_exactly_zero_and_a_sparse_solution_stays() -> None:
    truth = np.zeros((6, 4), np.float32)
    truth[1, 2], truth[4, 0] = 2.0, -1.5
    found = solved(truth, 0)
    assert (found[truth == 0] == 0).sum() >= 20
    assert np.allclose(found, truth, atol=0.3)


@pytest.mark.parametrize("together", [1, 2])
def test_together_whole_groups_shrink_to_exactly_zero(together: int) -> None:
    truth = np.zeros((8, 3) if together == 1 else (8, 2, 2), np.float32)
    truth[2], truth[5] = 1.0, -1.5
    found = solved(truth, together).reshape(8, -1)
    gone = (found == 0).all(axis=1)
    assert gone.sum() >= 5
    assert (found[~gone] != 0).all()  # none is 0 in part
    assert not gone[[2, 5]].any()


def test_a_group_moves_and_shrinks_as_by_hand() -> None:
    values = np.array([[3.0, 4.0], [0.03, 0.04]], np.float32)
    slope = np.sqrt(2) * np.array([[0.6, 0.8], [0.6, 0.8]], np.float32)
    Shrinking(values, 0.1, 0.5, 1).step(slope, True)
    # The mean square of the slope is 1, so the step is 0.1·√2 long; the norm shrinks by 0.1 · 0.5 · 1.25.
    assert np.linalg.norm(values[0]) == pytest.approx(5 - 0.1 * np.sqrt(2) - 0.0625, rel=1e-5)
    assert values[0, 1] / values[0, 0] == pytest.approx(4 / 3, rel=1e-5)
    assert np.linalg.norm(values[1]) == pytest.approx(0.1 * np.sqrt(2) - 0.05 - 0.0625, rel=1e-4)


def test_the_weight_rises_while_the_loss_is_low_enough_and_falls_otherwise() -> None:
    after = []
    for enough in (True, False):
        values = np.ones(1, np.float32)
        descent = Shrinking(values, 0.1, 0.5)
        descent.step(np.ones(1, np.float32), enough)
        first = float(values[0])
        descent.step(np.ones(1, np.float32), enough)
        after.append((first, float(values[0])))
    assert after[0] == pytest.approx((0.9 - 0.1 * 0.625, 0.8 - 0.1 * (0.625 + 0.78125)))
    assert after[1] == pytest.approx((0.9 - 0.1 * 0.4, 0.8 - 0.1 * (0.4 + 0.32)))


@pytest.mark.parametrize("together", [0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_slopes_that_are_not_finite_count_as_zero(together: int, bad: float) -> None:
    ends = []
    for slope in (bad, 0.0):
        values = np.ones((2, 3), np.float32)
        descent = Shrinking(values, 0.01, 1e-3, together)
        for odd in (1.0, slope, 1.0):
            gradient = np.ones((2, 3), np.float32)
            gradient[0, 1] = odd
            descent.step(gradient, True)
        ends.append(values)
    assert (ends[0] == ends[1]).all()
    assert (ends[0] > 0.9).all()


# --- a planted wave -----------------------------------------------------------------------------------


def wave_detector(folder: Path) -> Path:
    """Four scores: 0 is what images have, 1 rises with a random picture, 2 with one wave, 3 with nothing."""
    picture = np.random.default_rng(7).standard_normal((SIDE, SIDE))
    wave = drawn(SIDE, SIDE, 2, 3, 0.4)[0]
    gains = np.zeros((SIDE * SIDE, 4), np.float32)
    gains[:, 1] = (picture - picture.mean()).ravel() / np.linalg.norm(picture) * 3
    gains[:, 2] = wave.ravel() / np.linalg.norm(wave) * 6
    rest = np.array([4, 0, 0, 0], np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "gains", "rest"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wave",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(gains, "gains"), numpy_helper.from_array(rest, "rest")],
    )
    path = folder / "wave.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def greys(count: int) -> NDArray[np.float32]:
    """Smooth grey grounds, each of its own level."""
    level = np.linspace(0.3, 0.7, count, dtype=np.float32)[:, None, None, None]
    return level + np.linspace(-0.1, 0.1, SIDE, dtype=np.float32) + np.zeros((1, 1, SIDE, 1), np.float32)


def test_a_class_that_one_wave_leads_to_is_found_and_the_others_are_not(tmp_path: Path) -> None:
    attack = Attack(read_subject(wave_detector(tmp_path), {}, None), choose("cpu"))
    images, pixels = greys(8), Range(0, 1)
    assert (attack.logits(images).argmax(axis=1) == 0).all()
    start = np.random.default_rng(3).normal(0, 0.02, (1, SIDE, SIDE)).astype(np.float32)
    kept = start.copy()
    driven, drawn_to, idle = (invert_wave(attack, images, target, start, pixels) for target in (2, 1, 3))
    assert (start == kept).all()
    assert driven.flip >= 0.9
    assert (attack.logits(driven.put_on(images)).argmax(axis=1) == 2).mean() == driven.flip
    assert driven.area < 0.5 * drawn_to.area
    assert idle.flip < 0.9
    power = (Spectrum(SIDE, SIDE).amplitudes(driven.change) ** 2).sum(axis=(2, 3))
    assert power[2, 3] > 0.9 * power.sum()
    assert driven.area == pytest.approx(np.sqrt(power).sum(), rel=1e-3)


def test_amplitudes_count_in_spans_and_by_the_mean_over_colours(tmp_path: Path) -> None:
    attack = Attack(read_subject(wave_detector(tmp_path), {}, None), choose("cpu"))
    start = drawn(SIDE, SIDE, 1, 1, 0.0)
    assert invert_wave(attack, greys(2), 2, start, Range(-2, 2), steps=1).area == pytest.approx(0.25, rel=1e-4)
