"""Stages are timed once, however they nest."""

from __future__ import annotations

import time

import pytest

from onnx_clp.process.clock import Clock
from onnx_clp.process.progress import Progress


def test_a_stage_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 13.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock = Clock()
    with clock.stage("analyse"), clock.stage("search"):
        pass
    assert clock.seconds == {"search": 3.0, "analyse": 12.0}


def test_a_stage_entered_twice_adds_up_and_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 5.0, 7.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    heard: list[Progress] = []
    clock = Clock(heard.append)
    for _ in range(2):
        with clock.stage("write"):
            pass
    assert clock.seconds == {"write": 3.5}
    assert heard == [Progress("write", 0, 0)] * 2
