"""The command line: what it parses, what it prints where, and its exit status."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import onnx_clp.run
from onnx_clp import errors
from onnx_clp.cli.arguments import Arguments, parse
from onnx_clp.cli.main import main
from onnx_clp.config import CleanConfig
from onnx_clp.document.run import Report
from onnx_clp.process.progress import Progress
from onnx_clp.report import terminal
from onnx_clp.verdicts import LayerStatus
from tests import reports

ROOT = Path(__file__).parent.parent


@dataclass
class FakePipeline:
    """Stands in for the pipeline: remembers how it was called, gives a report or raises."""

    report: Report = field(default_factory=reports.report)
    error: BaseException | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self,
        source: Path,
        destination: Path | None,
        config: CleanConfig,
        *,
        overwrite: bool = False,
        progress: Callable[[Progress], None] | None = None,
        before_write: Callable[[Report], contextlib.AbstractContextManager[None]] | None = None,
        beside: Sequence[Path] = (),  # noqa: ARG002
    ) -> Report:
        self.calls.append({"source": source, "destination": destination, "config": config, "overwrite": overwrite})
        if progress is not None:
            progress(Progress("score", 1, 2))
        logging.getLogger("onnx_clp.fake").info("looked at %s", source)
        if self.error is not None:
            raise self.error
        if before_write is not None:
            with before_write(self.report):
                pass
        return self.report


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePipeline:
    fake = FakePipeline()
    module = SimpleNamespace(run=fake.run)
    monkeypatch.setitem(sys.modules, "onnx_clp.run.pipeline", module)
    monkeypatch.setattr(onnx_clp.run, "pipeline", module, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return fake


CONFIGS = [
    ([], {}),
    (["-u", "2.5"], {"u": 2.5}),
    (["--bound", "exact"], {"bound": "exact"}),
    (["--include", "a*", "--include", "b"], {"include": ("a*", "b")}),
    (["--exclude", "c?"], {"exclude": ("c?",)}),
    (["--layers", "all"], {"layers": "all"}),
    (["--no-prune"], {"prune": False}),
    (["--bound-activations", "3"], {"bound_activations": 3.0}),
    (["--freeze-inputs"], {"freeze_inputs": True}),
    (["--provider", "tensorrt"], {"provider": "tensorrt"}),
    (["--no-validate"], {"validate": False}),
    (["--tolerance", "1e-4"], {"tolerance": 1e-4}),
    (["--seed", "7"], {"seed": 7}),
    (["--shape", "x:1,3,224,224"], {"shapes": {"x": (1, 3, 224, 224)}}),
    (["--shape", "x:0:1,3", "--shape", "y:2"], {"shapes": {"x:0": (1, 3), "y": (2,)}}),
    (["--eval", "d.npz", "--output", "logits"], {"eval_data": Path("d.npz"), "output_name": "logits"}),
    (["--max-size", "2G"], {"max_size": 2 << 30}),
    (["--max-size", "1.5MiB"], {"max_size": 3 << 19}),
    (["--memory", "300k"], {"memory": 300 << 10}),
    (["--memory", "4096"], {"memory": 4096}),
    (["--timeout", "1.5"], {"timeout": 1.5}),
    (["--external-data", "never"], {"external_data": "never"}),
    (["--cleanup", "all"], {"cleanup": "all"}),
    (["--measure-latency"], {"latency": True}),
]


@pytest.mark.parametrize(("options", "expected"), CONFIGS, ids=lambda value: str(value))
def test_options_become_the_configuration(options: list[str], expected: dict[str, Any]) -> None:
    assert parse(["in.onnx", "out.onnx", *options]).config == CleanConfig(**expected)
    assert parse(["in.onnx", *options, "out.onnx"]) == parse([*options, "in.onnx", "out.onnx"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--overwrite"], {"overwrite": True}),
        (["--report", "a.json", "--report", "b.HTML"], {"reports": (Path("a.json"), Path("b.HTML"))}),
        (["--sarif", "c.sarif"], {"sarif": Path("c.sarif")}),
        (["--json"], {"json": True}),
        (
            ["--fail-on", "unjudged", "--baseline", "o.json"],
            {"fail_on": ("unjudged",), "baseline": Path("o.json")},
        ),
        (["--color", "never"], {"color": "never"}),
        (["-q"], {"quiet": True}),
        (["-vv"], {"verbosity": 2}),
        (["--dry-run"], {"destination": None}),
    ],
    ids=str,
)
def test_options_that_concern_the_command_alone(options: list[str], expected: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "source": Path("in.onnx"),
        "destination": Path("out.onnx"),
        "config": CleanConfig(),
        "overwrite": False,
        "reports": (),
        "sarif": None,
        "json": False,
        "fail_on": (),
        "baseline": None,
        "color": "auto",
        "quiet": False,
        "verbosity": 0,
    }
    assert parse(["in.onnx", "out.onnx", *options]) == Arguments(**{**usual, **expected})


def test_a_file_name_may_start_with_a_dash() -> None:
    arguments = parse(["-u", "2", "--", "-in.onnx", "-out.onnx"])
    assert (arguments.source, arguments.destination) == (Path("-in.onnx"), Path("-out.onnx"))


def test_a_file_called_dash_goes_by_its_whole_path() -> None:
    assert parse(["/folder/-"]).source == Path("/folder/-")


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "required"),
        (["a", "b", "c"], "unrecognized arguments: c"),
        (["-"], "not read from or written to a stream"),
        (["a", "-"], "not read from or written to a stream"),
        (["a", "--nonsense"], "--nonsense"),
        (["a", "--repor", "x.json"], "--repor"),
        (["a", "-u", "many"], "'many'"),
        (["a", "-u", "-1"], "above 0"),
        (["a", "-u", "nan"], "finite"),
        (["a", "--bound", "loose"], "'loose'"),
        (["a", "--provider", "rocm"], "'rocm'"),
        (["a", "--seed", "-1"], "seed"),
        (["a", "--tolerance", "inf"], "tolerance"),
        (["a", "--timeout", "0"], "timeout"),
        (["a", "--shape", "1,2"], "NAME:1,3,224,224"),
        (["a", "--shape", "x:"], "NAME:1,3,224,224"),
        (["a", "--shape", "x:1,-2"], "NAME:1,3,224,224"),
        (["a", "--shape", "x:1", "--shape", "x:2"], "twice"),
        (["a", "--max-size", "lots"], "not a size"),
        (["a", "--memory", "-1"], "--memory"),
        (["a", "--max-size", "0"], "above 0"),
        (["a", "--eval", "d.npz", "--no-validate"], "--no-validate"),
        (["a", "--report", "r.txt"], ".json or .html"),
        (["a", "--report", "r"], ".json or .html"),
        (["a", "--sarif", "r.onnx"], ".sarif or .json"),
        (["a.json", "--report", "a.json"], "overwrite the input model"),
        (["a.json", "--report", "./x/../a.json"], "overwrite the input model"),
        (["a", "o.json", "--sarif", "o.json"], "overwrite the output model"),
        (["a", "o.json", "--dry-run", "--sarif", "o.json"], "overwrite the output model"),
        (["a", "--eval", "d.json", "--report", "d.json"], "overwrite the evaluation data"),
        (["a", "--report", "r.json", "--sarif", "r.json"], "overwrite another report"),
        (["a", "-q", "-v"], "contradict"),
        (["a", "--report", "missing/r.json"], "does not exist"),
        (["a", "--report", "folder.json"], "is a directory"),
        (["a", "--report", "x" * 300 + ".json"], "File name too long"),
        (["a", "--fail-on", "unusual", "--baseline", "none.json"], "none.json: cannot read the baseline"),
        (["a", "--fail-on", "unusual", "--baseline", "folder.json"], "cannot read the baseline"),
    ],
    ids=str,
)
def test_a_bad_command_line_is_one_line_and_exit_2(
    argv: list[str], part: str, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.json").mkdir()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onnx-clp: error: ")
    assert err.count("\n") == 1
    assert part in err
    assert pipeline.calls == []


def test_a_link_to_the_input_is_the_input(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.onnx").write_bytes(b"model")
    Path("link.json").symlink_to("in.onnx")
    Path("hard.json").hardlink_to("in.onnx")
    for name in ("link.json", "hard.json"):
        assert main(["in.onnx", "--report", name]) == 2
        assert "overwrite the input model" in capsys.readouterr().err
    assert Path("in.onnx").read_bytes() == b"model"
    assert pipeline.calls == []


def test_a_run_prints_the_table_on_stdout_and_nothing_on_stderr(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["in.onnx", "out.onnx", "--overwrite", "-u", "2"]) == 0
    out, err = capsys.readouterr()
    assert "/layer1/layer1.0/conv1/Conv" in out
    assert "15 pruned / 352 judged / 8 too small to judge / 42 not judged" in out
    assert "\x1b" not in out
    assert err == ""
    assert pipeline.calls == [
        {
            "source": Path("in.onnx"),
            "destination": Path("out.onnx"),
            "config": CleanConfig(u=2.0),
            "overwrite": True,
        }
    ]


@pytest.mark.parametrize("argv", [["in.onnx"], ["in.onnx", "out.onnx", "--dry-run"]], ids=str)
def test_without_an_output_or_with_dry_run_no_destination_is_given(argv: list[str], pipeline: FakePipeline) -> None:
    assert main(argv) == 0
    assert pipeline.calls[0]["destination"] is None


def test_quiet_prints_nothing_at_all(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["in.onnx", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(pipeline.calls) == 1


def test_json_replaces_the_table(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.report = reports.report((reports.layer("##[error]x"), reports.layer("::error::y")))
    for argv in (["in.onnx", "--json"], ["in.onnx", "--json", "-q"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert json.loads(out) == pipeline.report.to_dict()
        assert "##[" not in out


def test_verbose_logs_to_stderr_and_leaves_no_handler(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(logging.getLogger("onnx_clp").handlers)
    assert main(["in\x1b[31m.onnx", "-v"]) == 0
    assert capsys.readouterr().err == "onnx-clp: INFO: looked at in\\x1b[31m.onnx\n"
    assert main(["in.onnx"]) == 0
    assert capsys.readouterr().err == ""
    assert logging.getLogger("onnx_clp").handlers == before
    assert pipeline.error is None


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errors.LoadError("in.onnx: not found"), 2, "onnx-clp: error: in.onnx: not found\n"),
        (errors.InvalidModelError("bad"), 2, "onnx-clp: error: bad\n"),
        (errors.UnsupportedModelError("odd"), 2, "onnx-clp: error: odd\n"),
        (errors.SaveError("full"), 2, "onnx-clp: error: full\n"),
        (errors.ValidationFailed("differs"), 3, "onnx-clp: error: differs\n"),
        (errors.NotValidated("no runtime"), 4, "onnx-clp: error: no runtime\n"),
        (errors.Interrupted(15), 143, "onnx-clp: error: interrupted; nothing was written\n"),
        (KeyboardInterrupt(), 130, "onnx-clp: interrupted\n"),
        (MemoryError(), 2, "onnx-clp: error: not enough memory for this model; nothing was written\n"),
        (OSError(36, "File name too long", "x" * 300), 2, f"onnx-clp: error: {'x' * 300}: File name too long"),
        (OSError("odd"), 2, "onnx-clp: error: the system: odd"),
        (errors.LoadError("a\nb\x1b[0m"), 2, "onnx-clp: error: a\\nb\\x1b[0m\n"),
    ],
    ids=repr,
)
def test_errors_become_exit_codes_and_one_line(
    error: BaseException,
    status: int,
    text: str,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline.error = error
    assert main(["in.onnx", "out.onnx", "--report", "r.json"]) == status
    if isinstance(error, OSError):
        text += "; nothing was written\n"
    assert capsys.readouterr() == ("", text)
    assert list(Path().iterdir()) == []


def test_an_internal_error_is_5_and_shows_its_traceback_only_when_asked(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.error = KeyError("W_bias")
    assert main(["in.onnx"]) == 5
    err = capsys.readouterr().err
    assert err.startswith("onnx-clp: internal error: KeyError: 'W_bias'")
    assert err.count("\n") == 1
    assert main(["in.onnx", "-vv"]) == 5
    assert "Traceback" in capsys.readouterr().err


def test_every_exit_code_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for code, meaning in errors.EXIT_CODES:
        assert f"{code:<14} {meaning}" in out
    classes = [errors.LoadError, errors.ValidationFailed, errors.NotValidated]
    known = {code for codes, _ in errors.EXIT_CODES for code in codes.split(", ")}
    assert {str(x.exit_code) for x in classes} | {"0", "1", "5"} <= known
    assert {str(128 + n) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)} <= known


def test_every_option_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for option in {x for options, _ in CONFIGS for x in options if x.startswith("-")}:
        assert f"  {option}" in out
    assert "%(" not in out


@pytest.mark.parametrize(("option", "text"), [("--version", "onnx-clp"), ("--help", "usage")])
def test_version_and_help_need_neither_onnx_nor_numpy(option: str, text: str) -> None:
    script = (
        "import sys; from onnx_clp.cli.main import main; status = main(sys.argv[1:]);"
        "heavy = {'onnx', 'numpy', 'scipy', 'rich', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", script, option], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(text)


def test_reports_are_written_and_replace_older_ones(pipeline: FakePipeline) -> None:
    Path("r.json").write_text("{}")
    assert main(["in.onnx", "--report", "r.json", "-q"]) == 0
    assert Path("r.json").read_text() == pipeline.report.to_json()
    assert [path.name for path in Path().iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("name", "content", "replaced"),
    [
        ("r.json", b"", True),
        ("r.json", b'\xef\xbb\xbf\n {"schema": 1}', True),
        ("r.json", b"\x00\x01weights", False),
        ("r.json", b"old notes", False),
        ("r.html", b"{}", False),
    ],
)
def test_only_a_report_is_replaced(
    name: str, content: bytes, replaced: bool, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_bytes(content)
    assert main(["in.onnx", "--report", name, "-q"]) == (0 if replaced else 2)
    assert (Path(name).read_bytes() == content) == (not replaced)
    assert len(pipeline.calls) == int(replaced)
    err = capsys.readouterr().err
    assert err == "" if replaced else "r.json: holds no report" in err.replace("html", "json")


def test_a_dangling_link_may_name_a_report_and_a_pipe_may_not(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.json").symlink_to("new.json")
    assert main(["in.onnx", "--report", "r.json", "-q"]) == 0
    assert Path("new.json").read_text() == pipeline.report.to_json()
    os.mkfifo("pipe.json")
    assert main(["in.onnx", "--report", "pipe.json"]) == 2
    assert "pipe.json: holds no report" in capsys.readouterr().err


def test_a_report_keeps_to_the_umask_and_goes_through_a_link(pipeline: FakePipeline) -> None:
    Path("real").mkdir()
    Path("r.json").symlink_to("real/r.json")
    before = os.umask(0o027)
    try:
        assert main(["in.onnx", "--report", "r.json", "-q"]) == 0
    finally:
        os.umask(before)
    assert Path("r.json").is_symlink()
    assert Path("real/r.json").read_text() == pipeline.report.to_json()
    assert Path("real/r.json").stat().st_mode & 0o777 == 0o640


def test_a_failed_run_leaves_an_older_report_alone(pipeline: FakePipeline) -> None:
    Path("r.json").write_text("{}")
    pipeline.error = errors.ValidationFailed("differs")
    assert main(["in.onnx", "--report", "r.json"]) == 3
    assert Path("r.json").read_text() == "{}"


def test_a_report_that_cannot_be_stored_stops_the_run_before_the_model_is_written(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    pipeline.report = reports.report(output=None)
    assert main(["in.onnx", "--report", "r.json"]) == 2
    assert capsys.readouterr().err == "onnx-clp: error: r.json: cannot write the report: No space left on device\n"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("fail_on", "layers", "status"),
    [
        ("never", (reports.layer(outliers=2),), 0),
        ("suspicious", (reports.layer(outliers=2),), 0),
        ("unusual", (reports.layer(outliers=2),), 1),
        ("unusual", (reports.layer(outliers=0),), 0),
        ("unusual", (reports.unjudged("a", LayerStatus.TOO_SMALL),), 0),
        ("unjudged", (reports.unjudged("a", LayerStatus.TOO_SMALL),), 1),
        ("unjudged", (reports.layer(outliers=2),), 0),
        ("unusual,unjudged", (reports.layer(outliers=2),), 1),
        ("unjudged", (reports.layer(outliers=0),), 0),
    ],
)
def test_the_gate_sets_the_exit_status_after_everything_is_written(
    fail_on: str,
    layers: tuple[Any, ...],
    status: int,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline.report = reports.report(layers, findings=())
    assert main(["in.onnx", "out.onnx", "--fail-on", fail_on, "--report", "r.json"]) == status
    out, err = capsys.readouterr()
    assert "next: " in out
    assert Path("r.json").exists()
    assert (f"in.onnx: --fail-on {fail_on}: " in err) == (fail_on != "never")


def test_a_baseline_leaves_only_new_findings(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    old = reports.report((reports.layer("a", outliers=1),), findings=())
    Path("old.json").write_text(old.to_json())
    gate = ["in.onnx", "-q", "--fail-on", "unusual", "--baseline", "old.json"]
    pipeline.report = old
    assert main(gate) == 0
    assert capsys.readouterr().err == ""
    both = (reports.layer("a", outliers=1), reports.layer("b", outliers=1))
    pipeline.report = reports.report(both, findings=())
    assert main(gate) == 1
    assert "1 channel stood out; 1 already in the baseline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "environment", "colored"),
    [
        ("auto", {}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": ""}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.usefixtures("pipeline")
def test_color_in_a_pipe(
    choice: str,
    environment: dict[str, str],
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["in.onnx", "--color", choice]) == 0
    assert ("\x1b[" in capsys.readouterr().out) == colored


@pytest.mark.parametrize(
    ("no_color", "term", "colored"), [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)]
)
@pytest.mark.usefixtures("pipeline")
def test_color_on_a_terminal(
    no_color: str,
    term: str,
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    assert main(["in.onnx"]) == 0
    assert ("\x1b[" in capsys.readouterr().out) == colored


@pytest.mark.parametrize(("columns", "width"), [("100", 100), ("300", 120), ("20", 80), ("", 80), ("wide", 80)])
def test_columns_set_the_width_in_a_pipe(
    columns: str,
    width: int,
    pipeline: FakePipeline,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["in.onnx"]) == 0
    assert capsys.readouterr().out == terminal.render(pipeline.report, width=width)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--fail-on", "pruned"], "--fail-on pruned is an old name: say --fail-on unusual"),
        (["--baseline", "old.json"], "--baseline does nothing here: it belongs to --fail-on"),
        (["--compact-multiple", "4"], "--compact-multiple does nothing here: it belongs to --compact"),
        (["--no-validate", "--budget", "0.1"], "--budget does nothing here: --no-validate runs nothing"),
        (["--no-prune", "--fill", "zero"], "--fill does nothing here: no channel is switched off"),
        (["--layers", "all", "--include", "a"], "--layers does nothing here: --include says which layers are judged"),
        (["--overwrite"], "--overwrite does nothing here: no model is written"),
        (["--json", "--color", "always"], "--color does nothing here: no table is printed"),
    ],
    ids=str,
)
def test_an_option_that_does_nothing_is_said_and_stops_nothing(
    argv: list[str], said: str, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old.json").write_text(reports.report().to_json())
    pipeline.report = reports.report((reports.layer(),), findings=())
    assert main(["in.onnx", *argv]) == 0
    assert f"onnx-clp: {said}\n" in capsys.readouterr().err
    assert len(pipeline.calls) == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--fail-on", "unusual", "--baseline", "old.json"],
        ["--compact", "--compact-multiple", "4"],
        ["--budget", "0.1", "--fill", "zero"],
        ["out.onnx", "--overwrite"],
        ["--layers", "all"],
        ["--color", "always"],
    ],
    ids=str,
)
def test_options_that_do_something_are_not_warned_of(argv: list[str]) -> None:
    assert parse(["in.onnx", "--no-config", *argv]).warnings == ()


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["a", "--invrt"], "did you mean --invert?"),
        (["a", "--rule", "papr"], "did you mean paper?"),
        (["a", "--bound-activation=2"], "did you mean --bound-activations?"),
    ],
)
def test_a_word_that_is_nearly_right_is_guessed(
    argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert meant in capsys.readouterr().err
    assert main(["a", "--xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_folder_as_input_names_the_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "out"]) == 2
    said = capsys.readouterr().err
    assert f"is a folder; onnx-clp batch {tmp_path} out takes every model in it" in said
    assert said.count("\n") == 1


PROGRAM = """
import sys, time, types
from pathlib import Path
import onnx_clp.run
from tests import reports
def run(source, destination, config, **rest):
    if str(source) == "slow":
        Path("temporary").write_text("x")
        try:
            print("ready", flush=True)
            time.sleep(30)
        finally:
            Path("temporary").unlink()
    name = "layer-\\u5377\\u79ef" if str(source) == "wide" else "layer"
    report = reports.report(tuple(reports.layer(f"{name}{i}", 16) for i in range(3000)))
    with rest["before_write"](report):
        Path("placed").write_text("x")
    return report
module = types.SimpleNamespace(run=run)
sys.modules["onnx_clp.run.pipeline"] = onnx_clp.run.pipeline = module
from onnx_clp.cli.main import console
console()
"""


def start(folder: Path, *argv: str, **changes: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("option", ["--color=never", "--json"])
def test_a_reader_that_goes_away_is_no_error(option: str, tmp_path: Path) -> None:
    with start(tmp_path, "in.onnx", option) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
    assert (tmp_path / "placed").exists()


def test_any_encoding_of_stdout_will_do(tmp_path: Path) -> None:
    with start(tmp_path, "wide", PYTHONIOENCODING="ascii", PYTHONUTF8="0") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"layer-\\u5377\\u79ef0" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_and_sets_the_status(number: signal.Signals, tmp_path: Path) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here, as under nohup, and a run leaves it so")
    with start(tmp_path, "slow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert (tmp_path / "temporary").exists()
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err == b"onnx-clp: error: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_behind_stdout_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "in.onnx", "--report", "r.json"],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "cannot write to standard output: No space left on device; free space there, or use -q" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("argv", "lasts"), [(["in.onnx", "--json"], False), (["batch", "--help"], True)])
def test_a_single_run_leaves_at_once_with_all_its_output_and_a_batch_in_order(
    argv: list[str], lasts: bool, tmp_path: Path
) -> None:
    bracket = "import atexit, gc; atexit.register(lambda: print('taken apart', gc.isenabled()))"
    done = subprocess.run(
        [sys.executable, "-c", f"{bracket}\n{PROGRAM}", *argv],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("taken apart True" in done.stdout) is lasts
    if not lasts:
        assert len(json.loads(done.stdout)["layers"]) == 3000


def test_the_status_of_an_error_survives_leaving_at_once(tmp_path: Path) -> None:
    with start(tmp_path, "in.onnx", "-u", "nonsense") as process:
        _, err = process.communicate()
    assert process.returncode == 2
    assert b"nonsense" in err
