"""What a search for a form does with the slopes it is given, on models small enough to be written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_clp.inversion import wave
from onnx_clp.inversion.blend import invert_blend
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.patch import invert_patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import invert
from onnx_clp.inversion.wave import invert_wave

SHAPE = (2, 6, 5)


@dataclass
class Darker:
    """Never gives way, and would have every pixel darker."""

    def logits(self, images: Images) -> Float32:
        """Class 0 for all."""
        return np.tile(np.array([1, 0], np.float32), (len(images), 1))

    def pull(self, images: Images, _target: int) -> tuple[Float32, Images]:
        """A slope of 1 everywhere."""
        return self.logits(images), np.ones_like(images)


@dataclass
class Linear:
    """Two scores: 0, and the sum of `gains` times pixels in units of `unit`, less 1."""

    gains: Float32
    unit: float = 1.0

    def logits(self, images: Images) -> Float32:
        """The scores."""
        lit = (images / np.float32(self.unit) * self.gains).sum(axis=(1, 2, 3))
        return np.stack([np.zeros_like(lit), lit - 1], axis=1)

    def pull(self, images: Images, _target: int) -> tuple[Float32, Images]:
        """The scores, and the slope of the mean cross-entropy to class 1."""
        logits = self.logits(images)
        missed = 1 / (1 + np.exp(logits[:, 1])) / len(images)
        slopes = -missed[:, None, None, None] * self.gains / np.float32(self.unit)
        return logits, np.asarray(slopes, np.float32)


def linear(unit: float = 1.0) -> Any:
    return Linear((0.3 * np.random.default_rng(1).standard_normal(SHAPE)).astype(np.float32), unit)


def greys() -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    return rng.uniform(0.4, 0.6, (4, *SHAPE)).astype(np.float32)


# --- pixels that have left the range ------------------------------------------------------------------


def test_black_pixels_are_not_pushed_below_the_range() -> None:
    """There a darker change has nothing to hold it, so the first step shrinks it away; on light ground it grows."""
    attack: Any = Darker()
    black, light = (np.full((3, *SHAPE), ground, np.float32) for ground in (0.0, 0.9))
    dark = np.full(SHAPE, -0.1, np.float32)
    for search in (invert_patch, invert_wave):
        assert (search(attack, black, 1, dark, Range(0, 1), steps=2).change == 0).all()
        assert (search(attack, light, 1, dark, Range(0, 1), steps=2).change < -0.11).all()


def test_a_perturbation_stops_where_it_leaves_the_range() -> None:
    attack: Any = Darker()
    black, grey = (np.full((3, *SHAPE), ground, np.float32) for ground in (0.0, 0.9))
    start = invert(attack, black, 1, Range(0, 1), 0, steps=0).perturbation
    below = start < 0
    assert below.any()
    held = invert(attack, black, 1, Range(0, 1), 0, steps=4, budget=9.0).perturbation
    assert (held[below] == start[below]).all()
    free = invert(attack, grey, 1, Range(0, 1), 0, steps=4, budget=9.0).perturbation
    assert (free < start - 0.2).all()


# --- units --------------------------------------------------------------------------------------------


Search = Callable[[Any, NDArray[np.float32], float], tuple[Float32, float]]


def patch_of(attack: Any, images: NDArray[np.float32], unit: float) -> tuple[Float32, float]:
    found = invert_patch(attack, images, 1, np.full(SHAPE, 0.02 * unit, np.float32), Range(0, unit))
    return found.change, found.area


def wave_of(attack: Any, images: NDArray[np.float32], unit: float) -> tuple[Float32, float]:
    found = invert_wave(attack, images, 1, np.full(SHAPE, 0.02 * unit, np.float32), Range(0, unit))
    return found.change, found.area


def blend_of(attack: Any, images: NDArray[np.float32], unit: float) -> tuple[Float32, float]:
    found = invert_blend(attack, images, 1, Range(0, unit), 0)
    return found.pattern, found.area


def trigger_of(attack: Any, images: NDArray[np.float32], unit: float) -> tuple[Float32, float]:
    found = invert(attack, images, 1, Range(0, unit), 0)
    return found.perturbation, found.area / unit


@pytest.mark.parametrize("search", [patch_of, wave_of, blend_of, trigger_of])
def test_the_unit_of_pixel_values_changes_nothing(search: Search) -> None:
    """A byte model finds what a model of shares finds, 256 times as large."""
    change, size = search(linear(), greys(), 1.0)
    again, same = search(linear(256.0), 256 * greys(), 256.0)
    assert size > 0
    assert same == pytest.approx(size, rel=1e-3)
    assert np.allclose(again / 256, change, atol=1e-3)


# --- frequencies --------------------------------------------------------------------------------------


def test_a_frequency_goes_with_both_phases_and_all_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Float32] = []

    class Watched(Shrinking):
        def __init__(self, values: Float32, rate: float, weight: float, together: int = 0) -> None:
            super().__init__(values, rate, weight, together)
            kept.append(values)

    monkeypatch.setattr(wave, "Shrinking", Watched)
    start = (0.05 * np.random.default_rng(3).standard_normal(SHAPE)).astype(np.float32)
    found = invert_wave(linear(), greys(), 1, start, Range(0, 1))
    assert found.flip >= 0.9
    (amplitudes,) = kept
    zero = (amplitudes == 0).reshape(*amplitudes.shape[:2], -1)
    gone = zero.all(axis=2)
    assert gone.sum() >= 4
    assert not gone.all()
    gone[0, 0] = zero[0, 0].any()  # the mean has no sine
    assert (zero.any(axis=2) == gone).all()
