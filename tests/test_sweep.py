"""The sweep: each threshold counted as a run of its own would, each distinct model made and measured once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_clp import CleanConfig, UsageError
from onnx_clp.cli.arguments import parse
from onnx_clp.cli.main import main
from onnx_clp.document.run import Report, Sweep, SweepPoint
from onnx_clp.judge import prune_channels
from onnx_clp.modelfile import reader
from onnx_clp.modelfile.staging import complete
from onnx_clp.report import html, sweeping, terminal
from onnx_clp.run.analysis import analyse
from onnx_clp.run.pipeline import run
from onnx_clp.run.sweep import Sweeping, knee
from onnx_clp.verdicts import LayerStatus
from tests import reports
from tests.forms import TABLE
from tests.forms.build import Form
from tests.hostile.networks import network

US = (1.0, 1.25, 1.5, 2.0, 3.0, 3.5, 5.0)
QUIET = CleanConfig(validate=False, sweep=US)
ZOO = Path(__file__).parent.parent / "models" / "resnet18_badnets.onnx"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """40 channels, each larger than the one before, and a head."""
    proto = network(40)
    weight = next(t for t in proto.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(weight).copy()
    values *= np.geomspace(1, 60, 40, dtype=np.float32)[:, None, None, None]
    weight.raw_data = values.tobytes()
    path = tmp_path / "in.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def points(report: Report) -> tuple[SweepPoint, ...]:
    assert report.sweep is not None
    return report.sweep.points


# --- the thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1.5:3:0.5", (1.5, 2.0, 2.5, 3.0)),
        ("0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("2:3:0.75", (2.0, 2.75)),
        ("3:3:1", (3.0,)),
        ("1:100:1", tuple(float(u) for u in range(1, 101))),
    ],
)
def test_a_range_holds_both_ends_where_the_step_meets_them(text: str, us: tuple[float, ...]) -> None:
    assert parse(["m.onnx", "--sweep", text]).config.sweep == us


@pytest.mark.parametrize(
    "text",
    ["", "1", "1:2", "1:2:3:4", "a:2:1", "0:2:1", "-1:2:1", "3:2:1", "1:2:0", "1:2:-1", "1:inf:1", "nan:2:1",
     "1:2:nan", "1:2:inf", "1:101:1", "1:2:1e-300", "1e999999999:2:1", "1:2:sNaN", "inf:inf:1"],
)  # fmt: skip
def test_other_ranges_are_one_line_of_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m.onnx", f"--sweep={text}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--sweep" in said
    assert "START:STOP:STEP" in said or "more than 100 steps" in said


@pytest.mark.parametrize(
    "options",
    [{"sweep": (2.0, 1.0)}, {"sweep": (1.0, 1.0)}, {"sweep": (0.0,)}, {"sweep": (float("inf"),)},
     {"sweep": tuple(range(1, 102))}, {"sweep": (1.0,), "prune": False}],
)  # fmt: skip
def test_a_sweep_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="sweep"):
        CleanConfig(**options)


# --- counts -------------------------------------------------------------------------------------------


def test_counts_are_those_of_a_run_at_each_threshold(source: Path) -> None:
    found = points(run(source, None, QUIET))
    alone = [run(source, None, CleanConfig(validate=False, u=u)) for u in US]
    assert [p.u for p in found] == list(US)
    assert [p.channels for p in found] == [r.summary.channels_pruned for r in alone]
    assert [p.layers for p in found] == [sum(bool(x.pruned) for x in r.layers) for r in alone]
    assert len({p.channels for p in found}) >= 4
    assert all(p.prediction is None and p.rates is None and p.failure == "" for p in found)


def test_a_layer_too_small_at_the_runs_own_u_counts_where_it_is_not(tmp_path: Path) -> None:
    proto = network(9)
    weight = next(t for t in proto.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(weight).copy()
    values[4] *= 50
    weight.raw_data = values.tobytes()
    (tmp_path / "small.onnx").write_bytes(proto.SerializeToString())
    report = run(tmp_path / "small.onnx", None, QUIET)
    assert report.summary.channels_too_small == 9
    assert report.summary.channels_pruned == 0
    assert [p.channels for p in points(report) if p.u <= 2.0] == [1, 1, 1, 1]
    assert [p.channels for p in points(report) if p.u >= 3.0] == [0, 0, 0]


def test_without_a_sweep_there_is_none(source: Path) -> None:
    report = run(source, None, CleanConfig(validate=False))
    assert report.sweep is None
    assert "different set" not in terminal.render(report)
    assert 'id="sweep"' not in html.render(report)


def test_layers_are_scored_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    original = prune_channels._raw_scores

    def count(*given: Any) -> Any:
        scored.append(given)
        return original(*given)

    monkeypatch.setattr(prune_channels, "_raw_scores", count)
    report = run(source, None, replace(QUIET, validate=True, provider="cpu"))
    assert report.sweep is not None
    assert report.sweep.distinct >= 4
    assert len(scored) == report.summary.layers_judged == 1


# --- the models ---------------------------------------------------------------------------------------


def variants(path: Path, config: CleanConfig) -> dict[float, bytes]:
    """The bytes of every model a sweep stages, by the highest threshold that gives it."""
    with reader.read(path, config.max_size) as file, ExitStack() as cleanup:
        asked = replace(config, validate=True, eval_data=path)
        sweep = Sweeping(analyse(file, config, lambda *_: None), asked)
        sweep.stage(file, cleanup)
        last = {level.marks: level.u for level in sweep.levels}
        return {last[marks]: path.read_bytes() for marks, path in sweep._paths.items()}


def written(path: Path, config: CleanConfig) -> bytes:
    out = path.with_name("alone.onnx")
    run(path, out, config, overwrite=True)
    return out.read_bytes()


@pytest.mark.parametrize("caps", [None, 3.0])
def test_a_measured_model_is_the_one_a_run_at_that_threshold_writes(source: Path, caps: float | None) -> None:
    config = CleanConfig(validate=False, bound_activations=caps, u=5.0)
    found = variants(source, replace(config, sweep=US))
    assert len(found) >= 3
    for u, content in found.items():
        assert content == written(source, replace(config, u=u))
    assert len(set(found.values())) == len(found)


def test_so_are_those_of_a_real_network(tmp_path: Path) -> None:
    path = tmp_path / "zoo.onnx"
    path.write_bytes(ZOO.read_bytes())
    found = variants(path, CleanConfig(validate=False, sweep=(2.0, 2.5, 3.0)))
    assert sorted(found) == [2.0, 2.5, 3.0]
    for u, content in found.items():
        assert content == written(path, CleanConfig(validate=False, u=u))


def prunes_alike(form: Form, path: Path) -> bool:
    """Check that known scores prune as fresh ones do; whether there was anything to prune."""
    onnx.save(form.make(), path)
    config = CleanConfig(validate=False, u=0.5, layers="all", freeze_inputs=form.freeze)
    with reader.read(path, config.max_size) as file:
        first = analyse(file, replace(config, u=9.0), lambda *_: None)
        known = [verdict.raw for verdict in first.verdicts]
        again, fresh = (analyse(file, config, lambda *_: None, raws) for raws in (known, ()))
        assert complete(file, again.written) == complete(file, fresh.written), form.id
        for before, after in zip(first.verdicts, fresh.verdicts, strict=True):
            judged = after.branches if after.status is LayerStatus.JUDGED else ()
            expected = [b.outliers.outlying.tolist() for b in judged]
            assert [mask.tolist() for mask in before.outlying(0.5)] == expected, form.id
        return fresh.final is not None


def test_known_scores_prune_as_fresh_ones_do(tmp_path: Path) -> None:
    forms = [form for form in TABLE if form.valid][::9]
    pruned = [prunes_alike(form, tmp_path / f"{place}.onnx") for place, form in enumerate(forms)]
    assert sum(pruned) > 0.3 * len(forms)


def test_the_model_written_is_the_one_for_u(source: Path, tmp_path: Path) -> None:
    for u in (1.25, 2.0):
        plain, swept = tmp_path / f"{u}.onnx", tmp_path / f"{u}s.onnx"
        run(source, plain, CleanConfig(validate=False, u=u))
        run(source, swept, CleanConfig(provider="cpu", u=u, sweep=US, budget=1.0))
        assert swept.read_bytes() == plain.read_bytes()


def test_a_sweep_changes_nothing_of_what_the_budget_allows(source: Path, tmp_path: Path) -> None:
    plain, swept = tmp_path / "plain.onnx", tmp_path / "swept.onnx"
    alone = run(source, plain, CleanConfig(provider="cpu", u=1.5))
    beside = run(source, swept, CleanConfig(provider="cpu", u=1.5, sweep=US))
    assert swept.read_bytes() == plain.read_bytes()
    assert beside.gauge == alone.gauge
    assert alone.summary.channels_kept > 0


# --- measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [True, False])
def test_every_distinct_model_is_measured_once_and_nothing_is_left_behind(
    data: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = evaluation(source)
    before = {p.name for p in tmp_path.iterdir()}
    from onnx_clp import validation

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    asked: list[Any] = []
    real: Callable[..., Any] = validation.validate

    def validate(request: Any) -> Any:
        asked.append(request)
        assert all(scratch in path.parents for path in request.candidates)
        return real(request)

    monkeypatch.setattr(validation, "validate", validate, raising=False)
    config = CleanConfig(provider="cpu", u=1.5, sweep=US, eval_data=pictures if data else None)
    report = run(source, tmp_path / "out.onnx", config)
    assert report.sweep is not None
    (request,) = asked
    assert len(request.candidates) == (report.sweep.distinct if data else 0)
    assert list(scratch.iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {*before, "out.onnx", "scratch"}


def test_every_threshold_has_its_predicted_loss_whatever_the_budget(source: Path) -> None:
    reports_ = [run(source, None, CleanConfig(provider="cpu", u=1.5, sweep=US, budget=b)) for b in (0.001, 0.9)]
    assert points(reports_[0]) == points(reports_[1])
    moved = {}
    for point in points(reports_[0]):
        assert point.prediction is not None
        (change,) = point.prediction.outputs
        assert change.relative is not None
        moved[point.u] = change.relative
    assert moved[5.0] == 0.0
    assert moved[1.0] > moved[2.0] > 0.0
    assert len(set(moved.values())) == len({p.channels for p in points(reports_[0])})
    spent = reports_[1].gauge
    assert spent is not None
    assert next(p for p in points(reports_[0]) if p.u == 1.5).prediction == (spent.whole or spent.prediction)


def evaluation(source: Path) -> Path:
    """Give the model of that path class scores, and data for it."""
    proto = onnx.load(source)
    proto.graph.node.extend(
        [onnx.helper.make_node("GlobalAveragePool", ["y"], ["p"]), onnx.helper.make_node("Flatten", ["p"], ["z"])]
    )
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("z", 1, [1, 4]))
    onnx.save(proto, source)
    images = np.random.default_rng(0).random((6, 3, 8, 8), dtype=np.float32)
    path = source.with_name("e.npz")
    np.savez(path, x_clean=images, y_clean=np.arange(6) % 4, x_triggered=images, y_target=np.int64(1))
    return path


def test_rates_come_with_evaluation_data(source: Path) -> None:
    config = CleanConfig(provider="cpu", u=1.5, sweep=US, eval_data=evaluation(source))
    report = run(source, None, config)
    assert report.evaluation is not None
    for u in (1.0, 1.5, 5.0):
        alone = run(source, None, replace(config, u=u, sweep=(), budget=1.0))
        assert alone.evaluation is not None
        (point,) = (p for p in points(report) if p.u == u)
        assert point.rates == alone.evaluation.after


# --- the knee -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([100, 20, 10, 5, 0], 2.0),  # a sharp bend
        ([90, 64, 39, 21, 11], 3.0),
        ([10, 10, 10, 10, 10], None),  # flat
        ([40, 30, 20, 10, 0], None),  # straight
        ([40, 39, 37, 30, 0], None),  # bends the other way
        ([0, 0, 0, 0, 0], None),
        ([2, 1, 1, 1, 1], 2.0),
    ],
)
def test_the_knee_is_where_the_count_bends(counts: list[int], expected: float | None) -> None:
    assert knee([1.0, 2.0, 3.0, 4.0, 5.0], counts) == expected


def test_two_points_have_no_knee() -> None:
    assert knee([1.0, 2.0], [9, 0]) is None
    assert knee([], []) is None


# --- the views ----------------------------------------------------------------------------------------


def test_the_terminal_has_a_row_a_threshold_and_marks_the_knee_and_u() -> None:
    report = reports.report(sweep=reports.sweep())
    text = terminal.render(report)
    assert all(len(line) <= 80 for line in text.splitlines()[:-1])
    rows = text[text.index("  sweep ") : text.index("  output ")].splitlines()
    assert rows[0].split() == ["sweep", "u", "pruned", "layers", "loss", "up", "to", "ACC", "ASR", "RA"]
    assert rows[1].split()[:3] == ["2", "1,234", "20"]
    assert rows[1].split()[3:7] == ["40.0", "%", "100.0", "%"]
    assert rows[4].split()[3:5] == ["-", "-"]
    assert [row.split()[-1] for row in rows[1:5]] == ["%", "knee", "-u", "-"]
    assert "u = 4 could not be measured: the runtime said no" in " ".join(text.split())


def test_without_rates_the_terminal_shows_the_loss_alone_and_without_that_counts() -> None:
    given = reports.sweep()
    bare = replace(given, points=tuple(replace(p, rates=None) for p in given.points))
    assert next(sweeping.table(reports.report(sweep=bare))).split()[3:] == ["loss", "up", "to"]
    bare = replace(bare, points=tuple(replace(p, prediction=None) for p in bare.points))
    assert next(sweeping.table(reports.report(sweep=bare))).split() == ["u", "pruned", "layers"]
    assert list(sweeping.table(reports.report())) == []


def test_the_page_has_curves_and_the_table() -> None:
    page = html.render(reports.report(sweep=reports.sweep()))
    part = page[page.index('id="sweep"') : page.index('id="layers"')]
    assert part.count("<svg") == 2
    assert "<use" not in part
    assert part.count("<tr>") == 1 + 4
    assert "1,234" in part
    assert "<td>40.0 %</td><td>100.0 %</td><td>50.0 %</td>" in part
    assert "<td>1</td><td>1</td><td>-</td><td>-</td><td>-</td>" in part
    assert "knee</td>" in part
    assert "-u</td>" in part
    bare = Sweep((SweepPoint(3.0, 2, 1, None, None, ""),), 1, None)
    part = html.render(reports.report(sweep=bare))
    assert part[part.index('id="sweep"') : part.index('id="layers"')].count("<svg") == 1


def test_hostile_failures_are_text() -> None:
    given = reports.sweep()
    bad = replace(given, points=tuple(replace(given.points[0], failure=name) for name in reports.HOSTILE))
    report = reports.report(sweep=bad)
    page = html.render(report)
    assert "<script>" not in page
    assert "<img" not in page
    assert all(len(line) <= 80 and "\x1b" not in line for line in terminal.render(report).splitlines()[:-1])


def test_json_and_table_of_a_real_run(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(source), "--no-validate", "--sweep", "1:3:0.5"]
    assert main([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["u"] for p in found["sweep"]["points"]] == [1.0, 1.5, 2.0, 2.5, 3.0] == found["options"]["sweep"]
    assert main(options) == 0
    text = capsys.readouterr().out
    for point in found["sweep"]["points"]:
        assert f"{point['u']:>6g} {point['channels']:>7} {point['layers']:>6}" in text
