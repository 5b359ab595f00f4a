"""Inner values come with the runs that are made anyway: the same values, the same verdicts, fewer runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.errors import ValidationFailed
from onnx_clp.validation import terms as terms_module
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import Engine, cpu_engine
from onnx_clp.validation.session import FailureKind, Feeds, OrtRunner, Outputs, RunError, Runner, open_runner
from onnx_clp.validation.watching import WatchingRunner
from tests.test_validation_rounding import folded, hidden
from tests.validation_models import network, run, save


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many outputs each run of ONNX Runtime was asked for."""
    runs: list[int] = []
    plain = OrtRunner.run

    def counting(self: OrtRunner, feeds: Feeds, wanted: list[str] | None = None) -> Outputs:
        runs.append(len(self.outputs if wanted is None else wanted))
        return plain(self, feeds, wanted)

    monkeypatch.setattr(OrtRunner, "run", counting)
    return runs


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model runs with values given out beside its outputs, unless it is asked for them alone."""

    def refuse(*_: object) -> WatchingRunner:
        raise RunError(FailureKind.REFUSED, "not with more outputs")

    monkeypatch.setattr(terms_module, "WatchingRunner", refuse)


def pair(tmp_path: Path, factor: float) -> tuple[Path, Path]:
    model = hidden("Relu")
    return save(model, tmp_path / "in.onnx"), save(folded(model, factor), tmp_path / "out.onnx")


def test_a_watching_model_is_the_model_and_shows_more_once(tmp_path: Path) -> None:
    path = save(network(folded=False), tmp_path / "in.onnx")
    plain, watching = OrtRunner(path, cpu_engine(), Plan()), WatchingRunner(path, ("h",), cpu_engine(), Plan())
    assert (watching.inputs, watching.outputs) == (plain.inputs, plain.outputs)
    feeds = [{"x": np.full((1, 3, 8, 8), value, np.float32)} for value in (1, 2)]
    for feed in feeds:
        assert watching.run(feed)["y"].tolist() == plain.run(feed)["y"].tolist()
        assert list(watching.run(feed)) == ["y"]
    normalised = onnx.load(path)
    normalised.graph.output.append(onnx.ValueInfoProto(name="h"))
    wanted = OrtRunner(save(normalised, tmp_path / "more.onnx"), cpu_engine(), Plan()).run(feeds[0], ["h"])
    assert watching.seen["h"].tolist() == wanted["h"].tolist()


def test_a_fold_takes_two_runs_of_each_model(tmp_path: Path, counted: list[int]) -> None:
    run(*pair(tmp_path, 1.0))
    assert counted == [2, 1, 2, 1]  # the output and the value behind the fold, then the output alone


@pytest.mark.usefixtures("blind")
def test_where_values_cannot_come_along_they_are_asked_for(tmp_path: Path, counted: list[int]) -> None:
    run(*pair(tmp_path, 1.0))
    assert counted == [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("fixture", ["counted", "blind"])
def test_a_wrong_channel_is_found_either_way(tmp_path: Path, fixture: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(fixture)
    with pytest.raises(ValidationFailed, match=r"a channel of value n by 0\.01"):
        run(*pair(tmp_path, 1.01))


def test_with_a_tolerance_of_the_users_nothing_is_watched(tmp_path: Path, counted: list[int]) -> None:
    run(*pair(tmp_path, 1.01), tolerance=0.1)
    assert counted == [1, 1, 1, 1]


@pytest.mark.parametrize("make", [network, lambda **_: hidden("Relu")])
def test_the_written_file_itself_is_run(
    tmp_path: Path, make: Callable[..., onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def opening(path: Path, engine: Engine, plan: Plan, *, reference: bool) -> Runner:
        opened.append(path)
        return open_runner(path, engine, plan, reference=reference)

    monkeypatch.setattr(terms_module, "open_runner", opening)
    model = make(folded=False)
    run(save(model, tmp_path / "in.onnx"), save(folded(model), tmp_path / "out.onnx"))
    assert opened == [tmp_path / "out.onnx"]
