"""The rule of a run, from the option to every view of the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_clp.cli.arguments import parse
from onnx_clp.config import CleanConfig, Rule
from onnx_clp.document.run import Judgement, LayerReport, Report
from onnx_clp.errors import UsageError
from onnx_clp.report import advice, html, ruling, sarif, terminal, wording
from onnx_clp.verdicts import LayerStatus
from tests import reports
from tests.judging import cleaned, network
from tests.test_prune_channels import CONV, END, NORM, only, statistics

RULES: tuple[Rule, ...] = ("paper", "gain", "loo", "mad", "two-sided")


def run(scores: np.ndarray[Any, Any], rule: str, **options: Any) -> Report:
    """A run on a layer whose channels have these scores (and 1 for each reader)."""
    channels = len(scores)
    w = np.zeros((channels, 3, 1, 1), np.float32)
    w[:, 0, 0, 0] = scores
    w2 = np.ones((4, channels, 1, 1), np.float32)
    body = "c = Conv(x, w) a = Relu(c) y = Conv(a, w2)"
    proto = network(body, channels=channels, w=w, w2=w2)
    return cleaned(proto, rule=rule, include=("c",), **options).report


def first(report: Report) -> tuple[LayerReport, Judgement]:
    return report.layers[0], report.layers[0].judgements[0]


def test_the_paper_is_the_default() -> None:
    assert parse(["m.onnx"]).config.rule == CleanConfig().rule == "paper"
    assert parse(["m.onnx", "--rule", "two-sided"]).config.rule == "two-sided"


def test_exact_is_the_papers_rule_on_the_exact_norm() -> None:
    assert CleanConfig(rule="exact") == CleanConfig(bound="exact")
    assert parse(["m.onnx", "--rule", "exact"]).config == parse(["m.onnx", "--bound", "exact"]).config
    assert CleanConfig(rule="loo", bound="exact").rule == "loo"
    proto = network(CONV + NORM + END, **statistics(12))
    alias, spelt = cleaned(proto, rule="exact"), cleaned(proto, bound="exact")
    assert only(alias).judgements == only(spelt).judgements
    assert only(alias).judgements[0].scores != only(cleaned(proto)).judgements[0].scores


def test_the_bound_is_free_to_choose_with_every_rule() -> None:
    proto = network(CONV + NORM + END, **statistics(12))
    for rule in RULES:
        plain, exact = only(cleaned(proto, rule=rule)), only(cleaned(proto, rule=rule, bound="exact"))
        assert plain.judgements[0].rule == exact.judgements[0].rule == rule
        assert plain.judgements[0].scores != exact.judgements[0].scores


def test_an_unknown_rule_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"rule must be one of paper, .*, not 'best'"):
        CleanConfig(rule="best")
    with pytest.raises(UsageError, match="--rule"):
        parse(["m.onnx", "--rule", "best"])


def test_a_configuration_file_may_choose_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text('[tool.onnx-clp]\nrule = "mad"\n', encoding="utf-8")
    assert parse(["m.onnx"]).config.rule == "mad"
    assert parse(["m.onnx", "--rule", "loo"]).config.rule == "loo"
    Path("pyproject.toml").write_text('[tool.onnx-clp]\nrule = "best"\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"pyproject\.toml.*--rule"):
        parse(["m.onnx"])


EIGHT = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 50.0])


@pytest.mark.parametrize(("rule", "found"), [("paper", ()), ("loo", (7,)), ("mad", (7,)), ("two-sided", ())])
def test_eight_channels_are_enough_for_some_rules(rule: str, found: tuple[int, ...]) -> None:
    report = run(EIGHT, rule)
    layer, _ = first(report)
    assert layer.status is (LayerStatus.JUDGED if found else LayerStatus.TOO_SMALL)
    assert layer.pruned == found
    assert ("2.47 std" in layer.reason) is not bool(found)


def test_seven_are_not_and_the_next_step_says_what_to_do() -> None:
    report = run(EIGHT[1:], "loo")
    assert first(report)[0].status is LayerStatus.TOO_SMALL
    assert first(report)[0].reason == "7 channels are too few for rule loo, which needs 8"
    assert advice.steps(report)[0].sentence == (
        "too few channels for this rule; --rule paper can judge 7 with a -u below 2.27"
    )


LOW = np.r_[np.linspace(9.5, 10.5, 60), 0.5, 0.0]


def test_a_low_channel_is_switched_off_and_a_dead_one_is_not() -> None:
    layer, judgement = first(run(LOW, "two-sided"))
    assert layer.pruned == (60,)
    (channel,) = judgement.pruned
    assert (channel.rank, channel.z < -3) == (61, True)
    assert judgement.lower is not None
    assert layer.max_z == pytest.approx(-channel.z)
    assert first(run(LOW, "paper"))[0].pruned == ()


def test_a_dead_channel_keeps_the_constant_it_gives() -> None:
    """Its weight is 0 already; to switch it off would take its bias too."""
    w = np.full((40, 3, 1, 1), 1.0, np.float32) * np.linspace(0.95, 1.05, 40, dtype=np.float32).reshape(-1, 1, 1, 1)
    w[3], w[9] = 0, 1e-2
    body, bias = "c = Conv(x, w, b) a = Relu(c) y = Conv(a, w2)", np.full(40, 2.0, np.float32)
    proto = network(body, channels=40, w=w, b=bias, w2=np.ones((4, 40, 1, 1), np.float32))
    result = cleaned(proto, rule="two-sided", include=("c",))
    assert only(result).pruned == (9,)
    from tests.judging import exposed

    values = exposed(result.model, "c")["c"]
    assert (values[:, 3] == 2).all()
    assert (values[:, 9] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_every_view_names_the_rule(rule: str) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    scores = np.r_[np.linspace(9.5, 10.5, 60), 0.5, 20.0]
    report = run(scores, rule, sweep=(3.0, 4.0))
    assert f"(rule {rule})" in " ".join(terminal.render(report).split())
    assert f"threshold: {ruling.limit(report)}" in html.render(report)
    assert f"by rule {rule}." in html.render(report)
    assert json.loads(report.to_json())["layers"][0]["judgements"][0]["rule"] == rule
    assert json.loads(report.to_json())["options"]["rule"] == rule
    (found,) = json.loads(sarif.render(report))["runs"]
    assert found["properties"]["limit"] == ruling.limit(report)
    assert found["results"]
    for result in found["results"]:
        assert f"(rule {rule}, threshold" in result["message"]["text"]
        assert result["properties"]["rule"] == rule


WORDS = [
    ("paper", "standard deviations above the layer's mean"),
    ("loo", "standard deviations of the other channels above their mean"),
    ("mad", "median absolute deviations (times 1.4826) above the layer's median"),
    ("two-sided", "standard deviations below the layer's mean"),
]


@pytest.mark.parametrize(("rule", "words"), WORDS)
def test_a_distance_is_told_in_the_rules_own_measure(rule: str, words: str) -> None:
    scores = np.r_[np.linspace(9.5, 10.5, 60), 0.5 if rule == "two-sided" else 20.0]
    _, judgement = first(run(scores, rule))
    (channel,) = judgement.pruned
    assert ruling.distance(judgement, channel) == f"{abs(channel.z):.2f} {words}"
    assert ruling.passed(judgement, channel) == (judgement.lower if channel.z < 0 else judgement.threshold)
    assert (channel.score < judgement.lower) if judgement.lower else (channel.score > judgement.threshold)


def test_the_table_shows_what_the_rule_measures_from() -> None:
    report = run(EIGHT, "mad")
    _, judgement = first(report)
    text = terminal.render(report)
    assert "median 1.48 MAD    limit" in text
    assert f"{wording.number(judgement.centre):>8}" in text
    assert judgement.centre == pytest.approx(float(np.median(EIGHT)), rel=1e-6)
    assert judgement.mean == pytest.approx(float(EIGHT.mean()), rel=1e-6)
    assert "mean      std    limit" in terminal.render(run(np.r_[EIGHT, EIGHT], "loo"))


def test_a_sweep_counts_by_the_rule() -> None:
    scores = np.r_[np.linspace(9.5, 10.5, 60), 0.5, 20.0]
    counts = {rule: [p.channels for p in _points(run(scores, rule, sweep=(1.0, 3.0, 30.0)))] for rule in RULES}
    assert counts["two-sided"][1] == counts["paper"][1] + 1
    for rule in RULES:
        marked = [len(run(scores, rule, u=u).layers[0].pruned) for u in (1.0, 3.0, 30.0)]
        assert counts[rule] == marked


def _points(report: Report) -> tuple[Any, ...]:
    assert report.sweep is not None
    return report.sweep.points


def test_a_report_that_names_no_rule_is_the_papers() -> None:
    report = reports.report()
    assert ruling.limit(report) == "mean + 3 std (rule paper)"
    assert (
        ruling.limit(replace(report, options={"u": 2.5, "bound": "exact"})) == "mean + 2.5 std (rule paper, exact norm)"
    )
