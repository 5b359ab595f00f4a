"""Names as shown: printable, short, and still telling one name from another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.text import LIMIT, shown, shown_path


@pytest.mark.parametrize(
    "name",
    ["", "conv1", "layer1.0.bn1/FusedBatchNormV3:0", "a b", "größe", "卷积_3", "x::y", "[b]x[/b]", "<b>x"],
)
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\tb", "a\\r\\tb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\x00del\x7f", "nul\\x00del\\x7f"),
        ("c1\x85\x9b", "c1\\x85\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028para\u2029", "line\\u2028para\\u2029"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("blank\u3164\ufe0f", "blank\\u3164\\ufe0f"),
        ("lone\ud800", "lone\\ud800"),
        ("back\\slash", "back\\\\slash"),
        ("::error file=x::boo", "\\x3a:error file=x::boo"),
        ("  ::error::", "  \\x3a:error::"),
        ("a ##[error]b", "a \\x23#[error]b"),
        (b"raw\xff", "raw\\udcff"),
        (b"plain", "plain"),
    ],
)
def test_what_could_mislead_is_escaped(name: str | bytes, expected: str) -> None:
    assert shown(name) == expected


def test_a_long_name_loses_its_middle() -> None:
    text = shown("start" + "x" * 10_000_000 + "end")
    assert len(text) == LIMIT
    assert text.startswith("startx")
    assert text.endswith("xend")
    assert "…" in text


def test_an_escape_is_never_cut_in_two() -> None:
    text = shown("\x1b" * 1000)
    head, tail = text.split("…")
    assert head == "\\x1b" * (len(head) // 4)
    assert tail == "\\x1b" * (len(tail) // 4)


def test_a_name_that_grows_by_escaping_is_shortened_too() -> None:
    assert len(shown("\x1b" * LIMIT)) <= LIMIT


def test_a_path_has_more_room() -> None:
    path = "/models/" + "d" * 200 + "/net.onnx"
    assert shown_path(path) == path
    assert len(shown_path("/" + "d" * 5000)) == 400


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)), st.integers(8, 120))
def test_every_name_comes_out_printable_and_within_the_limit(name: str | bytes, limit: int) -> None:
    text = shown(name, limit)
    assert len(text) <= limit
    assert text.isprintable()
    assert not text.lstrip().startswith("::")
    assert "##[" not in text


@given(st.text(max_size=12), st.text(max_size=12))
def test_different_names_look_different(a: str, b: str) -> None:
    assert (shown(a, 200) == shown(b, 200)) == (a == b)
