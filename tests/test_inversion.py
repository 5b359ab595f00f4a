"""The search for triggers: its parts against what they should compute, and the whole on planted models."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_clp.cap.bound_directions import Site
from onnx_clp.cli.main import main
from onnx_clp.config import CleanConfig, RunLimits
from onnx_clp.document.run import Picture as Shown
from onnx_clp.document.search import Inversion, Picture, SearchImages
from onnx_clp.errors import UsageError
from onnx_clp.gauge.supplied import read_images
from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Adam
from onnx_clp.inversion.forms import KINDS, WORDS
from onnx_clp.inversion.pictures import Pictures
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.pyramid import Pyramid, enlarging, halvings
from onnx_clp.inversion.request import (
    Found,
    SearchRequest,
)
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import read_subject, statistics_of
from onnx_clp.inversion.synthesis import Synthesiser, roughness_gradient, shifted
from onnx_clp.inversion.trigger import outcome
from onnx_clp.process.codec import decode, encode
from onnx_clp.report.inverting import sheet
from onnx_clp.validation.provider import Engine, choose
from tests import planted


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def stored(folder: Path, *, infected: bool, batch: int | str = "n") -> Path:
    path = folder / f"{infected}{batch}.onnx"
    onnx.save(planted.classifier(planted=infected, batch=batch), path)
    return path


def supplied(folder: Path, count: int = 60) -> Path:
    np.savez(folder / "images.npz", images=planted.pictures(count))
    return folder / "images.npz"


def ignore(stage: str, done: int, total: int) -> None:
    """A listener who does not listen."""


# --- the parts ----------------------------------------------------------------------------------------


def test_adam_finds_the_bottom_of_a_bowl_and_survives_nan() -> None:
    place = np.array([3.0, -2.0], np.float32)
    adam = Adam([place], 0.1, 200, falling=True)
    for step in range(200):
        adam.step([np.full(2, np.nan, np.float32) if step == 5 else 2 * (place - 1)])
    assert np.allclose(place, 1, atol=0.02)


def test_a_pyramid_halves_down_to_one_pixel_and_enlarges_evenly() -> None:
    assert halvings(28, 20) == [(1, 1), (2, 2), (4, 3), (7, 5), (14, 10), (28, 20)]
    assert np.allclose(enlarging(4, 28).sum(axis=1), 1)
    assert np.allclose(enlarging(1, 5), 1)
    assert np.allclose(enlarging(6, 6), np.eye(6))


def test_the_gradient_of_a_pyramid_is_that_of_its_images() -> None:
    rng = np.random.default_rng(3)
    pyramid = Pyramid(2, (1, 5, 6), -1.0, 3.0, rng)
    pull = rng.standard_normal((2, 1, 5, 6)).astype(np.float32)
    slopes = pyramid.gradients(pyramid.images(), pull)
    for layer, slope in zip(pyramid.layers, slopes, strict=True):
        place = tuple(int(rng.integers(n)) for n in layer.shape)
        heights = []
        for step in (1e-2, -2e-2):
            layer[place] += np.float32(step)
            heights.append(float((pyramid.images().astype(np.float64) * pull).sum()))
        layer[place] += np.float32(1e-2)
        assert (heights[0] - heights[1]) / 2e-2 == pytest.approx(float(slope[place]), rel=0.02, abs=2e-3)
    images = pyramid.images()
    assert images.min() > -1
    assert images.max() < 3


def test_the_gradient_of_roughness_matches_differences() -> None:
    rng = np.random.default_rng(4)
    images = rng.random((1, 1, 4, 5)).astype(np.float32)

    def height(x: NDArray[np.float64]) -> float:
        return 3 * float((np.diff(x, axis=2) ** 2).mean() + (np.diff(x, axis=3) ** 2).mean()) / 4

    slope = roughness_gradient(images, 2.0)
    for place in ((0, 0, 0, 0), (0, 0, 2, 3), (0, 0, 3, 4)):
        up, down = images.astype(np.float64), images.astype(np.float64)
        up[place] += 1e-4
        down[place] -= 1e-4
        assert (height(up) - height(down)) / 2e-4 == pytest.approx(float(slope[place]), rel=1e-3, abs=1e-6)


def test_shifting_there_and_back_loses_the_edge_alone() -> None:
    images = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    there = shifted(images, 1, -2)
    assert there[0, 0, 1, 0] == images[0, 0, 0, 2]
    assert (there[0, 0, 0] == 0).all()
    assert (shifted(there, -1, 2)[0, 0, :3, 2:] == images[0, 0, :3, 2:]).all()


def test_an_outcome_counts_what_the_target_wins_by() -> None:
    logits = np.array([[1.0, 3.0, 0.0], [2.0, 1.0, 0.0]], np.float32)
    share, margin = outcome(logits, 1)
    assert share == 0.5
    assert margin == pytest.approx(0.5)


# --- which class stands out ---------------------------------------------------------------------------


def test_one_class_stands_out_and_like_ones_do_not() -> None:
    far = finding.robust_z([0.0, 0.3, -0.3, 0.1, 6.0], 0.3)
    near = finding.robust_z([0.0, 0.3, -0.3, 0.1, 0.2], 0.3)
    assert finding.likely(np.stack([near, far]), [1.0] * 5) == 4
    assert finding.likely(np.stack([near, near]), [1.0] * 5) is None
    assert finding.likely(np.stack([near, far]), [1.0, 1.0, 1.0, 1.0, 0.2]) is None
    assert finding.likely(far[None, 2:], [1.0] * 3) is None


def test_classes_that_happen_to_lie_close_together_are_not_told_apart_by_little() -> None:
    values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.2]
    assert finding.robust_z(values, 0.3).max() < 1
    assert finding.robust_z(values, 0.02).max() > 9


def test_images_that_match_no_statistics_take_a_larger_lead_to_convince() -> None:
    picture = Picture.of(np.zeros((1, 2, 3)), 0, 1)
    shown = {source: SearchImages(source, 1, 0, None, None, (picture,)) for source in ("classes", "statistics", "data")}
    doubts = {
        source: Pictures(np.zeros((1, 1, 2, 3), np.float32), made, Range(0, 1)).doubt for source, made in shown.items()
    }
    assert doubts == {"classes": finding.UNMATCHED, "statistics": 1.0, "data": 1.0}
    close = [0.0, 0.3, -0.3, 0.1, 1.4]
    assert finding.robust_z(close, 0.36).max() > finding.LIMIT > finding.robust_z(close, 0.36 * finding.UNMATCHED).max()


def test_of_many_classes_their_own_spread_decides() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(0, 3, 2000).tolist()
    assert np.std(finding.robust_z(wide, 0.3)) == pytest.approx(1, rel=0.1)


def test_the_sentence_never_calls_a_model_clean() -> None:
    z = np.array([0.3, 1.1, 0.2])
    assert "no proof" in finding.sentence(3, z, False, 10, WORDS)
    assert "class 3 is the likely target" in finding.sentence(3, np.array([0.3, 9.1, 0.2]), True, 10, WORDS)
    assert "too few" in finding.sentence(0, z, False, 2, WORDS)


# --- images -------------------------------------------------------------------------------------------


def test_synthetic_images_match_the_statistics_and_come_out_the_same_again(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_clp.inversion.synthesis._EVIDENCE", 0.1)  # on so small a model more pulls them apart
    path = tmp_path / "m.onnx"
    onnx.save(planted.with_statistics(planted.classifier(planted=True)), path)
    subject = read_subject(path, {}, None)
    assert len(statistics_of(subject.model)) == 1
    maker = Synthesiser(subject, engine)
    assert maker.classes() == planted.CLASSES
    short = maker.make(12, planted.CLASSES, 0, 1, 0, ignore, steps=1)
    long = maker.make(12, planted.CLASSES, 0, 1, 0, ignore, steps=40)
    again = maker.make(12, planted.CLASSES, 0, 1, 0, ignore, steps=40)
    assert short.mismatch is not None
    assert long.mismatch is not None
    assert long.mismatch < short.mismatch
    assert (again.images == long.images).all()
    given = Attack(subject, engine).logits(long.images).argmax(axis=1)
    assert (given == long.classes).mean() > 0.5


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((3, 1, 8, 7), np.float32), "the model takes"),
        (np.zeros((3, 1, 8, 8), np.int64), "give float32"),
        (np.full((3, 1, 8, 8), np.nan, np.float32), "NaN or infinite"),
        (np.zeros((0, 1, 8, 8), np.float32), "holds no image"),
    ],
)
def test_images_that_do_not_fit_are_refused(tmp_path: Path, array: NDArray[Any], word: str) -> None:
    np.savez(tmp_path / "x.npz", images=array)
    with pytest.raises(UsageError, match=word):
        read_images(tmp_path / "x.npz", (1, 8, 8), 100)


def test_bytes_become_shares_and_channels_may_stand_last(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((2, 8, 8, 3), 255, np.uint8))
    images = read_images(tmp_path / "x.npz", (3, 8, 8), 1)
    assert images.shape == (1, 3, 8, 8)
    assert (images == 1).all()


# --- the whole ----------------------------------------------------------------------------------------


def request(tmp_path: Path, *, infected: bool, **more: object) -> SearchRequest:
    base = SearchRequest(
        original=stored(tmp_path, infected=infected), images=supplied(tmp_path), limits=RunLimits(provider="cpu")
    )
    return replace(base, **more)  # type: ignore[arg-type]


SITES = (Site("normed", 12, 4, 1, "normed"), Site("flat", 48, 2, 1, "flat"))


def test_the_planted_class_is_named_and_its_twin_is_left_alone(tmp_path: Path, engine: Engine) -> None:
    found = search(request(tmp_path, infected=True), engine, ignore).inversion
    assert found.likely == planted.TARGET
    named = found.results[planted.TARGET]
    assert [form.kind for form in named.forms] == list(KINDS)
    assert named.forms[1].flip >= 0.9
    assert named.forms[1].size < 0.5 * min(r.forms[1].size for r in found.results if r is not named)
    twin = search(request(tmp_path, infected=False, sites=SITES, repair=True), engine, ignore).inversion
    assert twin.likely is None
    assert twin.repair is None
    assert "nothing stands out" in twin.repair_note


def test_a_model_of_fewer_classes_than_asked_for_is_refused_before_any_image_is_made(
    tmp_path: Path, engine: Engine
) -> None:
    asked = request(tmp_path, infected=False, seconds=5.0)
    classes = len(search(asked, engine, ignore).inversion.results)
    with pytest.raises(UsageError, match=f"{classes} classes are too few"):
        search(replace(asked, images=tmp_path / "none.npz", least_classes=classes + 1), engine, ignore)
    assert search(replace(asked, invert=False, least_classes=classes), engine, ignore).inversion.classes == classes


def test_requests_and_answers_survive_the_wire(tmp_path: Path) -> None:
    asked = SearchRequest(
        original=tmp_path / "m",
        sites=(Site("a", 3, 4, 1, "a"),),
        limits=RunLimits(shapes={"x": (1, 2)}),
        images=tmp_path / "i",
    )
    assert decode(SearchRequest, encode(asked)) == asked
    picture = Picture.of(np.zeros((1, 2, 3)), 0, 1)
    found = Found(Inversion("CPU", 4, SearchImages("data", 1, 0, None, None, (picture,)), (), None, "s", None, "n"))
    assert decode(Found, encode(found)) == found
    repaired = replace(found, caps={"a": (((0.1, 0.2), (1.0, -3e-300), 0.3),)})
    assert decode(Found, encode(repaired)) == repaired
    assert picture.array().shape == (2, 3, 1)


def test_the_command_line_searches_repairs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, images = stored(tmp_path, infected=True, batch=1), supplied(tmp_path)
    words = [str(model), str(tmp_path / "out.onnx"), "--no-config", "--provider", "cpu", "--images", str(images)]
    code = main([*words, "--rule", "inverted", "--budget", "0.5", "--report", str(tmp_path / "r.json")])
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert f"class {planted.TARGET} is the likely target" in " ".join(said.out.split())
    inversion = json.loads((tmp_path / "r.json").read_text())["inversion"]
    assert inversion["likely"] == planted.TARGET
    assert inversion["images"]["source"] == "data"
    layer, *others = inversion["repair"]["layers"]
    assert (layer["name"], layer["value"], others) == ("head", "flat", [])
    before = max(form["z"] for form in inversion["results"][planted.TARGET]["forms"])
    assert inversion["repair"]["z"] < before
    assert inversion["repair"]["stands_out"] == (inversion["repair"]["z"] > finding.LIMIT)
    caps = len(layer["beyond"])
    assert caps == inversion["repair"]["directions"] == len(layer["shift"])
    after = onnx.load(tmp_path / "out.onnx")
    block = ["Gemm", "Relu", "MatMul", "Sub"]
    wanted = ["Conv", "Relu", "AveragePool", "Flatten", *(caps * block), "Gemm"]
    assert [n.op_type for n in after.graph.node] == wanted
    text = " ".join(said.out.split())
    assert "capped at 1 place, at what" in text
    assert "searched for once more" in text


def test_a_model_that_is_no_classifier_of_images_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.onnx"
    onnx.save(planted.classifier(planted=False, inputs=2), path)
    assert main([str(path), "--no-config", "--invert", "--provider", "cpu"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "two.onnx: a search for triggers needs a model with one input" in said


def test_a_search_needs_the_runtime_and_images_need_no_search(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a search for triggers needs ONNX Runtime"):
        CleanConfig(invert=True, validate=False)
    assert CleanConfig(images=tmp_path).images == tmp_path
    with pytest.raises(UsageError, match="budget"):
        CleanConfig(invert=True, budget=2.0)
    chosen = CleanConfig(rule="inverted")
    assert (chosen.rule, chosen.prune, chosen.repair, chosen.searches) == ("paper", False, True, True)
    assert not CleanConfig().searches


def test_an_open_image_size_asks_for_a_shape(tmp_path: Path) -> None:
    model = planted.classifier(planted=False)
    for at in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[at].Clear()
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(UsageError, match="--shape images:"):
        read_subject(tmp_path / "open.onnx", {}, None)
    assert read_subject(tmp_path / "open.onnx", {"images": (1, 1, 8, 8)}, None).shape == (1, 8, 8)


def test_channels_last_is_read_from_the_sizes(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 16, 3])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 768])
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", [image], [scores])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "l.onnx")
    subject = read_subject(tmp_path / "l.onnx", {}, None)
    assert (subject.shape, subject.channels_last) == ((3, 16, 16), True)
    images = np.arange(768, dtype=np.float32).reshape(1, 3, 16, 16)
    assert (subject.from_layout(subject.laid_out(images)) == images).all()


# --- pictures -----------------------------------------------------------------------------------------


def test_a_sheet_is_a_png_of_its_pictures() -> None:
    grey = [Shown(2, 1, 1, base64.b64encode(bytes([n, 255])).decode()) for n in range(12)]
    raw = base64.b64decode(sheet(grey).split(",", 1)[1])
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(raw[16:20], "big") == 20
    assert int.from_bytes(raw[20:24], "big") == 2
    start = raw.index(b"IDAT") + 4
    data = zlib.decompress(raw[start : start + int.from_bytes(raw[start - 8 : start - 4], "big")])
    assert data == b"\0" + bytes(v for n in range(10) for v in (n, 255)) + b"\0" + bytes([10, 255, 11, 255]) + bytes(16)
    assert sheet([]) == ""


@pytest.mark.parametrize("classes", [0, 1])
def test_a_model_of_fewer_than_two_classes_is_refused_with_the_cause(classes: int, tmp_path: Path) -> None:
    model = planted.classifier(planted=False)
    last = model.graph.node[-1]
    scores, last.output[0] = last.output[0], "all"
    nodes = [helper.make_node("Slice", ["all", "from", "to", "axis"], [scores])]
    model.graph.node.extend(nodes)
    for name, value in (("from", 0), ("to", classes), ("axis", 1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    path = tmp_path / "few.onnx"
    onnx.save(model, path)
    asked = SearchRequest(original=path, limits=RunLimits(provider="cpu"))
    with pytest.raises(UsageError, match=f"at least two classes.*gives 1x{classes} for one image"):
        search(asked, choose("cpu"), ignore)
