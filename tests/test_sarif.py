"""SARIF: a result for each piece of evidence and each channel, tellable apart, of bounded size."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from onnx_clp.document.run import FileFacts, Finding, PrunedChannel, Report
from onnx_clp.report import sarif
from onnx_clp.verdicts import INCONCLUSIVE
from tests import reports


def run_of(report: Report) -> dict[str, Any]:
    log = json.loads(sarif.render(report))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def ids(run: dict[str, Any], key: str = "primaryLocationLineHash") -> list[str]:
    return [result["partialFingerprints"][key] for result in run["results"]]


def test_there_is_one_result_per_pruned_channel_the_highest_z_first() -> None:
    report = reports.report()
    run = run_of(report)
    assert report.summary.channels_pruned == 15
    first, *channels = run["results"]
    assert (first["ruleId"], first["level"]) == ("CLP008", "warning")
    zs = [result["properties"]["z"] for result in channels]
    assert len(zs) == 15
    assert zs == sorted(zs, reverse=True)
    assert all(result["ruleId"] == sarif.RULE and result["ruleIndex"] == 0 for result in channels)
    assert run["properties"] == {
        "verdict": "unusual",
        "limit": "mean + 3 std (rule paper)",
        "resultsLeftOut": 0,
    }


def test_nothing_pruned_is_an_empty_list_which_says_that_it_was_looked_at() -> None:
    run = run_of(reports.report((reports.layer(outliers=0),), findings=()))
    assert run["results"] == []
    assert run["properties"]["verdict"] == "nothing found"


@pytest.mark.parametrize(
    ("kind", "rule", "level"),
    [
        ("class that stands out", "CLP002", "error"),
        ("path", "CLP005", "error"),
        ("gate", "CLP006", "error"),
        ("blinding", "CLP007", "error"),
        ("custom operator", "CLP008", "warning"),
    ],
)
def test_evidence_is_a_result_before_any_channel(kind: str, rule: str, level: str) -> None:
    found = (Finding(kind, "/fc", "it [a](b) stands {out}", 3),)
    run = run_of(reports.report((reports.layer(outliers=1),), findings=found))
    first, second = run["results"]
    assert (first["ruleId"], first["level"], second["ruleId"]) == (rule, level, sarif.RULE)
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == rule
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["defaultConfiguration"]["level"] == level
    assert first["properties"] == {"kind": kind, "verdict": first["properties"]["verdict"], "target": 3}
    assert "{{out}}" in first["message"]["text"]
    assert "](b" not in first["message"]["text"]
    again = run_of(reports.report((reports.layer(),), findings=(Finding(kind, "/fc", "another score", 3),)))
    assert ids(again)[0] == ids(run)[0]
    other = run_of(reports.report((reports.layer(),), findings=(Finding(kind, "/fc", "another score", 4),)))
    assert ids(other)[0] != ids(run)[0]


def test_a_channel_that_stands_out_twice_is_one_result_with_its_highest_z() -> None:
    low = reports.judgement((1.0, 1.1) * 20 + (2.0,), normalisation="a")
    high = reports.judgement((1.0, 1.1) * 20 + (9.0,), normalisation="b")
    for pair in ((low, high), (high, low)):
        made = reports.report((reports.layer(channels=41, judgements=pair),), findings=())
        (result,) = run_of(made)["results"]
        assert result["properties"]["score"] == 9.0


def test_fingerprints_tell_channels_apart_and_survive_new_scores() -> None:
    before = run_of(reports.report((reports.layer("a", 64, 3), reports.layer("b", 64, 3)), findings=()))
    assert len(set(ids(before))) == 6
    (judgement,) = reports.layer("a", 64, 3).judgements
    louder = reports.judgement(tuple(score * 1.5 for score in judgement.scores))
    after = run_of(reports.report((reports.layer("a", 64, judgements=(louder,)),), findings=()))
    assert set(ids(after)) < set(ids(before))
    moved = run_of(reports.report((reports.layer("a", 64, 3, place="If_3/then"),), findings=()))
    assert set(ids(moved)).isdisjoint(ids(before))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("in.onnx", "in.onnx"),
        ("./models/a b.onnx", "models/a%20b.onnx"),
        ("/srv/größe.onnx", "file:///srv/gr%C3%B6%C3%9Fe.onnx"),
        ("http://x/y.onnx", "http%3A/x/y.onnx"),
        ("a\x1b\n%.onnx", "a%1B%0A%25.onnx"),
    ],
)
def test_the_location_is_the_model_as_a_uri(path: str, uri: str) -> None:
    run = run_of(reports.report(input=FileFacts(path, "0" * 64, 1)))
    locations = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert locations == [{"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}] * 16


def test_the_rule_carries_what_code_scanning_shows() -> None:
    driver = run_of(reports.report())["tool"]["driver"]
    assert (driver["name"], driver["semanticVersion"]) == ("onnx-clp", "0.1.0")
    assert [rule["id"] for rule in driver["rules"]] == [f"CLP{at:03}" for at in range(1, 9)]
    assert driver["rules"][0]["id"] == sarif.RULE
    for rule in driver["rules"]:
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
        assert "security" in rule["properties"]["tags"]
        assert rule["help"]["text"]
        assert rule["shortDescription"]["text"]


def test_the_verdict_and_what_is_no_evidence_are_notifications_not_results() -> None:
    told = Finding("checker", "model", "the input as it came fails")
    run = run_of(reports.report(findings=(*reports.report().findings, told)))
    (invocation,) = run["invocations"]
    texts = [note["message"]["text"] for note in invocation["toolExecutionNotifications"]]
    assert texts[0].startswith("unusual: 15 of 352")
    assert texts[1:] == ["checker at model: the input as it came fails"]
    assert not any("checker" in result["message"]["text"] for result in run["results"])


def test_a_channel_that_stays_is_a_result_that_says_so() -> None:
    results = run_of(reports.careful(findings=()))["results"]
    assert sorted(result["properties"]["kept"] for result in results) == [False, False, True, True, True, True]
    assert {result["properties"]["kept"] for result in run_of(reports.report(findings=()))["results"]} == {False}


def test_hostile_names_stay_text() -> None:
    text = sarif.render(reports.hostile())
    assert text.isascii()
    assert len(text) < 100_000
    messages = [result["message"]["text"] for result in run_of(reports.hostile())["results"]]
    assert all(message.isprintable() for message in messages)
    assert any("{{{{ 7*7 }}}}" in message and "[a] (http" in message for message in messages)


@pytest.mark.parametrize("name", ["x", "\u5377" * 100])
def test_the_file_stays_below_ten_megabytes_and_says_what_it_left_out(name: str) -> None:
    layer = reports.layer(name, 64, 1)
    (judgement,) = layer.judgements
    (channel,) = judgement.pruned
    many = tuple(PrunedChannel(c, 3.0, 9.0, 5.0 + 1 / (c + 1), c + 1) for c in range(40_000))
    assert replace(channel, channel=0, z=6.0, rank=1, score=3.0, upper_bound=9.0, fill=None) == many[0]
    report = reports.report((replace(layer, judgements=(replace(judgement, pruned=many),)),), findings=())
    text = sarif.render(report)
    assert len(text.encode()) < 10_000_000
    run = run_of(report)
    assert 5_000 < len(run["results"]) <= sarif.MOST_RESULTS
    left = 40_000 - len(run["results"])
    assert run["properties"]["resultsLeftOut"] == left
    note = run["invocations"][0]["toolExecutionNotifications"][1]["message"]["text"]
    assert note == f"{left:,} more channels stood out; this file is full"
    assert [result["properties"]["rank"] for result in run["results"]] == list(range(1, 40_001 - left))


def test_scores_json_cannot_say_are_null() -> None:
    layer = reports.layer(channels=64, outliers=1)
    (judgement,) = layer.judgements
    odd = PrunedChannel(3, math.inf, math.nan, math.inf, 1)
    report = reports.report((replace(layer, judgements=(replace(judgement, pruned=(odd,)),)),), findings=())
    (result,) = run_of(report)["results"]
    assert (result["properties"]["score"], result["properties"]["upperBound"]) == (None, None)


def test_a_finding_that_only_says_that_nothing_is_known_is_a_note() -> None:
    found = (Finding(INCONCLUSIVE, "fc", "cannot be judged: 2 classes"), Finding("calibration", "fc", "z"))
    notes = run_of(reports.report(findings=found))["invocations"][0]["toolExecutionNotifications"]
    assert [note["level"] for note in notes if "fc" in note["message"]["text"]] == ["note", "warning"]
