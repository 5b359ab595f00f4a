"""The inverted change per channel: the measure by hand, on planted models, over the wire and in the reports."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from onnx_clp.cap.bound_directions import Site
from onnx_clp.cli.main import main
from onnx_clp.config import RunLimits
from onnx_clp.document.run import ChannelChanges, Inversion, Picture, Report, SearchImages
from onnx_clp.inversion.changes import FAINT, changes, relative
from onnx_clp.inversion.request import (
    Found,
    Images,
    SearchRequest,
)
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import Subject
from onnx_clp.process.codec import decode, encode
from onnx_clp.report import html, inverting
from onnx_clp.validation.provider import Engine, choose
from tests import planted, reports
from tests.test_html import Page

SITES = (Site("active", 12, 4, 1, "active"), Site("flat", 48, 2, 1, "flat"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def ignore(stage: str, done: int, total: int) -> None:
    """A listener who does not listen."""


@dataclass(frozen=True)
class Mark:
    """A form that is told what to do."""

    put: Callable[[Images], NDArray[Any]]

    def put_on(self, images: Images) -> Images:
        return np.asarray(self.put(images), np.float32)


# --- the measure --------------------------------------------------------------------------------------


def tiny() -> Subject:
    """Images of one channel > 1 × 1 convolution by 1, -2, 0 and 1, the last less 5 > `a` > Relu > `b`."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> t (float[n,1,2,2] x) => (float[n,4] y) '
        "{ a = Conv(x, w, c) b = Relu(a) g = GlobalAveragePool(b) y = Flatten(g) }"
    )
    weight = np.array([1, -2, 0, 1], np.float32).reshape(4, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, -5], np.float32), "c"))
    return Subject(model, "x", "y", (1, 2, 2), False)


def measured(value: str, images: Images, mark: Mark, engine: Engine) -> NDArray[np.float64]:
    (found,) = changes(tiny(), engine, [Site(value, 4, 4, 1, value)], images, mark, ignore)
    assert found.value == value
    return np.array(found.change)


def test_the_change_is_the_mean_norm_of_the_difference_over_the_mean_norm(engine: Engine) -> None:
    # Norms over the 4 positions: 2 and 4 without, of the differences 1 and 1.
    images = np.stack([np.full((1, 2, 2), 1.0), np.full((1, 2, 2), 2.0)]).astype(np.float32)
    corner = Mark(lambda x: x + np.array([[1, 0], [0, 0]]))
    held = (8 + 6) / 2  # the last channel: ‖1 - 5‖ = 8, ‖2 - 5‖ = 6
    assert measured("a", images, corner, engine) == pytest.approx([1 / 3, 1 / 3, 0, 1 / held], rel=1e-6)
    assert (measured("a", images, Mark(lambda x: x), engine) == 0).all()


def test_the_mean_is_of_norms_over_all_images_in_whatever_batches(engine: Engine) -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(130, 1, 2, 2)).astype(np.float32)
    push = rng.normal(size=(130, 1, 2, 2)).astype(np.float32)
    norms = [np.sqrt((each.astype(np.float64) ** 2).sum(axis=(1, 2, 3))).mean() for each in (push, images)]
    found = measured("a", images, Mark(lambda x: x + push), engine)
    assert found[:2] == pytest.approx([norms[0] / norms[1]] * 2, rel=1e-5)
    one = measured("a", images[-1:], Mark(lambda x: x + push[-1:]), engine)
    assert one[0] != pytest.approx(found[0], rel=0.01)


def test_silent_channels(engine: Engine) -> None:
    # Behind the Relu only channel 0 is heard; the trigger raises pixels from 1 to 9 and wakes channel 3, from 0 to 4.
    images = np.ones((3, 1, 2, 2), np.float32)
    found = measured("b", images, Mark(lambda x: x + 8), engine)
    held = 2 / 4  # the mean over the channels
    assert found == pytest.approx([8, 0, 0, 8 / (FAINT * held)])
    asleep = measured("b", np.zeros_like(images), Mark(lambda x: x + 8), engine)
    assert asleep == pytest.approx([32 / 11, 0, 0, 12 / 11])  # by the mean of 16, 0, 0 and 6
    assert (measured("b", np.zeros_like(images), Mark(lambda x: x), engine) == 0).all()


def test_a_faint_channel_is_measured_by_its_layer_and_an_ordinary_one_by_itself() -> None:
    held = np.array([1.0, 1.0, 0.5, 1e-9])
    found = relative(np.array([0.1, 0.0, 0.1, 1e-6]), held)
    assert found == pytest.approx([0.1, 0, 0.2, 1e-6 / (FAINT * held.mean())])
    spoilt = relative(np.array([np.inf, 0.5]), np.array([np.inf, 1.0]))
    assert math.isnan(spoilt[0])
    assert spoilt[1] == 0.5


def test_one_value_after_the_other_is_told(engine: Engine) -> None:
    ticks: list[tuple[str, int, int]] = []
    asked = [Site("a", 4, 4, 1, "a"), Site("y", 4, 2, 1, "y")]
    images = np.ones((2, 1, 2, 2), np.float32)
    found = changes(tiny(), engine, asked, images, Mark(lambda x: x * 2), lambda *t: ticks.append(t))
    assert [one.value for one in found] == ["a", "y"]
    assert found[1].change == pytest.approx((1, 0, 0, 0))
    assert ticks == [("measure", 1, 2), ("measure", 2, 2)]
    assert changes(tiny(), engine, [], images, Mark(lambda x: x * 2), ignore) == ()


# --- planted models -----------------------------------------------------------------------------------


def request(folder: Path, *, infected: bool, sites: tuple[Site, ...] = SITES) -> SearchRequest:
    onnx.save(planted.classifier(planted=infected), folder / "m.onnx")
    np.savez(folder / "images.npz", images=planted.pictures(60))
    return SearchRequest(
        original=folder / "m.onnx", images=folder / "images.npz", limits=RunLimits(provider="cpu"), sites=sites
    )


def test_the_planted_channel_moves_most_and_over_the_wire_it_is_the_same(tmp_path: Path, engine: Engine) -> None:
    answer = search(request(tmp_path, infected=True), engine, ignore)
    found = answer.inversion
    assert found.likely == found.nearest == planted.TARGET
    active, flat = found.changes
    assert [(one.value, len(one.change)) for one in found.changes] == [("active", 12), ("flat", 48)]
    assert int(np.argmax(active.change)) == 0
    assert int(np.argmax(flat.change)) in range(4)  # what the head reads of channel 0
    assert max(flat.change[:4]) > 3 * max(flat.change[4:])
    assert np.isfinite(active.change + flat.change).all()
    assert decode(Found, encode(answer)) == answer


def test_the_clean_twin_is_measured_for_its_nearest_class_and_shown_no_table(tmp_path: Path, engine: Engine) -> None:
    found = search(request(tmp_path, infected=False), engine, ignore).inversion
    assert found.likely is None
    assert found.nearest == max(found.results, key=lambda result: result.z).target
    active, flat = found.changes
    assert active.change[0] == 0  # switched off
    assert min(active.change[1:]) > 0
    assert set(flat.change[:4]) == {0}
    page = html.render(told(None, found.nearest, found.changes))
    assert "changes" not in Page(page).ids
    assert "moves channel" not in " ".join(inverting.rows(told(None, found.nearest, found.changes)))


def test_without_sites_or_triggers_nothing_is_measured(tmp_path: Path, engine: Engine) -> None:
    asked = request(tmp_path, infected=True)
    only_made = search(replace(asked, invert=False), engine, ignore).inversion
    assert (only_made.nearest, only_made.changes) == (None, ())
    picture = Picture.of(np.zeros((1, 2, 3)), 0, 1)
    images = SearchImages("data", 1, 0, None, None, (picture,))
    plain = Inversion("CPU", 4, images, (), None, "s", None, "n")
    assert (plain.nearest, plain.changes) == (None, ())
    full = replace(plain, nearest=3, changes=(ChannelChanges("c", "a", (0.1, 3e-300)), ChannelChanges("d", "b", ())))
    assert decode(Found, encode(Found(full))) == Found(full)


@pytest.mark.parametrize("word", ["--invert", "--synthesize"])
def test_the_command_line_measures_where_it_inverts(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(tmp_path, infected=True)
    words = [str(asked.original), "--no-config", "--provider", "cpu", "--images", str(asked.images), word]
    assert main([*words, "--report", str(tmp_path / "r.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    inversion = json.loads((tmp_path / "r.json").read_text())["inversion"]
    assert inversion["repair"] is None
    if word == "--synthesize":
        assert (inversion["nearest"], inversion["changes"]) == (None, [])
        return
    (layer,) = inversion["changes"]  # the first convolution takes no caps
    assert (inversion["nearest"], layer["name"], layer["value"]) == (planted.TARGET, "head", "flat")
    most = int(np.argmax(layer["change"]))
    assert most < 4
    assert f"towards class {planted.TARGET} moves channel {most} at head most" in said


# --- the report ---------------------------------------------------------------------------------------

MOVED = (
    ChannelChanges("c<1>", "v1", (0.5, 0.0, 0.125, 0.25)),
    ChannelChanges("fc", "v2", (0.02, 3.14159, 0.08, 0.08, math.nan)),
    ChannelChanges("still", "v3", (0.0, 0.0)),
)


def told(likely: int | None, nearest: int | None, moved: tuple[ChannelChanges, ...] = MOVED) -> Report:
    images = SearchImages("data", 4, 0, None, None, (Picture.of(np.zeros((1, 2, 2)), 0, 1),))
    found = Inversion("CPU", 4, images, (), likely, "a sentence", None, "", nearest, moved)
    return reports.report(inversion=found)


def test_the_median_and_what_moves_most() -> None:
    first, second, still = MOVED
    assert (first.median, first.most) == (0.1875, [(0, 0.5), (3, 0.25), (2, 0.125)])
    assert (second.median, second.most) == (0.08, [(1, 3.14159), (2, 0.08), (3, 0.08)])
    assert (still.median, still.most) == (0.0, [])
    assert ChannelChanges("none", "v", ()).median == 0


def test_one_row_tells_what_moves_most_where_a_class_is_named() -> None:
    rows = list(inverting.rows(told(2, 2)))
    assert rows[2:] == [
        "what was found towards class 2 moves channel 1 at fc most, by 3.1 times what it holds; "
        "the median channel there moves by 0.08"
    ]
    for silent in (told(None, 2), told(2, 2, ()), told(2, 2, MOVED[2:])):
        assert len(list(inverting.rows(silent))) == 2


def test_the_page_has_a_table_of_it_where_a_class_is_named() -> None:
    shown = Page(html.render(told(2, 2)))
    assert "changes" in shown.ids
    for words in (
        "c<1> v1 4 0.1875 0: 0.5000, 3: 0.2500, 2: 0.1250",
        "fc v2 5 0.08000 1: 3.142, 2: 0.08000, 3: 0.08000",
        "still v3 2 0.000 none",
        "by which class 2 stands out most",
        "a measurement on these images, not a bound",
    ):
        assert words in shown.words
    for silent in (told(None, 2), told(2, 2, ()), reports.report()):
        assert "changes" not in Page(html.render(silent)).ids


def test_the_document_holds_every_channel_and_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = json.loads(told(None, 2).to_json())
    assert document["inversion"]["nearest"] == 2
    assert document["inversion"]["changes"][1] == {
        "name": "fc",
        "value": "v2",
        "change": [0.02, 3.14159, 0.08, 0.08, None],
    }
    schema = json.loads((Path(inverting.__file__).parent / "schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
