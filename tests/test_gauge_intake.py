"""How a model takes images: which input, which layout, how many channels, which numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_clp.gauge import intake
from onnx_clp.gauge.intake import Intake, Pixels, intake_of
from onnx_clp.validation.anatomy import InputSpec

Shape = tuple[int, ...]


def of(shape: Shape, kind: int = TensorProto.FLOAT, axis: int | None = None) -> Intake | None:
    return intake_of([InputSpec("x", kind, shape, axis)], {"x": shape})


@pytest.mark.parametrize(
    ("shape", "channels", "last"),
    [
        ((1, 3, 32, 48), 3, False),
        ((1, 1, 28, 28), 1, False),
        ((8, 4, 16, 16), 4, False),
        ((1, 32, 48, 3), 3, True),
        ((1, 28, 28, 1), 1, True),
        ((2, 16, 20, 4), 4, True),
    ],
)
def test_an_image_input_is_known_by_its_channels(shape: Shape, channels: int, last: bool) -> None:
    found = of(shape)
    assert found is not None
    assert (found.name, found.channels, found.channels_last) == ("x", channels, last)
    assert (found.height, found.width) == (shape[1:3] if last else shape[2:])


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 3, 7, 32), TensorProto.FLOAT),
        ((1, 3, 32, 7), TensorProto.FLOAT),
        ((1, 2, 32, 32), TensorProto.FLOAT),
        ((1, 64, 32, 32), TensorProto.FLOAT),
        ((1, 3, 16000), TensorProto.FLOAT),
        ((1, 128), TensorProto.FLOAT),
        ((1, 3, 4, 32, 32), TensorProto.FLOAT),
        ((), TensorProto.FLOAT),
        ((1, 3, 32, 3), TensorProto.FLOAT),
        ((1, 3, 32, 32), TensorProto.INT64),
        ((1, 3, 32, 32), TensorProto.DOUBLE),
        ((1, 3, 32, 32), TensorProto.BOOL),
    ],
)
def test_other_inputs_take_no_images(shape: Shape, kind: int) -> None:
    assert of(shape, kind) is None


def test_of_several_inputs_one_that_takes_images_is_the_one() -> None:
    image, more = InputSpec("i", 1, (1, 3, 32, 32)), InputSpec("s", 1, (1, 4))
    shapes: dict[str, Shape] = {"i": (1, 3, 32, 32), "s": (1, 4), "j": (1, 1, 16, 16)}
    found = intake_of([more, image], shapes)
    assert found is not None
    assert found.name == "i"
    assert intake_of([image, InputSpec("j", 1, (1, 1, 16, 16))], shapes) is None
    assert intake_of([], shapes) is None
    assert intake_of([InputSpec("unknown", 1, None)], shapes) is None


COLOURS = np.stack([np.full((8, 9), value, np.float32) for value in (0.2, 0.4, 0.6)])[None]


def laid(channels: int, last: bool, kind: int, images: NDArray[Any] = COLOURS) -> NDArray[Any]:
    return Intake("x", channels, 8, 9, last, kind).laid_out(images)


def test_images_are_laid_out_as_the_input_takes_them() -> None:
    first = laid(3, False, TensorProto.FLOAT)
    np.testing.assert_array_equal(first, COLOURS)
    last = laid(3, True, TensorProto.FLOAT)
    assert last.shape == (1, 8, 9, 3)
    np.testing.assert_array_equal(last[0, 0, 0], COLOURS[0, :, 0, 0])
    assert last.flags["C_CONTIGUOUS"]
    assert laid(3, False, TensorProto.FLOAT16).dtype == np.float16


@pytest.mark.parametrize("last", [False, True])
def test_one_channel_is_luminance_and_a_fourth_is_opaque(last: bool) -> None:
    one = laid(1, last, TensorProto.FLOAT)
    assert one.shape == ((1, 8, 9, 1) if last else (1, 1, 8, 9))
    np.testing.assert_allclose(one, 0.2 * 0.299 + 0.4 * 0.587 + 0.6 * 0.114, rtol=1e-5)
    four = laid(4, last, TensorProto.FLOAT)
    channels = four[0, 0, 0] if last else four[0, :, 0, 0]
    np.testing.assert_allclose(channels, [0.2, 0.4, 0.6, 0.6])


def test_grey_images_stay_as_they_are() -> None:
    grey = np.full((2, 1, 8, 9), 0.3, np.float32)
    np.testing.assert_array_equal(laid(1, False, TensorProto.FLOAT, grey), grey)


@pytest.mark.parametrize(
    ("kind", "dtype", "ends"), [(TensorProto.UINT8, np.uint8, (0, 255)), (TensorProto.INT8, np.int8, (-128, 127))]
)
def test_whole_levels_are_rounded_and_kept_within_their_type(
    kind: int, dtype: type[np.integer], ends: tuple[int, int]
) -> None:
    values = np.array([-1000.0, 0.4, 0.6, 77.5, 1000.0], np.float32)
    images = np.broadcast_to(values[:, None, None, None], (5, 3, 8, 9))
    found = laid(3, False, kind, images)
    assert found.dtype == dtype
    assert found[:, 0, 0, 0].tolist() == [ends[0], 0, 1, 78, ends[1]]
    assert Intake("x", 3, 8, 9, False, kind).whole_levels
    assert not Intake("x", 3, 8, 9, False, TensorProto.FLOAT).whole_levels


def test_pixel_values_are_scaled_shifted_and_ordered() -> None:
    np.testing.assert_allclose(intake.UNIT.of(COLOURS), COLOURS)
    np.testing.assert_allclose(intake.SIGNED.of(COLOURS)[0, :, 0, 0], [-0.6, -0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(intake.BYTES.of(COLOURS)[0, :, 0, 0], [51, 102, 153], rtol=1e-5)
    np.testing.assert_allclose(intake.SIGNED_BYTES.of(COLOURS)[0, :, 0, 0], [-77, -26, 25], atol=1e-4)
    wanted = (np.array([0.2, 0.4, 0.6]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(intake.STANDARDISED.of(COLOURS)[0, :, 0, 0], wanted, rtol=1e-4)
    wanted = np.array([153, 102, 51]) - [104, 117, 123]
    np.testing.assert_allclose(intake.CENTRED.of(COLOURS)[0, :, 0, 0], wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("pixels", "ends"),
    [
        (intake.UNIT, (0, 1)),
        (intake.SIGNED, (-1, 1)),
        (intake.BYTES, (0, 255)),
        (intake.SIGNED_BYTES, (-128, 127)),
        (intake.CENTRED, (-123, 151)),
        (intake.given(-5, 20), (-5, 20)),
    ],
)
def test_the_ends_are_the_smallest_and_the_largest_value(pixels: Pixels, ends: tuple[float, float]) -> None:
    black_and_white = np.stack([np.zeros((3, 8, 9)), np.ones((3, 8, 9))]).astype(np.float32)
    found = pixels.of(black_and_white)
    assert pixels.ends == pytest.approx(ends)
    assert (found.min(), found.max()) == pytest.approx(ends)


def test_a_range_that_is_named_shows_its_ends() -> None:
    assert intake.given(-1, 1).name == "-1..1" == intake.SIGNED.name
    assert intake.given(0, 0.5).name == "0..0.5"
