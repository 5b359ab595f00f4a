"""Input and cleaned model on CPU and GPU, a second CPU session standing in for the GPU's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnx_clp.config import Provider, RunLimits
from onnx_clp.document.run import EngineFacts, ProviderRun, ValidationReport
from onnx_clp.errors import UsageError
from onnx_clp.process.codec import decode, encode
from onnx_clp.report import engines, html, terminal
from onnx_clp.validation import Request, comparison, validate
from onnx_clp.validation.compare import TOLERANCES, tolerance_for
from onnx_clp.validation.device import Gpu
from onnx_clp.validation.measuring import measure_original
from onnx_clp.validation.placement import note_of, really_ran
from onnx_clp.validation.plan import AS_DEPLOYED, Plan
from onnx_clp.validation.proof import prove
from onnx_clp.validation.provider import CPU, CUDA, TENSORRT, Engine, cpu_engine
from onnx_clp.validation.request import Outcome
from onnx_clp.validation.session import FailureKind, Feeds, OrtRunner, Outputs, RunError, Runner
from onnx_clp.validation.terms import settle_terms
from tests import reports
from tests.validation_models import MEMORY, network, save

GPU = Gpu("NVIDIA Test", "13.0", "580.65")
RIVAL = Engine((CUDA, CPU), "9.9", f"on {GPU}", gpu=GPU, runtime="onnxruntime-gpu 9.9 for CUDA 13.0")
NO_RIVAL = Engine((CPU,), "9.9", "on the CPU: no GPU here", overruled="no GPU here")


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    original = save(network(folded=False), tmp_path / "original.onnx")
    return Request(original=original, folded=save(network(folded=True), tmp_path / "f.onnx"), final=None)


def stand_in(monkeypatch: pytest.MonkeyPatch, scale: float = 1.0, failure: FailureKind | None = None) -> None:
    """GPU sessions run on the CPU, bound, with outputs multiplied by `scale`, or fail to open."""

    class Other(OrtRunner):
        def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
            return {name: array * np.float32(scale) for name, array in super().run(feeds, wanted).items()}

    def open_runner(path: Path, engine: Engine, plan: Plan) -> Runner:
        assert plan == AS_DEPLOYED
        if not engine.on_gpu:
            return OrtRunner(path, engine, plan)
        if failure is not None:
            raise RunError(failure, "the device said no")
        return Other(path, cpu_engine(), plan, bound=True)

    monkeypatch.setattr(comparison, "open_runner", open_runner)


def table(request: Request, rival: Engine) -> Outcome:
    outcome = prove(request, cpu_engine(), MEMORY, rival)
    assert decode(Outcome, encode(outcome)) == outcome
    return outcome


def rows(outcome: Outcome) -> list[ProviderRun]:
    assert outcome.validation.comparison is not None
    return list(outcome.validation.comparison.runs)


def test_the_four_are_set_side_by_side(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    stand_in(monkeypatch, scale=1.01)
    found = table(request_, RIVAL)
    runs = rows(found)
    assert [(r.model, r.provider) for r in runs] == [
        ("input", CPU),
        ("cleaned", CPU),
        ("input", CUDA),
        ("cleaned", CUDA),
    ]
    assert [r.error for r in runs[:2]] == [None, None]
    assert [r.error for r in runs[2:]] == pytest.approx([0.01, 0.01], rel=1e-3)
    for run in runs:
        assert run.load_seconds is not None
        assert run.run_seconds is not None
        assert 0 < run.run_seconds < 1
        assert run.failure == ""
    assert found.validation.comparison is not None
    assert found.validation.comparison.note == ""


def test_without_a_gpu_the_two_are_shown_and_the_reason(request_: Request) -> None:
    found = table(request_, NO_RIVAL)
    assert [(r.model, r.provider) for r in rows(found)] == [("input", CPU), ("cleaned", CPU)]
    assert found.validation.comparison is not None
    assert found.validation.comparison.note == "only the CPU is shown: no GPU here"


def test_a_provider_that_does_not_run_the_model_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch, request_: Request
) -> None:
    stand_in(monkeypatch, failure=FailureKind.REFUSED)
    failed = rows(table(request_, RIVAL))[2:]
    assert {r.failure for r in failed} == {"the device said no"}
    assert {(r.run_seconds, r.load_seconds, r.error) for r in failed} == {(None, None, None)}


def test_no_memory_for_the_comparison_is_not_hidden(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    stand_in(monkeypatch, failure=FailureKind.MEMORY)
    with pytest.raises(MemoryError, match="the device said no"):
        table(request_, RIVAL)


def test_rates_stand_in_every_row(monkeypatch: pytest.MonkeyPatch, request_: Request, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
    y = np.zeros(6, np.int64)
    np.savez(tmp_path / "e.npz", x_clean=x, y_clean=y, x_triggered=x, y_target=1, y_true_triggered=y)
    stand_in(monkeypatch)
    runs = rows(table(replace(request_, eval_data=tmp_path / "e.npz"), RIVAL))
    assert all(run.rates is not None and run.rates == runs[0].rates for run in runs)


def test_nothing_is_compared_unasked(request_: Request) -> None:
    assert prove(request_, cpu_engine(), MEMORY).validation.comparison is None


def test_the_child_compares_when_asked(request_: Request) -> None:
    found = validate(replace(request_, limits=RunLimits(provider="cpu"), compare_providers=True)).validation
    assert found.comparison is not None
    assert [r.model for r in found.comparison.runs][:2] == ["input", "cleaned"]
    assert bool(found.comparison.note) == (len(found.comparison.runs) == 2)


# --- which provider took the nodes --------------------------------------------------------------------


def placed(request: Request, counts: dict[str, int], engine: Engine = RIVAL) -> tuple[EngineFacts, str]:
    terms, original = measure_original(settle_terms(request, cpu_engine(), MEMORY))
    original.placed = counts
    terms = replace(terms, engine=engine)
    facts = really_ran(terms, original)
    return facts, note_of(terms, facts)


def test_nodes_on_the_gpu_are_counted(request_: Request) -> None:
    facts, note = placed(request_, {CUDA: 5, CPU: 1})
    assert (facts.device, facts.driver, facts.overruled) == ("NVIDIA Test", "580.65, CUDA 13.0", "")
    assert note == "on NVIDIA Test (driver 580.65, CUDA 13.0); 5 of 6 nodes on CUDA"
    assert placed(request_, {})[1] == RIVAL.note


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_named_provider_that_takes_no_node_is_an_error(request_: Request, provider: Provider) -> None:
    with pytest.raises(UsageError, match=rf"--provider {provider}: CUDA took none of the model's nodes, CPU ran them"):
        placed(replace(request_, limits=RunLimits(provider=provider)), {CPU: 6})


def test_auto_says_that_the_cpu_ran_everything(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    from onnx_clp.validation import terms

    class Idle(OrtRunner):
        def __init__(self, path: Path, *_: object, **__: object) -> None:
            super().__init__(path, cpu_engine(), Plan())
            self.provider = CUDA

    monkeypatch.setattr(terms, "open_runner", lambda path, *_, **__: Idle(path))
    report = prove(request_, RIVAL, MEMORY).validation
    assert (report.outcome, report.provider_used) == ("validated on a fallback", CPU)
    assert report.engine is not None
    assert "took none of the model's nodes" in report.engine.overruled


# --- tolerances ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_gpu_is_allowed_no_less_than_the_cpu_and_little_more(precision: str) -> None:
    assert tolerance_for(precision, CPU) == TOLERANCES[precision]
    for provider in (CUDA, TENSORRT):
        assert 1 <= tolerance_for(precision, provider) / TOLERANCES[precision] <= 10


def test_the_tolerance_is_that_of_where_it_runs(request_: Request) -> None:
    assert settle_terms(request_, RIVAL, MEMORY).tolerance == tolerance_for("float32", CUDA)
    assert settle_terms(request_, cpu_engine(), MEMORY).tolerance == TOLERANCES["float32"]
    own = replace(request_, tolerance=0.5)
    assert settle_terms(own, RIVAL, MEMORY).tolerance == 0.5


# --- what the views show ------------------------------------------------------------------------------


def shown(comparison_of: ValidationReport) -> list[str]:
    return list(engines.table(reports.report(validation=comparison_of)))


def test_the_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    stand_in(monkeypatch, scale=1.01)
    lines = shown(table(request_, RIVAL).validation)
    assert len(lines) == 5
    assert max(map(len, lines)) <= 65
    assert lines[3].split()[:2] == ["input", "CUDA"]
    assert lines[3].split()[-1] == "1.0e-02"
    report = reports.report(validation=table(request_, RIVAL).validation)
    assert "  providers   model   provider" in terminal.render(report)
    page = html.render(report)
    assert page.count("<td>CUDA</td>") == 2
    assert 'id="providers"' not in html.render(reports.report())


def test_what_it_ran_on_is_described(request_: Request) -> None:
    facts, _ = placed(request_, {CUDA: 6})
    report = reports.report(validation=replace(reports.report().validation, engine=facts))
    line = "onnxruntime-gpu 9.9 for CUDA 13.0 on NVIDIA Test, driver 580.65, CUDA 13.0"
    assert engines.described(report) == line
    flat = " ".join(terminal.render(report, verbose=True).split())
    assert line in flat
    assert line not in " ".join(terminal.render(report).split())


@pytest.mark.parametrize("why", ["", "no NVIDIA GPU answers here"])
def test_a_fallback_is_one_line(why: str) -> None:
    facts = EngineFacts("onnxruntime-gpu 9.9", "CPU", "", {}, why)
    line = engines.overruled(reports.report(validation=replace(reports.report().validation, engine=facts)))
    assert bool(line) == bool(why)
    assert "\n" not in line
    assert why in line
    assert engines.overruled(reports.report()) == ""
