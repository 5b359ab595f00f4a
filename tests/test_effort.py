"""How far a run goes by itself: what each effort does, what it leaves, and that the report says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_clp.cli.arguments import parse
from onnx_clp.config import CleanConfig
from onnx_clp.document.evidence import Outlook
from onnx_clp.document.run import Decision
from onnx_clp.errors import UsageError
from onnx_clp.inversion import finding
from onnx_clp.report import deciding
from onnx_clp.run.effort import (
    LEAST_CLASSES,
    NO_SEARCH,
    Searched,
    audits,
    caps_wanted,
    decisions,
    lenient,
    search_plan,
    thoroughly,
)
from onnx_clp.run.pipeline import clean
from tests import planted
from tests.reports import report

SUSPICIOUS = "class 3 stands out"


def steps(config: CleanConfig, **given: Any) -> dict[str, Decision]:
    facts = {"evidence": "", "searched": NO_SEARCH, "path": False, "capped": 0, "ahead": Outlook(cappable=4), **given}
    return {one.step: one for one in decisions(config, **facts)}


def test_without_being_asked_only_high_effort_searches_and_audits_thoroughly() -> None:
    low, normal, high = (CleanConfig(effort=effort) for effort in ("low", "normal", "high"))
    assert search_plan(low) is search_plan(normal) is None
    assert (audits(low), thoroughly(low)) == (False, False)
    assert (audits(normal), thoroughly(normal)) == (True, False)
    assert (audits(high), thoroughly(high)) == (True, True)
    plan = search_plan(high)
    assert plan is not None
    assert (plan.invert, plan.repair, plan.seconds) == (True, True, 300.0)
    assert audits(high)


def test_what_is_asked_for_by_name_is_done_at_any_effort() -> None:
    plan = search_plan(CleanConfig(effort="low", invert=True, search_seconds=7.0))
    assert plan is not None
    assert (plan.invert, plan.repair, plan.seconds) == (True, False, 7.0)
    assert thoroughly(CleanConfig(effort="low", audit=True))
    assert not audits(CleanConfig(validate=False))
    assert not audits(CleanConfig(budget=1.0))
    assert caps_wanted(CleanConfig(effort="low", bound_activations=2.5), "", NO_SEARCH, False) == 2.5


def test_a_search_that_nobody_named_takes_models_among_whose_classes_one_can_stand_out() -> None:
    unasked, named = search_plan(CleanConfig(effort="high")), search_plan(CleanConfig(effort="high", invert=True))
    assert unasked is not None
    assert unasked.least_classes == LEAST_CLASSES == finding.LEAST_CLASSES
    assert named is not None
    assert named.least_classes == 2


def test_only_folding_searches_without_repairing() -> None:
    plan = search_plan(CleanConfig(effort="high", prune=False))
    assert plan is not None
    assert (plan.invert, plan.repair) == (True, False)


def test_a_search_that_nobody_named_never_refuses_a_model() -> None:
    assert lenient(CleanConfig(effort="high"))
    assert not lenient(CleanConfig(effort="high", invert=True))
    assert lenient(CleanConfig(invert=True, skip_unsearchable=True))


@pytest.mark.parametrize(
    ("options", "evidence", "searched", "path", "times"),
    [
        ({}, "", NO_SEARCH, False, None),
        ({}, SUSPICIOUS, NO_SEARCH, False, 0.0),
        ({}, SUSPICIOUS, Searched(undone=True), False, None),
        ({}, SUSPICIOUS, NO_SEARCH, True, None),
        ({"prune": False}, SUSPICIOUS, NO_SEARCH, False, None),
        ({"effort": "high"}, "", NO_SEARCH, False, 0.0),
        ({"effort": "high", "budget": 1.0}, "", NO_SEARCH, False, None),
        ({"effort": "high"}, "", Searched(undone=True), False, None),
    ],
)
def test_caps_go_in_where_something_justifies_them(
    options: dict[str, Any], evidence: str, searched: Searched, path: bool, times: float | None
) -> None:
    assert caps_wanted(CleanConfig(**options), evidence, searched, path) == times


def test_every_step_says_why_it_was_taken_or_left() -> None:
    plain = steps(CleanConfig())
    assert [one.taken for one in plain.values()] == [True, False, True, False]
    assert "--effort high" in plain["search"].reason
    high = steps(CleanConfig(effort="high"), capped=2)
    assert all(one.taken for one in high.values())
    assert steps(CleanConfig(), evidence=SUSPICIOUS, capped=2)["caps"] == Decision(
        "caps", True, "the file is suspicious"
    )
    undone = steps(CleanConfig(effort="high"), searched=Searched(undone=True))["caps"]
    assert not undone.taken
    assert "undone" in undone.reason
    bare = steps(CleanConfig(), evidence=SUSPICIOUS, ahead=Outlook())["caps"]
    assert not bare.taken
    assert "statistics" in bare.reason
    assert "budget" in steps(CleanConfig(), evidence=SUSPICIOUS)["caps"].reason
    assert "budget of 1" in steps(CleanConfig(budget=1.0), evidence=SUSPICIOUS)["caps"].reason
    failed = steps(CleanConfig(effort="high"), searched=Searched(trouble="no list of class scores"))["search"]
    assert failed == Decision("search", False, "no list of class scores")
    kept = steps(CleanConfig(prune=False), evidence=SUSPICIOUS, path=False)["caps"]
    assert kept == Decision("caps", False, "not asked for")
    assert steps(CleanConfig(effort="low"))["audit"].reason == "only with --effort normal or high"
    assert steps(CleanConfig(budget=1.0))["audit"].reason == "only with --effort high"
    assert steps(CleanConfig(effort="low", budget=1.0))["audit"].reason == "only with --effort high"
    blind = steps(CleanConfig(validate=False))
    assert (blind["prune"].reason, blind["audit"].reason) == ("all that stands out", "nothing may run the model")
    assert steps(CleanConfig(budget=0.5))["prune"].reason == "as far as the budget allows"


def test_the_report_names_steps_with_the_same_reason_together() -> None:
    given = (Decision("prune", True, "a"), Decision("caps", False, "b"), Decision("audit", False, "b"))
    assert list(deciding.rows(report(decisions=given))) == ["prune: a", "no caps or audit: b"]


def test_effort_is_an_option_and_high_effort_needs_the_runtime() -> None:
    assert parse(["m.onnx", "--no-config"]).config.effort == "normal"
    assert parse(["m.onnx", "--effort", "high", "--no-config"]).config.effort == "high"
    with pytest.raises(UsageError, match="--effort high"):
        CleanConfig(effort="high", validate=False)


@pytest.mark.slow
def test_high_effort_takes_every_step_in_one_run_and_spends_one_budget(tmp_path: Path) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "in.onnx")
    np.savez(tmp_path / "images.npz", images=planted.pictures())
    config = CleanConfig(effort="high", images=tmp_path / "images.npz", budget=0.5, provider="cpu")
    found = clean(tmp_path / "in.onnx", config).report
    assert found.inversion is not None
    assert found.inversion.repair is not None
    assert found.inversion.repair.flip < 0.1 < found.inversion.repair.flip_before
    assert found.audit is not None
    taken = {one.step: one.taken for one in found.decisions}
    assert taken == {"prune": True, "caps": found.inversion.repair.stands_out, "audit": True, "search": True}
