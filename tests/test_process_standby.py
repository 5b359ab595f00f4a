"""Children that wait for their errand: started before they are needed, used once, never left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnx_clp.errors import NotValidated
from onnx_clp.process import interpreter, standby
from onnx_clp.process.standby import Standby, standing_by, taken
from tests.validation_models import network, save

Process = subprocess.Popen[bytes]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    """Every child that is started."""
    found: list[Process] = []
    real = standby.start

    def start() -> Process:
        found.append(real())
        return found[-1]

    monkeypatch.setattr(standby, "start", start)
    yield found
    for process in found:
        interpreter.end(process)


def sleeping(monkeypatch: pytest.MonkeyPatch, code: str = "import time; time.sleep(60)") -> None:
    monkeypatch.setattr(standby, "command", lambda *_: [sys.executable, "-c", code])


def test_the_child_that_waits_is_the_one_that_is_taken(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(monkeypatch)
    with standing_by(True):
        assert len(started) == 1
        assert taken(more=False) is started[0]
        assert len(started) == 1


def test_the_next_one_is_started_where_more_follow(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(monkeypatch)
    with standing_by(True):
        assert taken(more=True) is started[0]
        assert taken(more=False) is started[1]
        assert len(started) == 2


def test_one_that_was_not_needed_is_ended(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(monkeypatch)
    with pytest.raises(KeyError), standing_by(True):
        raise KeyError
    assert [process.returncode for process in started] == [-9]


def test_one_that_was_taken_is_left_to_whom_it_was_given(
    started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping(monkeypatch)
    with standing_by(True):
        taken(more=False)
    assert [process.poll() for process in started] == [None]


def test_none_waits_where_none_is_wanted(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(monkeypatch)
    with standing_by(False):
        assert not started
        assert taken(more=True) is started[0]
        assert len(started) == 1


def test_one_that_died_while_it_waited_is_replaced(started: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping(monkeypatch)
    with standing_by(True):
        started[0].kill()
        started[0].wait()
        assert taken(more=False) is started[1]


def test_one_that_cannot_be_started_is_missed_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(_: int) -> list[str]:
        raise NotValidated("no interpreter")

    monkeypatch.setattr(standby, "command", command)
    with standing_by(True), pytest.raises(NotValidated, match="no interpreter"):
        taken(more=False)


def test_a_child_that_is_asked_nothing_ends_without_a_word(started: list[Process]) -> None:
    ready = Standby()
    ready.prepare()
    assert started[0].communicate(b"", timeout=60) == (b"", b"")
    assert started[0].returncode == 0
    ready.close()


def test_a_run_uses_every_child_that_it_starts(started: list[Process], tmp_path: Path) -> None:
    from onnx_clp import CleanConfig, clean

    with clean(save(network(folded=False), tmp_path / "m.onnx"), CleanConfig(provider="cpu")) as result:
        assert result.report.validation.outcome == "validated"
    assert started
    assert all(process.returncode == 0 for process in started)


def test_a_run_that_may_run_nothing_starts_none(started: list[Process], tmp_path: Path) -> None:
    from onnx_clp import CleanConfig, clean

    with clean(save(network(folded=False), tmp_path / "m.onnx"), CleanConfig(validate=False)):
        assert not started
