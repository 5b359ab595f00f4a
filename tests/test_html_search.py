"""The part of the page that tells of a search for triggers."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from onnx_clp.document.run import ClassInversion, FormFound, Inversion, Picture, SearchImages
from onnx_clp.report import html, inverting
from tests import reports
from tests.test_html import Page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

KINDS = ("perturbation", "patch", "blend", "warp", "wave")


def shade(level: float) -> Picture:
    return Picture.of(np.full((1, 4, 4), level), 0, 1)


def inverted(target: int, z: float) -> ClassInversion:
    return ClassInversion(target, 1.5, tuple(FormFound(k, 0.913, 7.25, z, shade(z / 10)) for k in KINDS))


def page(likely: int | None) -> tuple[Page, str]:
    images = SearchImages("statistics", 100, 5, 0.02, 0.93, (shade(0.2), shade(0.7)))
    results = (inverted(0, 0.4), inverted(1, 8.5))
    sentence = "class 1 is the likely target" if likely == 1 else "no class stands out"
    found = Inversion("CPUExecutionProvider", 2, images, results, likely, sentence, None, "")
    text = html.render(replace(reports.report(), inversion=found))
    return Page(text), text


def test_every_class_shows_its_five_forms_the_likely_target_first() -> None:
    shown, text = page(1)
    assert {"triggers", "classes"} <= set(shown.ids)
    assert "class 1 is the likely target" in shown.words
    assert shown.words.index("1 likely target") < shown.words.index("0 turns")
    assert shown.words.count("turns 91.3 % size 7.250 z 8.5") == 5
    labels = [value for name, value in shown.attributes if name == "alt"]
    assert [label for label in labels if label in KINDS] == [*KINDS, *KINDS]
    assert "2 of the images" in labels
    assert text.count("data:image/png;base64,") >= 9


def test_no_class_is_called_a_target_where_none_stands_out() -> None:
    shown, _ = page(None)
    assert "no class stands out" in shown.words
    assert "likely target" not in shown.words


def test_the_sheet_holds_the_pictures_side_by_side() -> None:
    shown, _ = page(1)
    at = shown.attributes.index(("alt", "2 of the images"))
    raw = base64.b64decode(shown.attributes[at + 1][1].removeprefix("data:image/png;base64,"))
    width, height, depth, kind = struct.unpack(">IIBB", raw[16:26])
    assert (width, height, depth, kind) == (8, 4, 8, 0)
    at = raw.index(b"IDAT")
    length = int.from_bytes(raw[at - 4 : at], "big")
    rows = zlib.decompress(raw[at + 4 : at + 4 + length])
    assert rows[1:9] == bytes([51] * 4 + [178] * 4)


def decoded(source: str) -> np.ndarray:
    """The first row of a small grey PNG as this package writes it."""
    raw = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    at = raw.index(b"IDAT")
    rows = zlib.decompress(raw[at + 4 : at + 4 + int.from_bytes(raw[at - 4 : at], "big")])
    return np.frombuffer(rows[1:5], np.uint8)


def test_the_trigger_comes_first_on_an_image_where_its_picture_tells_it_in_full() -> None:
    patch = replace(inverted(1, 8.5).forms[1], z=9.0, picture=shade(0.75))
    forms = (*inverted(1, 8.5).forms[:1], patch)
    images = SearchImages("statistics", 100, 5, 0.02, 0.93, (shade(0.2),))
    found = Inversion("CPU", 2, images, (ClassInversion(1, 1.5, forms),), 1, "class 1 is likely", None, "")
    report = reports.report(inversion=found)
    (_, image), (label, drawn), (last, both) = inverting.views(report)
    assert (label, last) == ("the patch towards class 1", "the image with it")
    assert decoded(image)[0] == 51
    assert decoded(drawn)[0] == 191
    assert abs(int(decoded(both)[0]) - (51 + 2 * 191 - 255)) <= 1
    shown = Page(html.render(report))
    assert shown.ids.index("trigger") < shown.ids.index("proof")
    warped = replace(found, results=(ClassInversion(1, 1.5, (replace(patch, kind="warp"),)),))
    assert len(inverting.views(reports.report(inversion=warped))) == 2
    assert inverting.views(reports.report(inversion=replace(found, likely=None))) == []
    assert "trigger" not in Page(html.render(reports.report(inversion=replace(found, likely=None)))).ids


def test_a_page_without_a_search_has_no_such_part() -> None:
    assert "triggers" not in Page(html.render(reports.report())).ids
