"""Dataclasses cross from process to process unchanged; what is none of them is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.process.codec import decode, encode
from onnx_clp.verdicts import LayerStatus


@dataclass(frozen=True)
class Part:
    ends: tuple[float, float]
    status: LayerStatus


@dataclass(frozen=True)
class Whole:
    name: str
    count: int | None
    parts: tuple[Part, ...]
    sizes: Mapping[str, tuple[int, ...]]
    path: Path | None
    kind: Literal["a", "b"]
    sure: bool
    share: float = 0.0


PARTS = st.builds(Part, st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)), st.sampled_from(LayerStatus))
WHOLES = st.builds(
    Whole,
    st.text(),
    st.none() | st.integers(),
    st.lists(PARTS, max_size=3).map(tuple),
    st.dictionaries(st.text(), st.lists(st.integers(), max_size=3).map(tuple), max_size=3),
    st.none() | st.sampled_from([Path("/a/b"), Path("/")]),
    st.sampled_from(["a", "b"]),
    st.booleans(),
    st.floats(allow_nan=False),
)


@given(WHOLES)
def test_what_is_decoded_equals_what_was_encoded(whole: Whole) -> None:
    text = encode(whole)
    assert "\n" not in text
    assert decode(Whole, text) == whole


def test_paths_become_absolute_and_nan_stays() -> None:
    whole = Whole("n", 1, (), {}, Path("here"), "a", True, math.nan)
    found = decode(Whole, encode(whole))
    assert found.path == Path("here").absolute()
    assert math.isnan(found.share)


GOOD: dict[str, Any] = {
    "name": "n", "count": 1, "parts": [], "sizes": {}, "path": None, "kind": "a", "sure": True, "share": 1
}  # fmt: skip


def test_a_whole_number_may_stand_for_a_float() -> None:
    share = decode(Whole, json.dumps(GOOD)).share
    assert type(share) is float


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 3},
        {"count": "1"},
        {"count": True},
        {"sure": 1},
        {"parts": {}},
        {"parts": [{"ends": [1.0], "status": "judged"}]},
        {"parts": [{"ends": [1.0, 2.0], "status": "nonsense"}]},
        {"sizes": []},
        {"sizes": {"x": 3}},
        {"kind": "c"},
        {"path": 3},
        {"more": 1},
        {"share": "nan"},
    ],
)
def test_what_does_not_fit_the_type_hints_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        decode(Whole, json.dumps({**GOOD, **wrong}))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "null"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        decode(Whole, text)
