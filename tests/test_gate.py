"""The gate: what trips it, and what a baseline forgives."""

from __future__ import annotations

import json

import pytest

from onnx_clp.document.assessment import CHANNELS
from onnx_clp.document.run import Finding, LayerReport, Report
from onnx_clp.errors import UsageError
from onnx_clp.report.gate import (
    NOTHING_JUDGED,
    UNJUDGED,
    FailOn,
    Key,
    baseline_of,
    judge,
    suspicious,
    unjudged,
    unusual,
)
from onnx_clp.verdicts import LayerStatus
from tests import reports

LOUD = reports.layer("a", outliers=2)
QUIET = reports.layer("b")
SETTLED = [s for s in LayerStatus if s not in UNJUDGED and s is not LayerStatus.JUDGED]
EVERY: tuple[FailOn, ...] = ("suspicious", "unusual", "unjudged")
NAMED = Finding("class that stands out", "fc", "class 3's row stands out", 3)
ODD = Finding("data-dependent branch", "/If", "the input decides")


def made(*layers: LayerReport, findings: tuple[Finding, ...] = ()) -> Report:
    return reports.report(layers, findings=findings)


def channel(layer: str, number: int, place: str = "") -> Key:
    return (CHANNELS, place, layer, number)


def test_a_channel_is_place_name_and_number() -> None:
    report = made(LOUD, QUIET, reports.layer("a", outliers=1, place="If/then"))
    assert unusual(report) == {channel("a", 3), channel("a", 10), channel("a", 3, "If/then")}


def test_no_word_never_trips() -> None:
    result = judge(made(LOUD, findings=(NAMED,)), ())
    assert (result.tripped, result.new) == (False, ())


@pytest.mark.parametrize("word", EVERY)
def test_what_is_suspicious_trips_every_gate(word: FailOn) -> None:
    result = judge(made(QUIET, findings=(NAMED,)), (word,))
    assert result.new == (("class that stands out", "", "fc", 3),)
    assert result.sentence == f"--fail-on {word}: suspicious (class that stands out: class 3 at fc)"


def test_channels_and_odd_things_do_not_trip_the_gate_for_suspicious_files() -> None:
    small = reports.unjudged("c", LayerStatus.TOO_SMALL)
    assert not judge(made(LOUD, small, findings=(ODD,)), ("suspicious",)).tripped
    assert judge(made(LOUD, small, findings=(ODD,)), ("unusual",)).tripped


def test_unusual_trips_on_channels_and_odd_things_only() -> None:
    small = reports.unjudged("c", LayerStatus.TOO_SMALL)
    result = judge(made(LOUD, small), ("unusual",))
    assert result.new == (channel("a", 3), channel("a", 10))
    assert result.sentence == "--fail-on unusual: 2 channels stood out"
    assert not judge(made(QUIET, small), ("unusual",)).tripped
    odd = judge(made(QUIET, findings=(ODD,)), ("unusual",))
    assert odd.sentence == "--fail-on unusual: 1 more unusual (data-dependent branch at /If)"


def test_channels_that_stay_trip_as_those_that_go() -> None:
    kept = reports.layer("a", outliers=2, kept=2)
    assert judge(made(kept), ("unusual",)).new == judge(made(LOUD), ("unusual",)).new != ()


@pytest.mark.parametrize("status", sorted(UNJUDGED))
def test_unjudged_trips_on_a_layer_the_rule_could_not_settle(status: LayerStatus) -> None:
    result = judge(made(QUIET, reports.unjudged("c", status)), ("unjudged",))
    assert [key[1:] for key in result.new] == [("", "c", None)]
    assert result.sentence == "--fail-on unjudged: 1 layer could not be judged"


@pytest.mark.parametrize("status", SETTLED)
def test_unjudged_does_not_trip_on_a_layer_left_alone_on_purpose(status: LayerStatus) -> None:
    assert not judge(made(QUIET, reports.unjudged("c", status)), ("unjudged",)).tripped


@pytest.mark.parametrize("layers", [(), (reports.unjudged("c", LayerStatus.HEAD),)])
def test_unjudged_trips_when_nothing_at_all_was_judged(layers: tuple[LayerReport, ...]) -> None:
    result = judge(made(*layers), ("unjudged",))
    assert result.new == (NOTHING_JUDGED,)
    assert "no layer was judged" in result.sentence
    assert not judge(made(*layers), ("suspicious", "unusual")).tripped


def test_words_add_up() -> None:
    small = reports.unjudged("c", LayerStatus.TOO_SMALL)
    report = made(LOUD, small, findings=(NAMED,))
    assert not any(key[0] == CHANNELS for key in judge(report, ("unjudged",)).new)
    both = judge(report, ("unusual", "unjudged"))
    assert set(both.new) == suspicious(report) | unusual(report) | unjudged(report)
    assert both.sentence == (
        "--fail-on unusual,unjudged: suspicious (class that stands out: class 3 at fc), 2 channels stood out, "
        "1 layer could not be judged"
    )


@pytest.mark.parametrize("word", EVERY)
def test_a_report_is_its_own_baseline(word: FailOn) -> None:
    report = reports.report(findings=(NAMED, ODD))
    baseline = baseline_of(report.to_json(), "old.json")
    assert baseline == suspicious(report) | unusual(report) | unjudged(report)
    result = judge(report, (word,), baseline)
    assert not result.tripped
    assert result.known == {"suspicious": 1, "unusual": 17, "unjudged": 2}[word]
    assert f"nothing new; {result.known} already in the baseline" in result.sentence


def test_hostile_names_match_their_own_baseline() -> None:
    report = reports.hostile()
    assert not judge(report, EVERY, baseline_of(report.to_json(), "old.json")).tripped


def test_a_new_channel_in_a_known_layer_is_new() -> None:
    baseline = baseline_of(made(reports.layer("a", outliers=1)).to_json(), "old.json")
    result = judge(made(LOUD), ("unusual",), baseline)
    assert (result.new, result.known, result.tripped) == ((channel("a", 10),), 1, True)


def test_another_class_is_new_and_the_same_class_is_not() -> None:
    baseline = baseline_of(made(QUIET, findings=(NAMED,)).to_json(), "old.json")
    other = Finding(NAMED.kind, NAMED.where, "another sentence", 4)
    assert judge(made(QUIET, findings=(other,)), ("suspicious",), baseline).tripped
    again = Finding(NAMED.kind, NAMED.where, "a new score", 3)
    assert not judge(made(QUIET, findings=(again,)), ("suspicious",), baseline).tripped


def test_a_known_layer_that_was_too_small_may_not_grow_an_outlier() -> None:
    baseline = baseline_of(made(reports.unjudged("a", LayerStatus.TOO_SMALL)).to_json(), "old.json")
    assert judge(made(LOUD), ("unusual", "unjudged"), baseline).tripped


def damaged(**changes: object) -> str:
    return json.dumps({**reports.report().to_dict(), **changes})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a report of schema 2"),
        ("{}", "not a report of schema 2"),
        (damaged(schema=1), "not a report of schema 2"),
        (damaged(evidence=3), "damaged"),
        (damaged(evidence=[{"kind": "path"}]), "damaged"),
        (damaged(layers=3), "damaged"),
        (damaged(layers=[{"name": "a"}]), "damaged"),
        (damaged(layers=[3]), "damaged"),
        (damaged(summary=None), "damaged"),
        (damaged(layers=[{"name": "a", "place": "", "status": [], "judgements": []}]), "damaged"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_no_report_is_a_usage_error(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        baseline_of(text, "old.json")
    assert str(caught.value).startswith("old.json: ")
