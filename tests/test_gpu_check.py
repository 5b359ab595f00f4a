"""The GPU check, rehearsed on the CPU, and what it says where it cannot run or where a provider did not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from onnx_clp.validation import compare
from onnx_clp.validation.device import find_gpu
from onnx_clp.validation.provider import CPU, CUDA, TENSORRT
from tests.validation_models import network, save
from tools.gpu import check as gpu_check
from tools.gpu.page import BEGIN, END, NOT_RUN, block, put_block

ROOT = Path(__file__).parent.parent


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "MANIFEST.json").write_text(json.dumps({"models": {}}))
    save(network(folded=False), folder / "small.onnx")
    return folder


def run(provider: str, used: str, seconds: float, error: float | None = None, failure: str = "") -> dict[str, Any]:
    done = not failure
    return {
        "model": provider,
        "provider": used,
        "load_seconds": 0.5 if done else None,
        "run_seconds": seconds if done else None,
        "error": error,
        "failure": failure,
    }


def validation(*, used: str = CUDA, took: int = 5, error: float = 1e-5, failure: str = "") -> dict[str, Any]:
    return {
        "provider_used": used,
        "note": "on a device",
        "engine": {"placed": {CUDA: took, CPU: 1}},
        "fold_error": 1e-6,
        "tolerance": 5e-4,
        "comparison": {
            "runs": [
                run("input", CPU, 0.04),
                run("cleaned", CPU, 0.03),
                run("input", CUDA, 0.002, error / 2, failure),
                run("cleaned", CUDA, 0.001, None if failure else error, failure),
            ]
        },
    }


def test_a_model_that_ran_on_the_gpu_passes_with_its_figures() -> None:
    found = gpu_check.judge("m.onnx", "cuda", validation())
    assert (found.outcome, found.reason) == ("passed", "")
    assert (found.placed, found.nodes, found.error, found.load_seconds) == (5, 6, 1e-5, 0.5)
    assert found.speed_up == pytest.approx(30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"used": CPU}, f"{CPU} ran, not {CUDA}"),
        ({"took": 0}, "took none of 1 nodes"),
        ({"error": 0.1}, "differs from the CPU by 0.1, at most 0.002"),
        ({"error": float("nan")}, "differs from the CPU by nan"),
        ({"failure": "no kernel"}, "did not run it with optimisations on: no kernel"),
    ],
)
def test_what_did_not_run_on_the_gpu_or_differs_fails(changes: dict[str, Any], words: str) -> None:
    found = gpu_check.judge("m.onnx", "cuda", validation(**changes))
    assert found.outcome == "failed"
    assert words in found.reason


def test_a_rehearsal_on_the_cpu_checks_zoo_and_corpus(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus" / "deep"
    corpus.mkdir(parents=True)
    shutil.copy(zoo / "small.onnx", corpus / "other.onnx")
    (corpus / "broken.onnx").write_bytes(b"no model")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    words = ["--provider", "cpu", "--models", str(zoo), "--corpus", str(corpus.parent), "--batch", "3"]
    status = gpu_check.main([*words, "--json", str(tmp_path / "found.json"), "--docs", str(page)])
    assert status == gpu_check.PASSED
    found = json.loads((tmp_path / "found.json").read_text())
    outcomes = {check["model"]: check["outcome"] for check in found["checks"]}
    assert outcomes == {"small.onnx": "passed", "deep/other.onnx": "passed", "deep/broken.onnx": "refused"}
    for check in found["checks"]:
        if check["outcome"] == "passed":
            assert check["provider_used"] == CPU
            assert check["run_seconds"] > 0
            assert check["fold_error"] < 1e-5
    assert found["ran_on"]["cpu"]["device"] == "CPU"
    assert page.read_text() == f"before\n{BEGIN}\n{NOT_RUN}\n{END}\nafter\n", "a rehearsal is no proof"
    assert capsys.readouterr().out.splitlines()[-1] == "3 runs: 2 passed, 0 failed, 1 refused"


def test_one_model_that_fails_makes_the_status_1(
    zoo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu_check.FULL_NAMES, "cpu", CUDA)
    assert gpu_check.main(["--provider", "cpu", "--models", str(zoo)]) == gpu_check.FAILED
    assert f"failed   cpu       small.onnx: {CPU} ran, not {CUDA}" in capsys.readouterr().out


@pytest.mark.skipif(find_gpu() is not None, reason="an NVIDIA GPU answers here")
def test_a_model_that_runs_on_the_cpu_alone_fails_and_one_that_is_no_model_is_refused(zoo: Path) -> None:
    assert gpu_check.check(gpu_check.Subject(zoo / "small.onnx", ""), "cuda", 60, 2).outcome == "failed"
    (zoo / "new.onnx").write_bytes(b"no model")
    assert gpu_check.check(gpu_check.Subject(zoo / "new.onnx", ""), "cuda", 60, 2).outcome == "refused"


@pytest.mark.skipif(find_gpu() is not None, reason="an NVIDIA GPU answers here")
@pytest.mark.parametrize("words", [[], ["--provider", "cuda"]])
def test_without_a_gpu_it_says_so_and_exits_with_3(
    zoo: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert gpu_check.main(["--models", str(zoo), *words]) == gpu_check.NO_GPU
    told = capsys.readouterr()
    assert told.out == ""
    assert "cuda is not checked: --provider cuda: " in told.err
    assert told.err.splitlines()[-1].startswith("gpu_check: nothing was checked")


def test_a_corpus_that_is_not_there_is_usage(zoo: Path, tmp_path: Path) -> None:
    words = ["--provider", "cpu", "--models", str(zoo), "--corpus", str(tmp_path / "none")]
    assert gpu_check.main(words) == gpu_check.NO_MODEL


def test_the_zoo_is_paired_with_its_images() -> None:
    found = {s.name: s.images for s in gpu_check.subjects(ROOT / "models", None)}
    assert set(found) == {path.name for path in (ROOT / "models").glob("*.onnx")}
    assert all(images is not None and images.is_file() for images in found.values())


def test_the_batch_is_said_where_it_alone_is_open(tmp_path: Path) -> None:
    path = save(network(folded=False), tmp_path / "open.onnx")
    assert list(gpu_check.shapes(path, 64)) == ["x:64,3,8,8"]
    fixed = save(network(folded=False, dims=(1, 3, 8, 8)), tmp_path / "fixed.onnx")
    assert list(gpu_check.shapes(fixed, 64)) == []
    free = save(network(folded=False, dims=("n", 3, "h", "w")), tmp_path / "free.onnx")
    assert list(gpu_check.shapes(free, 64)) == []


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_says_what_has_been_run() -> None:
    measured = ROOT / "docs" / "gpu.json"
    page: Mapping[str, Any] | None = json.loads(measured.read_text()) if measured.exists() else None
    assert block(page) in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


def test_the_page_of_a_gpu_has_a_row_for_every_check(tmp_path: Path) -> None:
    from dataclasses import asdict

    passed = gpu_check.judge("a|b.onnx", "cuda", validation())
    failed = gpu_check.judge("c.onnx", "cuda", validation(took=0))
    facts = {"runtime": "onnxruntime-gpu 9.9", "device": "NVIDIA Test", "driver": "580", "python": "3.12"}
    page = {
        "ran_on": {"cuda": facts},
        "not_started": {"tensorrt": "no libraries"},
        "batch": 64,
        "checks": [asdict(passed), asdict(failed)],
    }
    text = block(page)
    assert "- cuda: onnxruntime-gpu 9.9 on NVIDIA Test, driver 580; Python 3.12" in text
    assert "- tensorrt: did not start (no libraries)" in text
    assert "| a\\|b.onnx | cuda | passed | 5 of 6 | 1e-06 | 1e-05 | 0.5 | 1 | 30 |" in text
    assert "failed: CUDAExecutionProvider took none of 1 nodes" in text
    assert NOT_RUN not in text
    nowhere = tmp_path / "page.md"
    nowhere.write_text("no marks")
    with pytest.raises(ValueError, match="not there once"):
        put_block(nowhere, page)


def test_the_page_states_the_tolerances_of_the_code() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for precision in compare.TOLERANCES:
        row = next(line for line in text.splitlines() if line.startswith(f"| {precision} |"))
        stated = [float(cell) for cell in row.strip("|").split("|")[1:]]
        assert stated == [compare.tolerance_for(precision, provider) for provider in (CPU, CUDA, TENSORRT)]
