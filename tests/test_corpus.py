"""Every real file comes out valid and computing the same, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_clp import CleanConfig, ClpError
from onnx_clp.run.pipeline import run
from tests import corpus
from tests.hostile.case import snapshot

REFUSED = {"test_BatchNorm2d_eval.onnx": ("opset 6", "BatchNormalization", "cannot")}
CONFIG = CleanConfig(prune=False, provider="cpu", timeout=120)


def rows() -> list[object]:
    if not corpus.files():
        return [None]
    return [pytest.param(path) for path in corpus.files()]


def name(path: Path | None) -> str:
    return path.stem if path else "none"


@pytest.mark.slow
@pytest.mark.parametrize("path", rows(), ids=name)
def test_a_file_comes_out_valid_and_equal_or_is_refused(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        pytest.skip(corpus.MISSING)
    out = tmp_path / "out.onnx"
    source = snapshot(path.parent)
    try:
        report = run(path, out, CONFIG)
    except ClpError as error:
        text = str(error)
        assert path.name in REFUSED, text
        assert text.isprintable()
        assert any(word in text for word in REFUSED[path.name])
        assert list(tmp_path.iterdir()) == []
        return
    assert snapshot(path.parent) == source
    assert report.validation.outcome.startswith("validated")
    if report.summary.affines_folded:
        assert report.validation.fold_error is not None
        assert report.validation.tolerance is not None
        magnified = any(finding.kind == "rounding" for finding in report.findings)
        assert magnified or report.validation.fold_error <= report.validation.tolerance
    else:
        assert onnx.load(out, load_external_data=False).graph.node
    again = run(out, tmp_path / "again.onnx", CleanConfig(prune=False, validate=False))
    assert again.summary.affines_folded == 0


SMALL = 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize("path", rows(), ids=name)
def test_a_files_default_run_stays_within_its_budget(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        pytest.skip(corpus.MISSING)
    if path.stat().st_size > SMALL:
        pytest.skip("it is large: predicting its loss takes long")
    try:
        report = run(path, tmp_path / "out.onnx", CleanConfig(provider="cpu", timeout=300))
    except ClpError:
        assert path.name in REFUSED
        return
    assert report.validation.outcome.startswith("validated")
    summary, gauge = report.summary, report.gauge
    if gauge is None:
        assert summary.channels_pruned == 0
        return
    assert gauge.unreached <= summary.channels_kept <= summary.channels_pruned
    if gauge.prediction is None:
        assert summary.channels_kept == gauge.unreached == summary.channels_pruned
        return
    assert gauge.prediction.loss.high <= gauge.budget
    assert (gauge.whole is None) == (summary.channels_kept == gauge.unreached)
