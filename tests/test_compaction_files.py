"""Published and real models, pruned hard and compacted: validated, smaller, and the same to ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from onnx_clp import CleanConfig, ClpError
from onnx_clp.document.run import Report
from onnx_clp.run.pipeline import run
from tests import corpus

MODELS = sorted((Path(__file__).parent.parent / "models").glob("*.onnx"))
PAPER = CleanConfig(u=1.5, fill="zero", budget=1.0, provider="cpu", timeout=120)
CONFIG = replace(PAPER, compact=True, compact_multiple=1)
REFUSED = {"test_BatchNorm2d_eval.onnx"}


def agrees(report: Report) -> bool:
    error, tolerance = report.validation.compaction_error, report.validation.tolerance
    return error is not None and tolerance is not None and error <= tolerance


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_published_model_gets_smaller_and_answers_alike(path: Path, tmp_path: Path) -> None:
    report = run(path, tmp_path / "out.onnx", CONFIG)
    plain = run(path, tmp_path / "plain.onnx", replace(PAPER, validate=False))
    assert report.compaction is not None
    assert agrees(report)
    assert report.compaction.removed > 20
    assert report.output is not None
    assert plain.output is not None
    assert report.output.bytes < 0.97 * plain.output.bytes
    # Every pruned channel is accounted for: taken out, or kept for a reason.
    assert report.compaction.removed + report.compaction.kept >= report.summary.channels_pruned
    pruned = {layer.name: set(layer.pruned) for layer in report.layers}
    rows = {row.name: row for row in report.compaction.layers}
    for name, channels in pruned.items():
        if channels:
            row = rows[name]
            assert channels <= {*row.removed, *(c for part in row.kept for c in part.channels)}


@pytest.mark.parametrize("path", MODELS[:2], ids=lambda path: path.stem)
def test_a_published_model_keeps_even_layers_unless_told_otherwise(path: Path, tmp_path: Path) -> None:
    report = run(path, tmp_path / "out.onnx", replace(PAPER, compact=True))
    fewest = run(path, None, replace(CONFIG, validate=False))
    assert agrees(report)
    assert report.compaction is not None
    assert fewest.compaction is not None
    assert 0 < report.compaction.removed < fewest.compaction.removed
    assert all((row.channels - len(row.removed)) % 8 == 0 for row in report.compaction.layers if row.removed)


def names(path: Path | None) -> str:
    return path.stem if path else "none"


@pytest.mark.slow
@pytest.mark.parametrize("path", corpus.files() or [None], ids=names)
def test_a_real_file_answers_alike_or_is_refused(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        pytest.skip(corpus.MISSING)
    try:
        report = run(path, tmp_path / "out.onnx", CONFIG)
    except ClpError:
        assert path.name in REFUSED
        return
    assert report.compaction is not None
    assert report.validation.outcome.startswith("validated")
    if report.compaction.removed:
        assert agrees(report) or any(finding.kind == "rounding" for finding in report.findings)
        onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=not _fails_full_check(path))
    assert all(part.sentence for row in report.compaction.layers for part in row.kept)


def _fails_full_check(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return True
    return False
