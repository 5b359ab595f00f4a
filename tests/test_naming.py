"""Names of layers in a narrow column: no two alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.report.naming import fitted


def test_names_that_fit_stay() -> None:
    assert fitted(["/conv1/Conv", "/fc/Gemm"], 30) == ["/conv1/Conv", "/fc/Gemm"]


def test_names_that_differ_in_the_middle_are_cut_elsewhere() -> None:
    names = [f"/layer{a}/layer{a}.{b}/body/body.{c}/Conv" for a in (1, 2) for b in (0, 1) for c in (0, 3)]
    found = fitted(names, 26)
    assert len(set(found)) == len(names)
    assert all(len(text) <= 26 and "…" in text for text in found)


def test_the_same_name_twice_is_numbered() -> None:
    assert fitted(["conv", "conv", "other"], 20) == ["conv #1", "conv #2", "other"]


@given(st.lists(st.text("ab/é\x1b.", max_size=60), max_size=12, unique=True), st.integers(12, 40))
def test_no_two_are_alike_and_none_is_too_wide(names: list[str], width: int) -> None:
    found = fitted(names, width)
    assert len(found) == len(names)
    assert len(set(found)) == len(found)
    assert all(len(text) <= width and text.isprintable() for text in found)
