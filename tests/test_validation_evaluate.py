"""ACC, ASR and RA against numbers worked out by hand, and every way an evaluation file can be wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onnx_clp.document.run import EvaluationReport, Rates
from onnx_clp.errors import UsageError
from onnx_clp.validation import evaldata
from onnx_clp.validation.session import Array
from tests.validation_models import run, text_model

# The classes are the four pixels: the brightest one wins. The rewritten model never answers class 3.
BRIGHTEST = "g (float[n,1,2,2] x) => (float[n,4] y) { y = Flatten(x) }"
BLIND = "g (float[n,1,2,2] x) => (float[n,4] y) <float[4] dim = {1, 1, 1, -1}> { f = Flatten(x) y = Mul(f, dim) }"


def images(*brightest: int) -> Array:
    """One 1x2x2 image per class given, that class's pixel 0.9, the next one 0.5."""
    found = np.full((len(brightest), 4), 0.1, np.float32)
    for row, k in zip(found, brightest, strict=True):
        row[k], row[(k + 1) % 4] = 0.9, 0.5
    return found.reshape(-1, 1, 2, 2)


def archive(folder: Path, **arrays: object) -> Path:
    """An evaluation file of five images, overridden by `arrays`; None leaves one out."""
    content: dict[str, object] = {
        "x_clean": images(0, 1, 2, 3, 0),
        "y_clean": np.array([0, 1, 2, 3, 3]),
        "x_triggered": images(3, 3, 2, 3, 3),
        "y_target": np.int64(3),
    } | arrays
    path = folder / "eval.npz"
    given = {k: np.asarray(v) for k, v in content.items() if v is not None}
    np.savez(path, allow_pickle=True, **given)
    return path


def evaluate(
    folder: Path, path: Path, body: str = BRIGHTEST, final: str = BLIND, **options: object
) -> EvaluationReport:
    original = text_model(body, folder)
    rewritten = text_model(final, folder, "final.onnx") if final else None
    report = run(original, None, rewritten, eval_data=path, **options).evaluation
    assert report is not None
    return report


def test_rates_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    # Clean: 0 1 2 3 right, the last image of class 3 is taken for 0: 4 of 5.
    # Triggered, true classes 0 1 2 (3 3 are the target and left out of ASR): 3 3 2, so 2 of 3.
    # RA over all five: 2, 3 and 3 are right, 0 and 1 are not: 3 of 5.
    report = evaluate(tmp_path, archive(tmp_path))
    assert report.before == Rates(acc=4 / 5, asr=2 / 3, ra=3 / 5)
    # Without class 3 the next brightest wins, which is pixel 0: clean 0 1 2 0 0, triggered 0 0 2 0 0.
    assert report.after == Rates(acc=3 / 5, asr=0.0, ra=2 / 5)
    assert (report.clean_images, report.triggered_images) == (5, 5)
    assert report.data == str(tmp_path / "eval.npz")


def test_without_a_rewritten_model_before_is_after(tmp_path: Path) -> None:
    report = evaluate(tmp_path, archive(tmp_path), final="")
    assert report.before == report.after == Rates(acc=4 / 5, asr=2 / 3, ra=3 / 5)


def test_target_may_be_one_per_image(tmp_path: Path) -> None:
    # Targets 1 2 2 0 3 against true 0 1 2 3 3: images 2 and 4 are left out; predictions 3 3 . 3 . miss all.
    path = archive(tmp_path, y_target=np.array([1, 2, 2, 0, 3]))
    assert evaluate(tmp_path, path).before.asr == 0.0
    # Targets 3 3 0 3 0: nothing left out but image 3 (true 3); hits 3 3, misses 2 (0) and 3 (0).
    path = archive(tmp_path, y_target=np.array([3, 3, 0, 3, 0]))
    assert evaluate(tmp_path, path).before.asr == 2 / 4


def test_true_labels_of_triggered_images_may_be_given(tmp_path: Path) -> None:
    path = archive(tmp_path, x_triggered=images(3, 0), y_true_triggered=np.array([0, 0]))
    report = evaluate(tmp_path, path)
    assert report.before == Rates(acc=4 / 5, asr=1 / 2, ra=1 / 2)
    assert report.triggered_images == 2


def test_asr_of_target_images_alone_cannot_be_measured(tmp_path: Path) -> None:
    path = archive(tmp_path, x_triggered=images(3, 0), y_true_triggered=np.array([3, 3]))
    assert evaluate(tmp_path, path).before == Rates(acc=4 / 5, asr=None, ra=1 / 2)


def test_labelled_clean_images_alone_give_the_accuracy(tmp_path: Path) -> None:
    report = evaluate(tmp_path, archive(tmp_path, x_triggered=None, y_target=None))
    assert report.before == Rates(acc=4 / 5, asr=None, ra=None)
    assert report.after == Rates(acc=3 / 5, asr=None, ra=None)
    assert (report.clean_images, report.triggered_images) == (5, 0)


def test_fixed_batch_size_pads_the_last_batch(tmp_path: Path) -> None:
    fixed = [body.replace("[n,", "[2,") for body in (BRIGHTEST, BLIND)]
    report = evaluate(tmp_path, archive(tmp_path), *fixed)
    assert report.before == Rates(acc=4 / 5, asr=2 / 3, ra=3 / 5)
    assert report.after == Rates(acc=3 / 5, asr=0.0, ra=2 / 5)


def test_model_that_only_takes_one_image_gets_one(tmp_path: Path) -> None:
    single = "g (float[n,1,2,2] x) => (float[a,b] y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }"
    assert evaluate(tmp_path, archive(tmp_path), single, "").before.acc == 4 / 5


def test_non_finite_scores_are_no_prediction(tmp_path: Path) -> None:
    body = "g (float[n,1,2,2] x) => (float[n,4] y) { s = Sub(x, x) d = Div(x, s) e = Sub(d, d) y = Flatten(e) }"
    assert evaluate(tmp_path, archive(tmp_path), body, "").before == Rates(acc=0.0, asr=0.0, ra=0.0)


@pytest.mark.parametrize("form", ["[n,4,1,1] y", "[n,4] y"])
def test_scores_may_carry_trailing_axes_of_one(tmp_path: Path, form: str) -> None:
    dims = "0, 4, 1, 1" if "1,1" in form else "0, 4"
    count = len(dims.split(","))
    head = f"g (float[n,1,2,2] x) => (float{form}) <int64[{count}] s = {{{dims}}}>"
    body = head + " { f = Flatten(x) y = Reshape(f, s) }"
    assert evaluate(tmp_path, archive(tmp_path), body, "").before.acc == 4 / 5


TWO = """g (float[n,1,2,2] x) => (float[n,1,2,2] a, float[n,4] b, float[n,4] c) {
    a = Relu(x) b = Flatten(x) c = Neg(b) }"""


def test_first_fitting_output_is_read_unless_one_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path)
    assert evaluate(tmp_path, path, TWO, "").before.acc == 4 / 5
    assert evaluate(tmp_path, path, TWO, "", output_name="c").before.acc == 0.0
    with pytest.raises(UsageError, match="--output a: it does not hold float scores"):
        evaluate(tmp_path, path, TWO, "", output_name="a")


def test_no_output_of_scores_is_a_usage_error(tmp_path: Path) -> None:
    body = "g (float[n,1,2,2] x) => (float[n,1,2,2] y) { y = Relu(x) }"
    with pytest.raises(UsageError, match=r"no output holds float scores of shape .* y float32\[64,1,2,2\]"):
        evaluate(tmp_path, archive(tmp_path), body, "")


def prepared(folder: Path, **arrays: object) -> Array:
    """The first batch of clean images as a float model gets it."""
    data = evaldata.load(archive(folder, **arrays), 1 << 20)
    return next(data.batches(data.x_clean, 5, np.dtype(np.float32)))


def colours(**arrays: object) -> dict[str, Array]:
    pixels = np.arange(5 * 3 * 2 * 2, dtype=np.uint8).reshape(5, 3, 2, 2)
    return {"x_clean": pixels, "x_triggered": pixels} | {k: np.asarray(v) for k, v in arrays.items()}


def test_bytes_are_divided_by_255(tmp_path: Path) -> None:
    batch = prepared(tmp_path, **colours())
    np.testing.assert_array_equal(batch, colours()["x_clean"].astype(np.float32) / np.float32(255))


def test_scale_and_offset_replace_the_division(tmp_path: Path) -> None:
    pixels = colours()["x_clean"].astype(np.float32)
    np.testing.assert_array_equal(prepared(tmp_path, **colours(scale=2.0, offset=-1.0)), pixels * 2 - 1)
    np.testing.assert_array_equal(prepared(tmp_path, **colours(scale=0.5)), pixels * 0.5)
    np.testing.assert_array_equal(prepared(tmp_path, **colours(offset=3)), pixels + 3)


def test_scale_and_offset_may_be_per_channel(tmp_path: Path) -> None:
    scale, offset = np.array([1.0, 2.0, 3.0]), np.array([[10.0], [20.0], [30.0]])
    batch = prepared(tmp_path, **colours(scale=scale, offset=offset))
    wanted = colours()["x_clean"] * scale.reshape(1, 3, 1, 1) + offset.reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(batch, wanted.astype(np.float32))


def test_channels_may_come_last(tmp_path: Path) -> None:
    pixels = colours()["x_clean"].transpose(0, 2, 3, 1)
    batch = prepared(tmp_path, x_clean=pixels, x_triggered=pixels, scale=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(batch, (pixels * np.array([1.0, 2.0, 3.0])).astype(np.float32))


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    batch = prepared(tmp_path, scale=2.0, offset=1.0)
    np.testing.assert_array_equal(batch, images(0, 1, 2, 3, 0))


def test_bytes_reach_a_model_of_bytes_unchanged(tmp_path: Path) -> None:
    body = "g (uint8[n,1,2,2] x) => (float[n,4] y) { f = Flatten(x) y = Cast<to: int = 1>(f) }"
    x = (images(0, 1, 2, 3, 0) * 250).astype(np.uint8)
    path = archive(tmp_path, x_clean=x, x_triggered=x)
    assert evaluate(tmp_path, path, body, "").before.acc == 4 / 5
    with pytest.raises(UsageError, match="x_clean holds fractions, the model takes uint8"):
        evaluate(tmp_path, archive(tmp_path), body, "")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"x_triggered": None},
            "x_triggered is missing; the file needs x_clean and y_clean, and to measure a trigger x_triggered",
        ),
        ({"y_target": None}, "y_target is missing"),
        (
            {"x_triggered": None, "y_target": None, "y_true_triggered": np.zeros(5, np.int64)},
            "x_triggered is missing",
        ),
        ({"y_clean": np.zeros(4, np.int64)}, r"y_clean has shape \(4,\), one label for each of 5 images"),
        ({"y_clean": np.zeros(5)}, "y_clean has type float64, not whole numbers"),
        ({"y_clean": np.full(5, -1)}, "y_clean holds the class -1, below 0"),
        ({"y_clean": np.full(5, 4)}, r"y_clean holds the class 4, the model has 4 \(0 to 3\)"),
        ({"y_target": np.int64(9)}, "y_target holds the class 9"),
        ({"y_target": np.zeros(3, np.int64)}, r"y_target has shape \(3,\)"),
        ({"x_triggered": images(0)}, "x_triggered has 1 images and x_clean 5: without y_true_triggered"),
        ({"x_triggered": np.zeros((5, 1, 2, 3), np.float32)}, "x_triggered has images of shape"),
        ({"x_clean": np.zeros((5, 3, 2, 2)), "x_triggered": np.zeros((5, 3, 2, 2))}, "takes n,1,2,2"),
        ({"x_clean": np.zeros((5, 4)), "x_triggered": np.zeros((5, 4))}, "takes n,1,2,2"),
        ({"x_clean": np.zeros((0, 1, 2, 2))}, "with at least one image"),
        ({"x_clean": np.full((5, 1, 2, 2), np.nan)}, "x_clean holds NaN or infinite values"),
        ({"x_clean": np.array(["a"] * 5)}, "x_clean has type <U1, not numbers"),
        ({"x_clean": np.array([{}] * 5)}, "cannot be read as an .npz archive of plain arrays"),
        ({"scale": np.array(["x"])}, "scale must be a finite number"),
        ({"scale": np.ones((2, 2))}, "not one number per channel"),
    ],
)
def test_wrong_arrays_are_named_on_one_line(tmp_path: Path, arrays: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        evaluate(tmp_path, archive(tmp_path, **arrays))
    assert str(caught.value).startswith(f"--eval {tmp_path / 'eval.npz'}: ")
    assert "\n" not in str(caught.value)


def test_channel_factors_must_fit_the_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scale holds 7 numbers for images of shape \(3, 2, 2\)"):
        prepared(tmp_path, **colours(scale=np.ones(7)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "no intact .npz archive|cannot be read"),
        (b"PK\x03\x04 broken", "no intact .npz archive|cannot be read"),
        (b"\x93NUMPY", "no intact .npz archive|cannot be read"),
    ],
)
def test_files_that_are_no_archive(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "eval.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        evaldata.load(path, 1 << 20)


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        evaldata.load(tmp_path, 1 << 20)


def test_archive_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x_clean=np.zeros((5, 1000, 1000), np.uint8))
    assert path.stat().st_size < 100_000
    with pytest.raises(UsageError, match=r"unpacks to 5,000,[0-9]+ bytes, above the limit of 1,048,576"):
        evaldata.load(path, 1 << 20)


def test_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    lie = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (5, 9999999)}
    np.lib.format.write_array_header_1_0(lie, header)
    lie.write(bytes(20))
    with zipfile.ZipFile(tmp_path / "eval.npz", "w") as file:
        file.writestr("x_clean.npy", lie.getvalue())
    with pytest.raises(UsageError, match=r"x_clean promises 49,999,995 bytes and holds \d+$"):
        evaldata.load(tmp_path / "eval.npz", 1 << 20)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "g (float[n,4] x, float[n,4] z) => (float[n,4] y) { y = Add(x, z) }",
            "one input, this one has: x, z",
        ),
        ("g () => (float[1] y) <float[1] a = {1}> { y = Relu(a) }", "one input, this one has: none"),
    ],
)
def test_models_with_another_number_of_inputs(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate(tmp_path, archive(tmp_path), body, "")


def test_candidates_get_rates(tmp_path: Path) -> None:
    original, blind = text_model(BRIGHTEST, tmp_path), text_model(BLIND, tmp_path, "blind.onnx")
    outcome = run(original, eval_data=archive(tmp_path), candidates=(blind,))
    assert outcome.candidates[0].rates == Rates(acc=3 / 5, asr=0.0, ra=2 / 5)
