"""The comparison of scoring with loops of SVDs: who takes part, and that a wrong score stops it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from onnx_clp.numerics.lipschitz import sigma
from tools.bench import scoring

SMALL = [np.random.default_rng(0).standard_normal(shape, dtype=np.float32) for shape in [(6, 3, 9), (4, 6, 1)]]


def test_every_way_is_timed_and_agrees() -> None:
    found = scoring.measure(SMALL, rounds=1, width=8)
    assert {"onnx_clp sigma", "SVD loop, values only", "SVD loop, thin vectors", "SVD loop, full vectors"} <= set(found)
    assert all(seconds >= 0 for seconds in found.values())
    assert found["SVD loop, thin vectors"] > 0


def test_full_vectors_are_left_out_where_they_would_take_minutes() -> None:
    assert "SVD loop, full vectors" not in scoring.measure(SMALL, rounds=1, width=128)


def test_the_papers_published_code_takes_part() -> None:
    pytest.importorskip("torch")
    assert scoring.PUBLISHED in scoring.measure(SMALL, rounds=1, width=8)


@pytest.mark.parametrize("error", [1e-9, -1e-9])
def test_a_score_that_is_not_the_singular_value_stops_the_comparison(
    monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    monkeypatch.setattr("tools.bench.scoring.sigma", lambda layer: sigma(layer) * (1 + error))
    with pytest.raises(SystemExit, match="onnx_clp sigma: the scores differ"):
        scoring.measure(SMALL, rounds=1, width=8)


def test_the_comparison_is_on_one_thread(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scoring, "shapes", lambda _: [(6, 3, 9)])
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with pytest.raises(SystemExit, match="OPENBLAS_NUM_THREADS=1"):
        scoring.main(1, 8)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    scoring.main(1, 8)
    assert "onnx_clp sigma" in json.loads(capsys.readouterr().out)


def test_a_turn_repeats_what_is_quick_and_not_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 100, 0.05).tolist())
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    spent, found = scoring._turn(lambda: [1.0])
    assert len(spent) == 4
    assert found.tolist() == [1.0]
    clock = iter(np.arange(0, 100, 9.0).tolist())
    assert len(scoring._turn(lambda: [1.0])[0]) == 1
