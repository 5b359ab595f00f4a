"""The library's face: short looks, notebooks, scores and searches, many models, rules of one's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onnx_clp
from onnx_clp import config as configuration
from onnx_clp.config import CleanConfig
from onnx_clp.document.run import Finding
from onnx_clp.errors import UsageError
from onnx_clp.numerics.outliers import find_outliers, too_few
from onnx_clp.report import notebook, ruling
from tests import reports
from tests.batches import model, put

QUICK = CleanConfig(validate=False)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "_own_rules", {})


# --- looks ------------------------------------------------------------------------------------------------


def test_a_result_and_its_report_are_one_short_line() -> None:
    with onnx_clp.clean(model(outlier=True), QUICK) as result:
        assert repr(result.report) == "<Report unusual: a model in memory, 1 pieces of evidence, 1 layers>"
        assert repr(result).startswith("<CleanResult unusual, open: <Report ")
    assert ", closed: " in repr(result)
    assert repr(reports.report()).startswith("<Report unusual: in.onnx > out.onnx, ")


def test_a_notebook_shows_the_verdict_and_what_to_do_next() -> None:
    with onnx_clp.clean(model(outlier=True), QUICK) as result:
        html = result._repr_html_()
    assert re.match(r"<div><p><b style=[^>]+>unusual</b>: 1 of 16 channels stand out", html)
    named = reports.report(findings=(Finding("gate", "<script>", "<b>x</b>", 3),))
    html = named._repr_html_()
    assert "suspicious" in html
    assert "<script" not in html
    assert "<code>onnx-clp " in html
    assert len(reports.hostile()._repr_html_()) < 5_000


def test_a_result_is_a_page() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    with onnx_clp.clean(model(outlier=True), QUICK) as result:
        assert result.to_html() == result.report.to_html()
        assert result.to_html().startswith("<!doctype html>")


def test_every_scored_channel_is_a_row() -> None:
    report = reports.report((reports.layer("a", 16, 2, kept=1), reports.layer("b", 64)))
    rows = [dict(zip(notebook.COLUMNS, row, strict=True)) for row in notebook.rows(report)]
    assert [(row["layer"], row["channel"]) for row in rows] == [("a", c) for c in range(16)] + [
        ("b", c) for c in range(64)
    ]
    out = {row["channel"]: row["kept"] for row in rows if row["stands_out"]}
    assert out == {p.channel: p.kept for j in report.layers[0].judgements for p in j.pruned}
    for row in rows:
        assert (row["score"] > row["threshold"]) == row["stands_out"]
    (judgement,) = report.layers[0].judgements
    part = replace(judgement, first=16, pruned=())
    moved = reports.report((reports.layer("a", 32, judgements=(part,)),))
    assert [row[3] for row in notebook.rows(moved)] == list(range(16, 32))


def test_a_frame_needs_pandas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install pandas"):
        reports.report().to_frame()


def test_a_frame_holds_the_rows() -> None:
    pytest.importorskip("pandas")
    report = reports.report()
    frame = report.to_frame()
    assert list(frame.columns) == list(notebook.COLUMNS)
    assert len(frame) == len(list(notebook.rows(report)))


# --- runs -------------------------------------------------------------------------------------------------


def test_progress_is_heard() -> None:
    heard: list[onnx_clp.Progress] = []
    onnx_clp.clean(model(), QUICK, progress=heard.append).close()
    assert {"read", "analyse", "score"} <= {one.stage for one in heard}
    assert all(0 <= one.done <= one.total for one in heard)


def test_scoring_changes_and_runs_nothing() -> None:
    made = model(outlier=True)
    before = made.SerializeToString()
    report = onnx_clp.score(made, CleanConfig(u=2.5, compact=True, bound_activations=2.5))
    assert made.SerializeToString() == before
    assert report.layers[0].pruned == (5,)
    assert report.layers[0].kept == ()
    assert (report.validation.outcome, report.caps, report.compaction) == ("not asked for", None, None)
    assert report.summary.verdict is onnx_clp.Verdict.UNUSUAL
    assert onnx_clp.score(model()).summary.verdict is onnx_clp.Verdict.NOTHING_FOUND


def test_a_search_says_what_it_cannot_search() -> None:
    with pytest.raises(UsageError, match="class scores"):
        onnx_clp.search(model())
    report = onnx_clp.search(model(), CleanConfig(skip_unsearchable=True))
    assert [one.kind for one in report.findings] == ["search not done"]


def test_many_models_come_back_as_records_the_worst_first(tmp_path: Path) -> None:
    for at in range(2):
        put(tmp_path / "in" / f"{at}.onnx", at, outlier=at == 1)
    (tmp_path / "in" / "broken.onnx").write_bytes(b"\x08\x08\x3a\xff")
    records = onnx_clp.clean_batch(tmp_path / "in", tmp_path / "out", replace(QUICK, u=2.5), jobs=2)
    assert [(r.name, r.verdict, r.exit_code) for r in records] == [
        ("broken.onnx", "", 2),
        ("1.onnx", "unusual", 0),
        ("0.onnx", "nothing found", 0),
    ]
    assert (tmp_path / "out" / "1.onnx").exists()
    dry = onnx_clp.clean_batch(tmp_path / "in", tmp_path / "dry", QUICK, write=False, jobs=2)
    assert len(dry) == 3
    assert not (tmp_path / "dry" / "1.onnx").exists()


# --- rules of one's own -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("registry")
def test_a_registered_rule_decides_what_stands_out() -> None:
    seen: list[tuple[int, float]] = []

    def half(scores: np.ndarray, u: float) -> float:
        seen.append((len(scores), u))
        assert scores.max() == 1
        scores[:] = 0  # a copy: it does no harm
        return 0.5

    onnx_clp.register_rule("half", half)
    scores = np.array([1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 1.0, 4.0, 2.5])
    found = find_outliers(scores, 2.0, "half")
    assert np.flatnonzero(found.outlying).tolist() == [7, 8]
    assert (found.rule, found.threshold) == ("half", 2.0)
    assert seen == [(9, 2.0)]
    with onnx_clp.clean(model(outlier=True), replace(QUICK, rule="half")) as result:
        assert result.report.layers[0].pruned == (5,)
        assert result.report.layers[0].judgements[0].rule == "half"
        assert ruling.limit(result.report) == "the limit of a registered rule, u = 3 (rule half)"


@pytest.mark.usefixtures("registry")
def test_a_registered_rule_judges_as_few_channels_as_the_robust_ones() -> None:
    onnx_clp.register_rule("none", lambda _, u: u)
    assert too_few(7, 3, "none")
    assert not too_few(8, 3, "none")


@pytest.mark.usefixtures("registry")
def test_what_is_no_rule_is_refused() -> None:
    for name in ("", "paper", "exact", "inverted"):
        with pytest.raises(UsageError, match="cannot be called"):
            onnx_clp.register_rule(name, lambda _, u: u)
    with pytest.raises(UsageError, match="rule must be one of"):
        CleanConfig(rule="half")
    onnx_clp.register_rule("broken", lambda _, u: u * float("nan"))
    with pytest.raises(UsageError, match="gave nan"):
        find_outliers(np.arange(9.0), 3.0, "broken")


@pytest.mark.usefixtures("registry")
def test_the_page_on_rules_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not (ROOT / "models" / "resnet18_badnets_plain.onnx").exists():
        pytest.skip("the models are not there")
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "own-rule.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code.replace("u=3.0)", "u=3.0, validate=False)"), "own-rule.md", "exec"), {})
    verdict, _, pruned = capsys.readouterr().out.strip().rpartition(" ")
    assert verdict == "suspicious"
    assert int(pruned) > 0


def test_a_look_takes_bytes_and_changes_nothing_whatever_was_asked_for() -> None:
    model = (Path(__file__).parent.parent / "models" / "resnet18_clean.onnx").read_bytes()
    report = onnx_clp.score(model, onnx_clp.CleanConfig(audit=True, effort="high", bound_activations=0.0))
    assert report.audit is None
    assert report.inversion is None
    assert report.validation.outcome == "not asked for"
    assert not any(one.taken for one in report.decisions)
