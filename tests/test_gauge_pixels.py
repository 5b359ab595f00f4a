"""Which pixel values a model takes: who says so first, and each way of telling right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from onnx_clp.gauge import pixels
from onnx_clp.gauge.crops import crops
from onnx_clp.gauge.entrance import normalises, range_at
from onnx_clp.gauge.intake import BYTES, CENTRED, LARGE, SIGNED, SIGNED_BYTES, SMALL, STANDARDISED, UNIT, Intake, Pixels
from onnx_clp.gauge.photographs import load
from onnx_clp.gauge.pixels import Choice, mismatch, settled
from onnx_clp.gauge.request import Landmark
from tests.forms.build import model, rand

Array = NDArray[Any]
Look = Callable[[Pixels], list[Array]]


def intake(kind: int = TensorProto.FLOAT) -> Intake:
    return Intake("x", 3, 16, 16, False, kind)


# --- what needs no run --------------------------------------------------------------------------------


def test_the_user_comes_first() -> None:
    for kind in (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8):
        found = settled(intake(kind), (-2.0, 3.0), (0.0, 1.0))
        assert found is not None
        assert (found.told, found.name, found.ends) == ("option", "-2..3", (-2.0, 3.0))


@pytest.mark.parametrize(("kind", "wanted"), [(TensorProto.UINT8, BYTES), (TensorProto.INT8, SIGNED_BYTES)])
def test_eight_bits_tell(kind: int, wanted: Pixels) -> None:
    assert settled(intake(kind), None, None) == Choice((wanted,), "file")


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((0.0, 1.0), UNIT),
        ((-1.0, 0.99), SIGNED),
        ((-2.1, 2.6), STANDARDISED),
        ((0.0, 255.0), BYTES),
        ((-123.0, 151.0), CENTRED),
    ],
)
def test_a_quantiser_at_the_input_tells(ends: tuple[float, float], wanted: Pixels) -> None:
    assert settled(intake(), None, ends) == Choice((wanted,), "file")


def test_floats_alone_tell_nothing() -> None:
    assert settled(intake(), None, None) is None
    assert settled(intake(TensorProto.FLOAT16), None, None) is None


# --- the entrance -------------------------------------------------------------------------------------


def quantised(scale: float, zero: Any, body: str = "y = QuantizeLinear(x, s, z)", **more: Any) -> ModelProto:
    return model(body, x="float[1,3,16,16] x", y="uint8 y", s=np.array(scale, np.float32), z=np.array(zero), **more)()


def test_a_quantisers_range_is_what_its_type_holds() -> None:
    assert range_at(quantised(1 / 255, np.uint8(0)), "x") == pytest.approx((0.0, 1.0))
    assert range_at(quantised(0.5, np.int8(-28)), "x") == pytest.approx((-50.0, 77.5))
    assert range_at(quantised(1.0, np.uint8(0)), "other") is None


def test_a_quantiser_elsewhere_or_by_channel_tells_nothing() -> None:
    later = quantised(1.0, np.uint8(0), "a = Relu(x) y = QuantizeLinear(a, s, z)")
    assert range_at(later, "x") is None
    channels = model(
        "y = QuantizeLinear<axis = 1>(x, s, z)",
        x="float[1,3,16,16] x",
        y="uint8 y",
        s=np.ones(3, np.float32),
        z=np.zeros(3, np.uint8),
    )()
    assert range_at(channels, "x") is None
    assert range_at(model("y = Relu(x)", x="float[1,3,16,16] x")(), "x") is None


SHIFT = {"k": np.full((1, 3, 1, 1), 0.5, np.float32)}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("y = Sub(x, k)", True),
        ("y = Mul(k, x)", True),
        ("y = Div(x, k)", True),
        ("t = Identity(x) y = Sub(t, k)", True),
        ("t = Transpose<perm = [0, 1, 3, 2]>(x) y = Add(t, k)", True),
        ("c = Constant<value_float = 0.5>() y = Sub(x, c)", True),
        ("y = Conv(x, w)", False),
        ("a = Relu(x) y = Sub(a, k)", False),
        ("y = Mul(x, x)", False),
        ("c = Conv(x, w) y = Sub(c, k)", False),
    ],
)
def test_a_model_that_shifts_or_scales_its_input_takes_plain_values(body: str, told: bool) -> None:
    weights: dict[str, Any] = {**SHIFT, "w": (3, 3, 1, 1)}
    used = {name: value for name, value in weights.items() if f" {name})" in body or f"({name}," in body}
    assert normalises(model(body, x="float[1,3,16,16] x", **used)(), "x") is told


# --- statistics ---------------------------------------------------------------------------------------

PHOTOGRAPHS = crops(load(), 6, 24, 24, 0)
KERNEL = rand(8, 3, seed=3)


def seen(values: Pixels) -> list[Array]:
    """What a convolution of single pixels gives for photographs in these values."""
    return [np.tensordot(KERNEL, image, 1) for image in values.of(PHOTOGRAPHS)]


def landmark(values: Pixels) -> Landmark:
    """What a network trained on these values remembers of it."""
    given = np.concatenate([one.reshape(8, -1) for one in seen(values)], axis=1)
    return Landmark("a", tuple(given.mean(axis=1).tolist()), tuple(given.std(axis=1).tolist()))


@pytest.mark.parametrize("wanted", [*SMALL, *LARGE], ids=lambda pixels: pixels.name)
def test_statistics_tell_every_kind_of_values_apart(wanted: Pixels) -> None:
    assert pixels.found(landmark(wanted), seen, normalises=False) == Choice((wanted,), "statistics")
    assert pixels.found(landmark(wanted), seen, normalises=True) == Choice((wanted,), "statistics")


@pytest.mark.parametrize(("better", "wanted"), [(1.2, UNIT), (1.8, SIGNED)])
def test_of_two_that_fit_alike_the_plainer_is_taken(
    better: float, wanted: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that shifts its input itself may fit values in -1..1 better by chance."""
    fits = {UNIT: 0.4 * better, SIGNED: 0.4}
    monkeypatch.setattr(pixels, "mismatch", lambda values, *_: fits.get(values[0], 2.0))
    found = pixels.found(landmark(UNIT), lambda one: [one], normalises=False)  # type: ignore[list-item]
    assert found == Choice((wanted,), "statistics")


def test_where_none_fits_well_the_plainest_that_fits_nearly_as_well_is_taken() -> None:
    known = landmark(UNIT)
    mean, std = np.array(known.mean), np.array(known.std)
    strange = Landmark("a", tuple((mean + 2 * std).tolist()), tuple((std / 3).tolist()))
    apart = {one: mismatch(seen(one), np.array(strange.mean), np.array(strange.std)) for one in (*SMALL, *LARGE)}
    least = min(apart.values())
    assert least >= 1
    (found,) = pixels.found(strange, seen, normalises=False).pixels
    assert found == next(one for one in apart if apart[one] <= 3 * least)


def test_a_mismatch_is_none_where_values_are_as_known_and_grows_with_either_moment() -> None:
    values = [np.random.default_rng(at).normal(3, 2, (4, 50, 50)) for at in range(3)]
    mean, std = np.full(4, 3.0), np.full(4, 2.0)
    assert mismatch(values, mean, std) < 0.01
    assert mismatch(values, mean + 2, std) == pytest.approx(1, abs=0.1)
    assert mismatch(values, mean, std * np.e) == pytest.approx(2, abs=0.2)
    assert mismatch(values, mean, std / np.e) == pytest.approx(2, abs=0.2)


def test_one_channel_with_statistics_that_are_not_its_own_does_not_decide() -> None:
    values = [np.random.default_rng(at).normal(3, 2, (4, 50, 50)) for at in range(3)]
    std = np.array([2.0, 2.0, 2.0, 1e-3])
    assert mismatch(values, np.full(4, 3.0), std) < 0.01


def test_channels_that_never_vary_do_not_count_and_what_is_not_finite_never_fits() -> None:
    values = [np.random.default_rng(0).normal(0, 1, (2, 9, 9))]
    mean = np.array([0.0, 99.0])
    assert mismatch(values, mean, np.array([1.0, 0.0])) < 0.2
    assert mismatch(values, mean, np.zeros(2)) == np.inf
    values[0][0, 0, 0] = np.nan
    assert mismatch(values, mean, np.ones(2)) == np.inf


# --- the scale ----------------------------------------------------------------------------------------


def scaled(by: float) -> Look:
    return lambda values: [by * one for one in seen(values)]


@pytest.mark.parametrize(
    ("by", "plain", "wanted"),
    [(0.5, False, SMALL), (0.5, True, (UNIT,)), (0.5 / 255, False, LARGE), (0.5 / 255, True, (BYTES,))],
)
def test_the_first_layers_scale_tells_large_from_small(by: float, plain: bool, wanted: tuple[Pixels, ...]) -> None:
    found = pixels.found(Landmark("c", (), ()), scaled(by), normalises=plain)
    assert found == Choice(wanted, "scale")


@pytest.mark.parametrize(
    ("by", "leads", "wanted"),
    [
        (0.5, (0.02, 3.0), (*SMALL, *LARGE)),
        (0.5, (0.0, 9.0), (*SMALL, *LARGE)),
        (0.5, (0.7, 3.0), SMALL),
        (0.5, (28.0, 3.0), SMALL),
        (0.5, (0.02, 0.01), SMALL),
        (0.5, (0.02, None), SMALL),
        (0.5, (None, 3.0), SMALL),
        (0.5 / 255, (3.0, 0.02), (*LARGE, *SMALL)),
        (0.5 / 255, (3.0, 9.0), LARGE),
    ],
)
def test_where_photographs_leave_all_classes_alike_the_other_scale_counts_too(
    by: float, leads: tuple[float | None, float | None], wanted: tuple[Pixels, ...]
) -> None:
    def ahead(values: Pixels) -> float | None:
        return leads[values == BYTES]

    assert pixels.found(Landmark("c", (), ()), scaled(by), normalises=False, ahead=ahead) == Choice(wanted, "scale")
    plain = pixels.found(Landmark("c", (), ()), scaled(by), normalises=True, ahead=ahead)
    assert plain.pixels == tuple(one for one in wanted if one in (UNIT, BYTES))
    assert pixels.found(landmark(UNIT), seen, normalises=False, ahead=ahead) == Choice((UNIT,), "statistics")


def test_class_scores_tell_the_scale_where_no_layer_does() -> None:
    for leads, wanted in (((3.0, 28.0), SMALL), ((0.02, 3.0), LARGE)):
        found = pixels.found(None, scaled(1), normalises=False, ahead=lambda one, of=leads: of[one == BYTES])  # type: ignore[misc]
        assert found == Choice(wanted, "scale")


def test_without_class_scores_the_first_layer_tells_the_scale() -> None:
    found = pixels.found(Landmark("c", (), ()), scaled(0.5 / 255), normalises=False, ahead=lambda _: None)
    assert found == Choice(LARGE, "scale")


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_first_layer_that_gives_nothing_tells_nothing(value: float) -> None:
    def look(_: Pixels) -> list[Array]:
        return [np.full((8, 4, 4), value)]

    assert pixels.found(Landmark("c", (), ()), look, normalises=False) == Choice(SMALL, "guess")


def test_without_a_landmark_all_small_values_are_guessed() -> None:
    def look(_: Pixels) -> list[Array]:
        raise AssertionError("there is nothing to look at")

    assert pixels.found(None, look, normalises=False) == Choice(SMALL, "guess")
    assert pixels.found(None, look, normalises=True) == Choice((UNIT,), "guess")


# --- a choice -----------------------------------------------------------------------------------------


def test_of_several_values_images_take_each_in_turn() -> None:
    images = np.random.default_rng(0).random((5, 3, 4, 4)).astype(np.float32)
    choice = Choice((UNIT, SIGNED), "guess")
    found = choice.of(images)
    np.testing.assert_allclose(found[::2], images[::2])
    np.testing.assert_allclose(found[1::2], 2 * images[1::2] - 1, atol=1e-6)
    assert choice.name == "0..1, -1..1"
    assert choice.ends == (0.0, 1.0)
    np.testing.assert_allclose(Choice((UNIT,), "guess").of(images), images)
