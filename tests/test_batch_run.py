"""Whole batches as processes: hostile models, signals, kills, caps; and the command line around them."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.batch import destinations, executors, launch, page
from onnx_clp.batch.gist import gist
from onnx_clp.batch.options import batch_parser, parse_batch
from onnx_clp.batch.record import Record, worst
from onnx_clp.batch.summary import Tally, table
from onnx_clp.cli.arguments import parse
from onnx_clp.cli.main import main
from onnx_clp.cli.options import main_parser
from onnx_clp.document.run import ClassInversion, FormFound, Inversion, Picture, SearchImages
from onnx_clp.errors import UsageError
from tests import reports
from tests.batches import Quick, ends, events, put

ROOT = Path(__file__).parent.parent
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and death signals are Linux's")


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "onnx_clp", "batch", "in", "out", "--no-validate", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def working_on(folder: Path) -> int:
    """How many processes work on a model in this folder."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            count += "onnx_clp.batch.start" in line and str(folder) in line
    return count


def ended(folder: Path) -> int:
    log = folder / "out" / "onnx-clp-batch.jsonl"
    return log.read_text().count('"event": "end"') if log.exists() else 0


# --- one bad model does not stop the others -----------------------------------------------------------------


def test_a_broken_and_a_crashing_model_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = "import os, signal; any('evil' in w for w in sys.argv) and os.kill(os.getpid(), signal.SIGSEGV); "
    monkeypatch.setattr(launch, "_CODE", launch._CODE.replace("from onnx_clp", crash + "from onnx_clp", 1))
    monkeypatch.chdir(tmp_path)
    for name in ("evil", "good"):
        put(tmp_path / "in" / f"{name}.onnx", outlier=True)
    (tmp_path / "in" / "broken.onnx").write_bytes(b"\x08\x08\x3a\xff")
    assert main(["batch", "in", "out", "--no-validate", "--fail-on", "unusual"]) == 5
    found = ends(tmp_path / "out")
    assert {name: one["exit_code"] for name, one in found.items()} == {"evil.onnx": 5, "good.onnx": 1, "broken.onnx": 2}
    assert "SIGSEGV" in found["evil.onnx"]["error"]
    assert onnx.load(tmp_path / "out" / "good.onnx").graph.node
    said = capsys.readouterr().out
    assert re.search(r"^ +3  models in ", said)
    for line in ("1  unusual", "1  gate tripped", "1  refused", "1  crashed", "1  channel"):
        assert re.search(rf"^ +{line}", said, re.MULTILINE), line
    assert said.index("crashed: evil.onnx") < said.index("refused: broken.onnx")
    assert max(map(len, said.splitlines()[:-1])) <= 80


@LINUX
def test_a_model_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import time; any('slow' in w for w in sys.argv) and time.sleep(60); "
    monkeypatch.setattr(launch, "_CODE", launch._CODE.replace("from onnx_clp", slow + "from onnx_clp", 1))
    put(tmp_path / "in" / "slow.onnx")
    begun = time.monotonic()
    assert main(["batch", str(tmp_path / "in"), str(tmp_path / "out"), "-q", "--model-timeout", "0.3"]) == 4
    assert time.monotonic() - begun < 20
    assert "took longer than 0.3 s" in ends(tmp_path / "out")["slow.onnx"]["error"]
    assert working_on(tmp_path) == 0


@pytest.mark.parametrize(
    ("codes", "expected"), [({0}, 0), ({0, 1}, 1), ({1, 2}, 2), ({2, 3, 0}, 3), ({3, 4}, 4), ({5, 4, 1}, 5), (set(), 0)]
)
def test_the_worst_code_wins(codes: set[int], expected: int) -> None:
    assert worst(codes) == expected


# --- signals and kills -------------------------------------------------------------------------------------


@LINUX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_batch_leaves_nothing_running_and_goes_on(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    for at in range(4):
        put(tmp_path / "in" / f"{at}.onnx", at)
    batch = start(tmp_path, "-j1")
    wait_for(lambda: ended(tmp_path) >= 1)
    batch.send_signal(number)
    _, said = batch.communicate(timeout=60)
    assert batch.returncode == status
    wait_for(lambda: working_on(tmp_path) == 0)
    done = ended(tmp_path)
    assert 1 <= done < 4
    assert len(events(tmp_path / "out")) - done in (done, done + 1)  # all lines are JSON; at most one is open
    if number != signal.SIGKILL:
        assert re.search(rf"interrupted; {done} of 4 models have ended, the same command goes on", said.decode())
        assert [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []
    again = start(tmp_path, "--jsonl", "-j2")
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert sorted(one["name"] for one in records) == [f"{at}.onnx" for at in range(4)]
    assert sum(one["kept"] for one in records) == done


def test_two_batches_do_not_share_a_journal(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "onnx-clp-batch.jsonl").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert main(["batch", "in", "out"]) == 2
        assert "another batch is writing there" in capsys.readouterr().err
    assert quick.take() == []
    assert main(["batch", "in", "out", "--no-validate"]) == 0


# --- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Quick:
    stand_in = Quick()
    monkeypatch.setattr(launch, "run", stand_in)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in" / "a.onnx", 1, outlier=True)
    return stand_in


def test_a_file_called_batch_is_a_model_as_ever(
    quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "batch", outlier=True)
    assert main(["batch", "out.onnx", "--no-validate"]) == 0
    assert onnx.load(tmp_path / "out.onnx").graph.node
    assert "unusual: 1 of 16 channels stand out" in capsys.readouterr().out
    (tmp_path / "batch").unlink()
    (tmp_path / "batch").mkdir()
    assert main(["batch", "in", "out", "-q", "--no-validate"]) == 0
    assert quick.take() == ["a.onnx"]


def test_every_option_of_a_single_run_that_decides_a_result_is_one_of_the_batch() -> None:
    single = {option for action in main_parser()._actions for option in action.option_strings}
    batch = {option for action in batch_parser()._actions for option in action.option_strings}
    of_one_run = {"--report", "--json", "--baseline", "--color", "-v", "--verbose", "--version"}
    assert single - batch == of_one_run | {"--config", "--no-config"}
    helped = batch_parser().format_help()
    assert all(option in helped for option in batch)


def test_options_are_handed_through_as_they_were_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.npz").write_bytes(b"")
    words = [
        "in",
        "out",
        "-u",
        "2",
        "--shape",
        "x:1,3",
        "--include",
        "-a*",
        "--eval",
        "d.npz",
        "--fail-on",
        "unjudged,unusual",
    ]
    given = parse_batch([*words[:6], "--include=-a*", *words[8:], "--max-size", "1G"]).words
    assert sorted(given) == sorted(
        [
            "-u=2",
            "--shape=x:1,3",
            "--include=-a*",
            f"--eval={tmp_path / 'd.npz'}",
            "--fail-on=unjudged,unusual",
            f"--max-size={1 << 30}",
        ]
    )
    single = parse(["in.onnx", "out.onnx", *given])
    assert (single.config.u, single.config.shapes, single.config.include) == (2.0, {"x": (1, 3)}, ("-a*",))
    assert (single.fail_on, single.config.max_size) == (("unjudged", "unusual"), 1 << 30)


def test_the_thresholds_of_a_sweep_are_handed_through() -> None:
    for text in ("1:3:0.5", "1.5:5:0.25", "2:2.5:0.5", "3:3:1", "0.1:0.7:0.1"):
        handed = parse_batch(["in", "out", "--sweep", text]).words
        wanted = parse(["m.onnx", "--no-config", "--sweep", text]).config.sweep
        assert parse(["m.onnx", "--no-config", *handed]).config.sweep == wanted


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["in"], "the following arguments are required: OUT"),
        (["in", "out", "-u", "-1"], "u must be a finite number above 0"),
        (["in", "out", "-j", "0"], "is not a number of at least 1"),
        (["in", "out", "--model-timeout", "nan"], "--model-timeout must be"),
        (["in", "out", "--executor", "dask"], "--executor dask needs --address"),
        (["in", "out", "--address", "x:1"], "--address is for --executor dask or ray"),
        (["in", "in"], "is an input"),
        (["in/a.onnx", "in"], "is an input"),
        (["in", "elsewhere/../in"], "is an input"),
        ([".git*", "out"], "no .onnx file there"),
        (["nothing", "out"], "there is no such folder, list or glob"),
        (["in", "out", "--eval", "no.npz"], "no.npz: cannot be read"),
        (["in", "out", "--report", "x.json"], "unrecognized arguments"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line_and_does_nothing(
    quick: Quick, words: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", *words]) == 2
    said = capsys.readouterr().err
    assert part in said
    assert said.count("\n") == 1
    assert quick.take() == []
    assert not (tmp_path / "out").exists()


def test_a_settings_file_in_the_current_folder_is_not_read(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.onnx-clp]\nu = 100.0\nfail-on = "unusual"\n')
    assert main(["batch", "in", "out", "-q", "--no-validate"]) == 0
    assert ends(tmp_path / "out")["a.onnx"]["pruned"] == 1
    assert quick.take() == ["a.onnx"]


@pytest.mark.parametrize(("kind", "library"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_cluster_library_is_one_line(kind: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with (
        pytest.raises(UsageError, match=rf"pip install 'onnx-clp\[{kind}\]'"),
        executors.opened(kind, "host:1", None),  # type: ignore[arg-type]
    ):
        pass


def test_missing_fsspec_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert main(["batch", "memory://in", "out"]) == 2
    assert capsys.readouterr().err.endswith("a URL needs fsspec: pip install 'onnx-clp[remote]'\n")


def test_jsonl_prints_one_object_a_model_and_nothing_else(quick: Quick, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "in", "out", "--jsonl", "--no-validate"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = Record.from_dict(json.loads(line))
    assert (record.name, record.exit_code, record.verdict, record.pruned) == ("a.onnx", 0, "unusual", 1)
    assert Record.from_dict(record.to_dict()) == record
    assert quick.take() == ["a.onnx"]


def test_the_bar_shows_counts_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_clp.batch.bar import BatchBar

    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    tally = Tally(
        [Record(name="a", source="/a", exit_code=0, verdict="suspicious"), Record(name="b", source="/b", exit_code=2)]
    )
    with BatchBar(7).shown() as bar:
        bar(tally)
        bar._bar.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "1 suspicious, 1 failed" in text
    assert "2/7" in text
    assert re.search(r"-:--:--|0:0\d:\d\d", text)


# --- the page and the table --------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\x1b[31m\n::x.onnx"


def test_hostile_names_are_text_on_the_page_and_in_the_table() -> None:
    pytest.importorskip("jinja2")
    bad = Record(name=HOSTILE, source="/x", exit_code=2, error="<b>why</b>\x1b[0m")
    good = Record(
        name="a b#?.onnx", source="/y", exit_code=0, verdict="unusual", pruned=2, files={"a b#?.onnx.json": "0"}
    )
    html = page.render(Tally([good, bad]))
    assert "<script" not in html
    assert "<b>why" not in html
    assert "\x1b" not in html
    assert 'href="./a%20b%23%3F.onnx.json"' in html
    assert html.index("&lt;script") < html.index("a b#?.onnx")  # the worst first
    text = table(Tally([good, bad]), 1.0)
    assert "\x1b" not in text
    assert not any(line.startswith("::") for line in text.splitlines())


def test_suspicious_models_come_first_in_the_table_and_on_the_page() -> None:
    pytest.importorskip("jinja2")
    png = "data:image/png;base64,AAAA"
    named = ("class 3 stands out in the last layer", "custom operator at /X")
    records = [
        Record(name="quiet", source="/q", exit_code=0, verdict="nothing found"),
        Record(name="loud", source="/l", exit_code=0, verdict="unusual", pruned=9, judged=90, loss=0.004),
        Record(name="broken", source="/b", exit_code=2, error="why"),
        Record(name="bad", source="/s", exit_code=1, verdict="suspicious", found=named, picture=png),
        Record(name="odd", source="/o", exit_code=0, verdict="could not judge", picture="javascript:alert(1)"),
    ]
    html = page.render(Tally(records), ("-u=2.5", "--invert"), "2026-01-02 03:04 UTC")
    names = [">bad<", ">broken<", ">loud<", ">odd<", ">quiet<"]
    at = [html.index(name) for name in names]
    assert at == sorted(at)
    for part in (*named, "2026-01-02 03:04 UTC", "-u=2.5 --invert", "9 of 90", "0.4 %", png):
        assert part in html
    assert "javascript" not in html
    text = table(Tally(records), 1.0)
    assert "suspicious: bad\n  class 3 stands out in the last layer; custom operator at /X\n" in text
    assert text.index("suspicious: bad") < text.index("refused: broken")
    assert max(map(len, text.splitlines())) <= 80


def test_a_report_comes_to_a_few_words_a_loss_and_a_small_picture() -> None:
    wide = Picture.of(np.linspace(0, 1, 200 * 100).reshape(1, 200, 100), 0, 1)
    forms = tuple(FormFound(kind, 0.9, 1.0, z, wide) for kind, z in (("patch", 4.0), ("wave", 9.0)))
    images = SearchImages("statistics", 60, 5, 0.1, 0.9, ())
    found = Inversion("CPU", 10, images, (ClassInversion(3, 1.0, forms),), 3, "class 3 is likely", None, "")
    made = reports.report((reports.layer(outliers=1),), inversion=found)
    known = gist(json.loads(made.to_json()))
    assert known["found"] == ("a trigger towards class 3 was found", "data-dependent branch at /If")
    assert known["loss"] == 0.002
    assert known["picture"].startswith("data:image/png;base64,")
    size = struct.unpack(">II", base64.b64decode(known["picture"].partition(",")[2])[16:24])
    assert max(size) <= 64
    plain = gist(json.loads(reports.report((reports.layer(),), findings=()).to_json()))
    assert plain == {"found": (), "loss": None, "picture": ""}
    record = Record(name="a", source="/a", exit_code=0, **known)
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_batch_goes_on_without_a_search_where_none_can_run(quick: Quick, tmp_path: Path) -> None:
    assert "--skip-unsearchable" in parse_batch(["in", "out", "--invert"]).words
    assert "--skip-unsearchable" not in parse_batch(["in", "out"]).words
    assert main(["batch", "in", "out", "-q", "--invert", "--dry-run"]) == 0
    document = json.loads((tmp_path / "out" / "a.onnx.json").read_bytes())
    (finding,) = [one for one in document["findings"] if one["kind"] == "search not done"]
    assert "a search for triggers needs class scores" in finding["sentence"]
    assert document["inversion"] is None
    assert quick.take() == ["a.onnx"]
    assert main(["in/a.onnx", "--invert", "-q"]) == 2


def test_an_old_name_of_a_gate_is_said_once_for_the_whole_batch(
    quick: Quick, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "in", "out", "-q", "--no-validate", "--fail-on", "pruned"]) == 1
    assert capsys.readouterr().err == "onnx-clp: --fail-on pruned is an old name: say --fail-on unusual\n"
    assert quick.take() == ["a.onnx"]


def test_without_the_extra_there_is_no_page_and_all_else_works(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "available", lambda: False)
    assert main(["batch", "in", "out", "--no-validate"]) == 0
    assert not (tmp_path / "out" / "index.html").exists()
    assert capsys.readouterr().out.endswith("out/onnx-clp-batch.jsonl\n")
    assert quick.take() == ["a.onnx"]


def test_further_views_are_written_beside_and_linked(quick: Quick, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["batch", "in", "out", "-q", "--no-validate", "--html", "--sarif", "--attestation", "in-toto"]) == 0
    assert set(ends(tmp_path / "out")["a.onnx"]["files"]) == {
        "a.onnx",
        "a.onnx.json",
        "a.onnx.html",
        "a.onnx.sarif",
        "a.onnx.in-toto.json",
    }
    statement = json.loads((tmp_path / "out" / "a.onnx.in-toto.json").read_bytes())
    assert [one["annotations"]["role"] for one in statement["subject"]] == ["input", "output"]
    assert json.loads((tmp_path / "out" / "a.onnx.sarif").read_bytes())["version"] == "2.1.0"
    assert 'href="./a.onnx.html"' in (tmp_path / "out" / "index.html").read_text()
    assert quick.take() == ["a.onnx"]


# --- URLs --------------------------------------------------------------------------------------------------


def test_models_behind_a_url_are_fetched_processed_and_uploaded(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    put(tmp_path / "in" / "sub" / "a.onnx", 1, outlier=True, external="a.bin")
    put(tmp_path / "in" / "b.onnx", 2)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "in"), "/models", recursive=True)
    words = ["batch", "memory://models", "memory://models/out", "-q", "--no-validate", "-j1"]
    try:
        assert main(words) == 0
        records = {r.name: r for r in _remote_records("memory://models/out")}
        assert {name: r.pruned for name, r in records.items()} == {"sub/a.onnx": 1, "b.onnx": 0}
        (data,) = [name for name in records["sub/a.onnx"].files if name.endswith(".data")]
        assert memory.exists(f"/models/out/{data}")
        report = json.loads(memory.cat_file("/models/out/sub/a.onnx.json"))
        assert (report["input"]["path"], report["output"]["path"]) == ("in/sub/a.onnx", "out/sub/a.onnx")
        assert b"sub/a.onnx" in memory.cat_file("/models/out/index.html")
        memory.rm_file("/models/out/b.onnx")
        assert main(words) == 0
        again = {r.name: r.kept for r in _remote_records("memory://models/out")}
        assert again == {"sub/a.onnx": True, "b.onnx": False}
        assert memory.exists("/models/out/b.onnx")
    finally:
        memory.rm("/models", recursive=True)


def _remote_records(url: str) -> list[Record]:
    from onnx_clp.batch import journal

    with journal.opened(destinations.place(url)) as log:
        return list(log.past.records.values())


@pytest.mark.parametrize("url", ["nosuch://x", "s3nope://x/y"])
def test_an_unknown_protocol_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fsspec")
    assert main(["batch", url, "out"]) == 2
    said = capsys.readouterr().err
    assert f"{url}: cannot be opened: " in said
    assert said.count("\n") == 1
