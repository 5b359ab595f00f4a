"""Reports are what they were: a change that moves code moves no byte of them, a wanted change renews the digests."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.forms import TABLE
from tools.golden import DIGESTS, SETTINGS, Subject, digest, forms, real, renewed, rounded, zoo

KNOWN: dict[str, str] = json.loads(DIGESTS.read_text(encoding="utf-8"))
HOW = "`python -m tools.golden write FOLDER` before and after shows what; `digests` renews them after a wanted change"


def test_every_form_and_every_model_here_has_a_digest() -> None:
    assert {subject.name for subject in (*zoo(), *forms())} <= set(KNOWN)


def test_digests_differ_between_models_and_with_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = list(zoo())[:2]
    assert digest(first) != digest(second)
    whole = digest(first)
    for name in SETTINGS:
        monkeypatch.setitem(SETTINGS, name, {"exclude": ("*",)})
        assert digest(first) != whole
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("known", "kept"), [("", "a1"), ("a1", "a1"), ("b2", "a1"), ("b2|a1", "b2|a1"), ("b2|c3", "a1")]
)
def test_a_model_may_have_a_digest_by_processor(known: str, kept: str) -> None:
    assert renewed("a1", known) == kept


def test_a_refusal_names_no_path() -> None:
    form = next(form for form in TABLE if form.external)
    report = Subject("forms/one", form).report({}, validate=False)
    assert "refused" not in report
    assert report["input"]["path"] == "forms/one"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1.00000049, 1.0),
        (1.0000051, 1.00001),
        (math.inf, "inf"),
        ({"a": (0.123456789, "x", 3)}, {"a": [0.123457, "x", 3]}),
    ],
)
def test_floats_are_cut(value: Any, wanted: Any) -> None:
    assert rounded(value) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [zoo, real, forms], ids=["zoo", "corpus", "forms"])
def test_reports_are_what_they_were(subjects: Any) -> None:
    found = {subject.name: digest(subject) for subject in subjects()}
    if not found:
        pytest.skip("the files to run on are not there")
    moved = [name for name, made in found.items() if renewed(made, KNOWN.get(name, "")) != KNOWN.get(name)]
    assert moved == [], HOW
