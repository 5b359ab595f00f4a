"""The range of pixel values a model takes: said, refused, searched in and reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from onnx_clp.batch.options import parse_batch
from onnx_clp.cli.arguments import parse
from onnx_clp.cli.main import main
from onnx_clp.config import CleanConfig, RunLimits
from onnx_clp.document.run import Inversion
from onnx_clp.document.search import SearchImages
from onnx_clp.errors import UsageError
from onnx_clp.gauge.supplied import read_images
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Found, SearchRequest
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.synthesis import Synthesiser
from onnx_clp.process.codec import decode, encode
from onnx_clp.report import inverting
from onnx_clp.validation.provider import Engine, choose
from tests import planted, reports

Images = NDArray[np.float32]
RANGES = [(0.0, 255.0), (-1.0, 1.0), (-2.12, 2.64)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def ignore(stage: str, done: int, total: int) -> None:
    """A listener who does not listen."""


def taking(low: float, high: float, *, infected: bool = True) -> ModelProto:
    """The planted model for pixels in low..high: an affine to 0..1 before its first convolution."""
    model = planted.classifier(planted=infected)
    graph, span = model.graph, high - low
    graph.node[0].input[0] = "unit"
    graph.node.insert(0, helper.make_node("Add", ["scaled", "shift"], ["unit"]))
    graph.node.insert(0, helper.make_node("Mul", ["images", "factor"], ["scaled"]))
    for name, value in (("factor", 1 / span), ("shift", -low / span)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return model


def stored(folder: Path, model: ModelProto) -> Path:
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


def supplied(folder: Path, array: NDArray[Any]) -> Path:
    np.savez(folder / "images.npz", images=array)
    return folder / "images.npz"


# --- how it is said -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--pixel-range", "0,1"], (0.0, 1.0)),
        (["--pixel-range", "0,255"], (0.0, 255.0)),
        (["--pixel-range=-1,1"], (-1.0, 1.0)),
        (["--pixel-range", "-1,1"], (-1.0, 1.0)),
        (["--pixel-range", "-.5,-1e-1"], (-0.5, -0.1)),
        (["--pixel-range", "-2.12,2.64"], (-2.12, 2.64)),
    ],
    ids=str,
)
def test_the_command_line_says_the_range(words: list[str], expected: tuple[float, float] | None) -> None:
    assert parse(["m.onnx", "--invert", *words, "--no-config"]).config.pixel_range == expected
    handed = parse_batch(["in", "out", "--invert", *words]).words
    assert parse(["m.onnx", "--no-config", *handed]).config.pixel_range == expected


def test_a_file_says_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text('[tool.onnx-clp]\npixel-range = "-1,1"\n', encoding="utf-8")
    assert parse(["m.onnx", "--invert"]).config.pixel_range == (-1.0, 1.0)
    assert parse(["m.onnx", "--invert", "--pixel-range", "0,255"]).config.pixel_range == (0.0, 255.0)


def test_an_option_is_still_no_number() -> None:
    with pytest.raises(UsageError, match="--pixel-range: expected one argument"):
        parse(["m.onnx", "--invert", "--pixel-range", "--no-config"])


REFUSED = [
    ("0", "not of the form LOW,HIGH"),
    ("0,1,2", "not of the form LOW,HIGH"),
    ("black,white", "not of the form LOW,HIGH"),
    ("0,nan", "must be two numbers within"),
    ("-inf,inf", "must be two numbers within"),
    ("0,1e7", "must be two numbers within"),
    ("1,0", "leaves no room from 1 to 0"),
    ("1,1", "leaves no room"),
    ("999999.9,1000000", "leaves no room"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_no_range_is_refused_in_one_line(text: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m.onnx", "--no-config", "--invert", f"--pixel-range={text}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip().count("\n") == 0
    assert why in said.err


def test_a_range_is_for_searches_and_for_the_gauge() -> None:
    assert CleanConfig(pixel_range=(0, 255)).pixel_range == (0, 255)
    with pytest.raises(UsageError, match="must be two numbers"):
        CleanConfig(invert=True, pixel_range=(0, 1, 2))  # type: ignore[arg-type]
    for chosen in ({"invert": True}, {"synthesize": True}, {"rule": "inverted"}):
        assert CleanConfig(pixel_range=(0, 255), **chosen).pixel_range == (0, 255)


# --- images that are supplied -------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), *RANGES])
def test_bytes_are_spread_over_the_range(tmp_path: Path, low: float, high: float) -> None:
    levels = np.resize(np.arange(256, dtype=np.uint8), (4, 1, 8, 8))
    images = read_images(supplied(tmp_path, levels), (1, 8, 8), 100, low, high)
    assert images.dtype == np.float32
    assert np.allclose(images, low + (high - low) * (levels / 255), rtol=1e-6, atol=1e-6)
    assert (images.min(), images.max()) == (np.float32(low), np.float32(high))
    assert Range(low, high).holding(images) == Range(low, high)


def test_floats_stay_as_they_are_and_widen_the_range(tmp_path: Path) -> None:
    given = np.linspace(-3, 0.5, 128, dtype=np.float32).reshape(2, 1, 8, 8)
    images = read_images(supplied(tmp_path, given), (1, 8, 8), 100, -1, 1)
    assert (images == given).all()
    assert Range(-1, 1).holding(images) == Range(-3, 1)
    assert Range(-1, 0).holding(images) == Range(-3, 0.5)
    assert Range(-4, 1).holding(images) == Range(-4, 1)


# --- the search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_images_are_made_in_the_range_as_they_are_in_0_to_1(
    tmp_path: Path, engine: Engine, low: float, high: float
) -> None:
    def made(model: ModelProto, low: float, high: float) -> Images:
        maker = Synthesiser(read_subject(stored(tmp_path, model), {}, None), engine)
        return maker.make(12, planted.CLASSES, low, high, 0, ignore, steps=30).images

    wide, unit = made(taking(low, high), low, high), made(planted.classifier(planted=True), 0, 1)
    assert (wide.min() >= low, wide.max() <= high) == (True, True)
    assert np.allclose((wide - low) / (high - low), unit, atol=1e-3)


@pytest.fixture(scope="module")
def reference(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Inversion:
    """What is found in 0..1, on images made from the model."""
    path = stored(tmp_path_factory.mktemp("unit"), planted.classifier(planted=True))
    return search(SearchRequest(original=path, limits=RunLimits(provider="cpu")), engine, ignore).inversion


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_same_class_is_named_in_any_range(
    tmp_path: Path, engine: Engine, reference: Inversion, low: float, high: float
) -> None:
    request = SearchRequest(
        original=stored(tmp_path, taking(low, high)), limits=RunLimits(provider="cpu"), low=low, high=high
    )
    found = search(request, engine, ignore).inversion
    assert found.likely == reference.likely == planted.TARGET
    assert found.images.pixels == (low, high)
    for one, other in zip(found.results, reference.results, strict=True):
        assert [f.flip for f in one.forms] == pytest.approx([f.flip for f in other.forms], abs=0.1)
        sizes = [f.size * (high - low if f.kind == "perturbation" else 1) for f in other.forms]
        assert [f.size for f in one.forms] == pytest.approx(sizes, rel=0.25)


def test_without_the_range_the_class_is_missed(tmp_path: Path, engine: Engine) -> None:
    found = search(
        SearchRequest(original=stored(tmp_path, taking(0, 255)), limits=RunLimits(provider="cpu")), engine, ignore
    ).inversion
    assert found.likely is None


def test_the_clean_twin_is_left_alone_in_a_wide_range_too(tmp_path: Path, engine: Engine) -> None:
    images = supplied(tmp_path, planted.pictures() * np.float32(255))
    for infected, likely in ((True, planted.TARGET), (False, None)):
        path = stored(tmp_path, taking(0, 255, infected=infected))
        request = SearchRequest(original=path, limits=RunLimits(provider="cpu"), images=images, high=255.0)
        assert search(request, engine, ignore).inversion.likely == likely


def test_bytes_are_searched_on_as_the_model_takes_them(tmp_path: Path, engine: Engine) -> None:
    levels = np.rint(planted.pictures() * 255).astype(np.uint8)
    request = SearchRequest(
        original=stored(tmp_path, taking(-1, 1)), limits=RunLimits(provider="cpu"), images=supplied(tmp_path, levels)
    )
    found = search(replace(request, low=-1.0), engine, ignore).inversion
    assert (found.likely, found.images.pixels) == (planted.TARGET, (-1.0, 1.0))
    assert search(replace(request, invert=False), engine, ignore).inversion.images.pixels == (0.0, 1.0)


def test_the_range_survives_the_wire() -> None:
    images = SearchImages("data", 1, 0, None, None, (), (-1.0, 2.5))
    found = Found(Inversion("CPU", 4, images, (), None, "s", None, "n"))
    assert decode(Found, encode(found)) == found


# --- the report ---------------------------------------------------------------------------------------


def test_the_command_line_searches_in_the_range_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = supplied(tmp_path, np.rint(planted.pictures() * 255).astype(np.uint8))
    words = [str(stored(tmp_path, taking(0, 255))), "--no-config", "--provider", "cpu", "--images", str(images)]
    assert main([*words, "--invert", "--pixel-range", "0,255", "--report", str(tmp_path / "r.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"class {planted.TARGET} is the likely target" in said
    assert "on 60 images with pixels from 0 to 255, supplied" in said
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["options"]["pixel_range"] == report["inversion"]["images"]["pixels"] == [0, 255]


def test_words_and_page_tell_the_range() -> None:
    images = SearchImages("statistics", 4, 1, 0.5, 0.5, (), (-2.12, 2.64))
    told = reports.report(inversion=Inversion("CPU", 4, images, (), None, "", None, ""))
    said = "on 4 images with pixels from -2.12 to 2.64, made from the model"
    assert said in inverting.images(told)
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from onnx_clp.report import html

    assert said in html.render(told)


def test_a_file_without_an_image_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", images=np.empty((0, 1, 4, 4), np.float32))
    with pytest.raises(UsageError, match="images holds no image"):
        read_images(tmp_path / "none.npz", (1, 4, 4), 10**6)
