"""The verdict: which evidence gives which, in both directions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from onnx_clp.document.assessment import CHANNELS, MEASURED, TABLE, TRIGGER, assess, weight
from onnx_clp.document.run import (
    ClassInversion,
    EvaluationReport,
    Finding,
    Inversion,
    Rates,
    Report,
    SearchImages,
    Verdict,
)
from onnx_clp.report import terminal, wording
from onnx_clp.verdicts import LayerStatus
from tests import reports

QUIET = (reports.layer("b"),)
LOUD = (reports.layer("a", outliers=2),)
NOBODY = (reports.unjudged("c", LayerStatus.TOO_SMALL),)
FINDINGS = sorted(kind for kind in TABLE if kind not in (TRIGGER, MEASURED, CHANNELS))


def search(likely: int | None, classes: int = 10) -> Inversion:
    images = SearchImages("statistics", 60, 5, 0.1, 0.9, ())
    results = tuple(ClassInversion(at, 1.0, ()) for at in range(classes))
    return Inversion("CPUExecutionProvider", classes, images, results, likely, "what was found", None, "", 0)


def measured(asr: float | None, acc: float | None = 0.9) -> EvaluationReport:
    return EvaluationReport("d.npz", 100, 90, Rates(acc, asr, 0.0), Rates(acc, 0.0, 0.9))


def verdict(report: Report) -> Verdict:
    return report.summary.verdict


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_finding_gives_what_the_table_says_and_without_it_there_is_nothing(kind: str) -> None:
    found = reports.report(QUIET, findings=(Finding(kind, "somewhere", "a sentence", 3),))
    wanted = TABLE[kind]
    assert verdict(found) is (wanted or Verdict.NOTHING_FOUND)
    assert [(e.kind, e.verdict, e.where, e.target) for e in found.evidence] == (
        [] if wanted is None else [(kind, wanted, "somewhere", 3)]
    )
    without = reports.report(QUIET, findings=())
    assert verdict(without) is Verdict.NOTHING_FOUND
    assert without.evidence == ()


@pytest.mark.parametrize("kind", [kind for kind in FINDINGS if TABLE[kind] is None])
def test_a_finding_on_the_run_does_not_turn_an_unjudged_file_into_a_judged_one(kind: str) -> None:
    found = reports.report(NOBODY, findings=(Finding(kind, "", "a sentence"),))
    assert verdict(found) is Verdict.COULD_NOT_JUDGE


def test_a_finding_of_a_kind_without_a_row_is_unusual() -> None:
    found = reports.report(QUIET, findings=(Finding("never heard of", "x", "y"),))
    assert verdict(found) is weight("never heard of") is Verdict.UNUSUAL


def test_every_kind_of_finding_in_the_package_has_a_row() -> None:
    root = Path(wording.__file__).parent.parent
    texts = [path.read_text(encoding="utf-8") for path in root.rglob("*.py")]
    kinds = {kind for text in texts for kind in re.findall(r'(?:Finding|_finding)\(\s*"([^"]+)"', text)}
    assert len(kinds) > 8
    assert kinds <= set(TABLE)


@pytest.mark.parametrize(("likely", "wanted"), [(3, Verdict.SUSPICIOUS), (None, Verdict.NOTHING_FOUND)])
def test_a_search_that_names_a_class_is_suspicious_and_one_that_names_none_found_nothing(
    likely: int | None, wanted: Verdict
) -> None:
    for layers in (QUIET, NOBODY):
        found = reports.report(layers, findings=(), inversion=search(likely))
        assert verdict(found) is wanted
        assert [(e.kind, e.target) for e in found.evidence] == ([] if likely is None else [(TRIGGER, likely)])


def test_a_search_without_classes_to_compare_judges_nothing() -> None:
    assert verdict(reports.report(NOBODY, findings=(), inversion=search(None, 0))) is Verdict.COULD_NOT_JUDGE


@pytest.mark.parametrize(
    ("asr", "acc", "wanted"),
    [
        (1.0, 0.9, Verdict.SUSPICIOUS),
        (0.5, 0.9, Verdict.SUSPICIOUS),
        (0.49, 0.9, Verdict.NOTHING_FOUND),
        (0.6, 0.3, Verdict.NOTHING_FOUND),
        (None, 0.9, Verdict.NOTHING_FOUND),
        (0.9, None, Verdict.SUSPICIOUS),
    ],
)
def test_a_trigger_that_was_supplied_counts_where_it_works_on_the_input(
    asr: float | None, acc: float | None, wanted: Verdict
) -> None:
    assert verdict(reports.report(QUIET, findings=(), evaluation=measured(asr, acc))) is wanted


def test_channels_are_unusual_and_nothing_worse() -> None:
    found = reports.report(LOUD, findings=())
    assert verdict(found) is Verdict.UNUSUAL
    (one,) = found.evidence
    assert (one.kind, one.where, one.target) == (CHANNELS, "a", None)
    assert one.sentence.startswith("channels 3, 10 of 64: 2 beyond the limit, highest z ")


def test_nobody_judged_and_nothing_found_could_not_be_judged() -> None:
    for layers in ((), NOBODY):
        assert verdict(reports.report(layers, findings=())) is Verdict.COULD_NOT_JUDGE


def test_evidence_outweighs_that_nothing_could_be_judged() -> None:
    named = Finding("gate", "/Mul", "a gate", 2)
    assert verdict(reports.report(NOBODY, findings=(named,))) is Verdict.SUSPICIOUS


def test_the_strongest_evidence_comes_first_whatever_the_order_it_was_found_in() -> None:
    findings = tuple(Finding(kind, "x", "y", 1) for kind in reversed(FINDINGS))
    found = reports.report(LOUD, findings=findings, inversion=search(4), evaluation=measured(1.0))
    kinds = [one.kind for one in found.evidence]
    assert kinds == [kind for kind in TABLE if TABLE[kind] is not None]
    given = [one.verdict for one in found.evidence]
    assert given == sorted(given, key=list(Verdict).index)


def test_what_was_looked_at_is_said_with_nothing_found() -> None:
    made = reports.report(QUIET, findings=(), inversion=search(None), evaluation=measured(0.1))
    made = assess(replace(made, summary=replace(made.summary, classes_judged=10)))
    assert made.looked_at == (
        "64 channels in 1 layer",
        "the 10 classes of the last layer",
        "branches and comparisons in the graph",
        "triggers towards 10 of 10 classes on 60 images",
        "the trigger in the images supplied",
    )
    assert wording.headline(made).startswith("nothing found in 64 channels in 1 layer, the 10 classes")
    plain = reports.report(NOBODY, findings=())
    assert plain.looked_at == ("branches and comparisons in the graph",)


def test_assessing_twice_is_assessing_once() -> None:
    report = reports.report(LOUD, inversion=search(3))
    assert assess(report) == report


def test_no_verdict_word_promises_anything() -> None:
    assert {"clean", "safe", "secure", "harmless"}.isdisjoint(" ".join(Verdict).split())


def test_the_terminal_gives_evidence_before_figures() -> None:
    text = terminal.render(reports.report(LOUD, findings=(Finding("path", "/conv1", "a thin path", 2),)))
    assert text.index("suspicious: a path of few channels towards") < text.index("evidence") < text.index("  rule  ")
    assert "  findings" not in text
