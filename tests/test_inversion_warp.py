"""Warps: sampling, its slope, and a search that finds a planted warp and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.warp import FARTHEST, Sampling, Warp, invert_warp
from onnx_clp.validation.provider import choose


def test_no_displacement_changes_nothing_and_whole_pixels_move_whole_pixels() -> None:
    images = np.random.default_rng(0).random((2, 3, 5, 4)).astype(np.float32)
    still = np.zeros((2, 5, 4), np.float32)
    assert np.allclose(Sampling(still).warped(images), images, atol=1e-6)
    down = still.copy()
    down[0] = 1
    moved = Sampling(down).warped(images)
    assert np.allclose(moved[:, :, :-1], images[:, :, 1:])
    assert np.allclose(moved[:, :, -1], images[:, :, -1])  # the border's pixels repeat
    assert Warp(0, down, 1.0).put_on(images).shape == images.shape


def test_halfway_between_two_pixels_lies_their_mean() -> None:
    images = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    field = np.zeros((2, 1, 4), np.float32)
    field[1] = 0.5
    assert np.allclose(Sampling(field).warped(images), [[[[0.5, 1.5, 2.5, 3.0]]]])


def test_the_slope_matches_differences() -> None:
    rng = np.random.default_rng(1)
    images = rng.random((2, 2, 6, 5)).astype(np.float32)
    field = rng.uniform(-1.4, 1.4, (2, 6, 5)).astype(np.float32)
    pull = rng.standard_normal(images.shape).astype(np.float32)
    slope = Sampling(field).slope(images, pull)

    def height(at: tuple[int, int, int], step: float) -> float:
        moved = field.astype(np.float64)
        moved[at] += step
        return float((Sampling(moved.astype(np.float32)).warped(images).astype(np.float64) * pull).sum())

    checked = 0
    for at in np.ndindex(field.shape):
        place = field[at] + at[1 + at[0]]
        if abs(place - round(float(place))) < 0.02:  # a kink: between two cells, or at the border
            continue
        found = (height(at, 5e-3) - height(at, -5e-3)) / 1e-2
        assert found == pytest.approx(float(slope[at]), rel=2e-2, abs=2e-3)
        checked += 1
    assert checked > 40


def shift_detector(folder: Path, target: int) -> Path:
    """Four scores: the target's rises with the light in the upper half, which a shift upwards brings there."""
    light = np.zeros((64, 4), np.float32)
    light[:32, target] = 1.0
    rest = np.zeros(4, np.float32)
    rest[:] = 5.0
    rest[target] = 0.0
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "light", "rest"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shift",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(light, "light"), numpy_helper.from_array(rest, "rest")],
    )
    path = folder / "shift.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def bars(count: int) -> NDArray[np.float32]:
    """A bright row just below the middle: one pixel's shift upwards brings it to the upper half."""
    images = np.zeros((count, 1, 8, 8), np.float32)
    images[:, :, 4] = np.linspace(0.9, 1.0, count, dtype=np.float32)[:, None, None]
    return images


def test_a_class_that_a_warp_leads_to_is_found_and_the_others_are_not(tmp_path: Path) -> None:
    attack = Attack(read_subject(shift_detector(tmp_path, 2), {}, None), choose("cpu"))
    found = invert_warp(attack, bars(8), 2, 0)
    assert found.flip >= 0.9
    assert found.area < FARTHEST / 2
    assert (found.field[0, 2:4] > 0).any()  # samples from farther down
    other = invert_warp(attack, bars(8), 1, 0, steps=20)
    assert other.flip < 0.9
    assert other.area == FARTHEST
