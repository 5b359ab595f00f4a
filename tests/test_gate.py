"""The gate: what trips it, and what a baseline forgives."""

from __future__ import annotations

import json

import pytest

from onnx_clp.document.run import LayerReport
from onnx_clp.errors import UsageError
from onnx_clp.report.gate import NOTHING_JUDGED, UNJUDGED, FailOn, baseline_of, judge, stood_out, unjudged
from onnx_clp.verdicts import LayerStatus
from tests import reports

LOUD = reports.layer("a", outliers=2)
QUIET = reports.layer("b")
SETTLED = [s for s in LayerStatus if s not in UNJUDGED and s is not LayerStatus.JUDGED]


def test_a_finding_is_place_name_and_channel() -> None:
    report = reports.report((LOUD, QUIET, reports.layer("a", outliers=1, place="If/then")))
    assert stood_out(report) == {("", "a", 3), ("", "a", 10), ("If/then", "a", 3)}


def test_never_means_never() -> None:
    result = judge(reports.report((LOUD,)), "never")
    assert (result.tripped, result.new) == (False, ())


def test_pruned_trips_on_channels_only() -> None:
    small = reports.unjudged("c", LayerStatus.TOO_SMALL)
    result = judge(reports.report((LOUD, small)), "pruned")
    assert result.tripped
    assert result.new == (("", "a", 3), ("", "a", 10))
    assert result.sentence == "--fail-on pruned: 2 channels stood out"
    assert not judge(reports.report((QUIET, small)), "pruned").tripped


def test_channels_that_stay_trip_as_those_that_go() -> None:
    kept = reports.layer("a", outliers=2, kept=2)
    assert judge(reports.report((kept,)), "pruned").new == judge(reports.report((LOUD,)), "pruned").new != ()


@pytest.mark.parametrize("status", sorted(UNJUDGED))
def test_unjudged_trips_on_a_layer_the_rule_could_not_settle(status: LayerStatus) -> None:
    result = judge(reports.report((QUIET, reports.unjudged("c", status))), "unjudged")
    assert result.new == (("", "c", None),)
    assert result.sentence == "--fail-on unjudged: 1 layer could not be judged"


@pytest.mark.parametrize("status", SETTLED)
def test_unjudged_does_not_trip_on_a_layer_left_alone_on_purpose(status: LayerStatus) -> None:
    assert not judge(reports.report((QUIET, reports.unjudged("c", status))), "unjudged").tripped


@pytest.mark.parametrize("layers", [(), (reports.unjudged("c", LayerStatus.HEAD),)])
def test_unjudged_trips_when_nothing_at_all_was_judged(layers: tuple[LayerReport, ...]) -> None:
    result = judge(reports.report(layers), "unjudged")
    assert result.new == (NOTHING_JUDGED,)
    assert "no layer was judged" in result.sentence
    assert not judge(reports.report(layers), "pruned").tripped


def test_unjudged_trips_on_pruned_channels_too() -> None:
    assert judge(reports.report((LOUD,)), "unjudged").new == (("", "a", 3), ("", "a", 10))


@pytest.mark.parametrize("fail_on", ["pruned", "unjudged"])
def test_a_report_is_its_own_baseline(fail_on: FailOn) -> None:
    report = reports.report()
    baseline = baseline_of(report.to_json(), "old.json")
    assert baseline == stood_out(report) | unjudged(report)
    result = judge(report, fail_on, baseline)
    assert not result.tripped
    assert result.known == (16 if fail_on == "unjudged" else 15)
    assert f"nothing new; {result.known} already in the baseline" in result.sentence


def test_hostile_names_match_their_own_baseline() -> None:
    report = reports.hostile()
    assert not judge(report, "unjudged", baseline_of(report.to_json(), "old.json")).tripped


def test_a_new_channel_in_a_known_layer_is_new() -> None:
    baseline = baseline_of(reports.report((reports.layer("a", outliers=1),)).to_json(), "old.json")
    result = judge(reports.report((LOUD,)), "pruned", baseline)
    assert (result.new, result.known, result.tripped) == ((("", "a", 10),), 1, True)


def test_a_known_layer_that_was_too_small_may_not_grow_an_outlier() -> None:
    small = reports.report((reports.unjudged("a", LayerStatus.TOO_SMALL),))
    baseline = baseline_of(small.to_json(), "old.json")
    assert judge(reports.report((LOUD,)), "unjudged", baseline).tripped


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
