"""What is run again and what is not: by content of inputs and outputs, options, and who wrote what lies there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from onnx_clp.batch import fingerprint as marks
from onnx_clp.batch import launch, options, work
from onnx_clp.cli.main import main
from tests.batches import Quick, ends, events, put


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Quick:
    stand_in = Quick()
    monkeypatch.setattr(launch, "run", stand_in)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in" / "a.onnx", 1, outlier=True)
    put(tmp_path / "in" / "deep" / "b.onnx", 2)
    return stand_in


def batch(*words: str) -> int:
    return main(["batch", "in", "out", "-q", "-j1", "--no-validate", *words])


def test_outputs_and_reports_mirror_the_folders_of_the_input(quick: Quick, tmp_path: Path) -> None:
    assert batch() == 0
    out = tmp_path / "out"
    single = tmp_path / "single.onnx"
    assert main(["in/a.onnx", str(single), "-q", "--no-validate"]) == 0
    assert (out / "a.onnx").read_bytes() == single.read_bytes()
    assert onnx.load(out / "deep" / "b.onnx").graph.node[0].op_type == "Conv"
    report = json.loads((out / "deep" / "b.onnx.json").read_bytes())
    assert (report["input"]["path"], report["summary"]["verdict"]) == (
        str(tmp_path / "in" / "deep" / "b.onnx"),
        "nothing found",
    )
    found = ends(out)
    assert {name: (one["verdict"], one["pruned"]) for name, one in found.items()} == {
        "a.onnx": ("unusual", 1),
        "deep/b.onnx": ("nothing found", 0),
    }
    assert set(found["a.onnx"]["files"]) == {"a.onnx", "a.onnx.json"}
    assert quick.take() == ["a.onnx", "b.onnx"]


def test_nothing_runs_twice_without_a_change(quick: Quick, tmp_path: Path) -> None:
    assert batch() == 0
    quick.take()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.onnx*")}
    assert batch() == 0
    assert quick.take() == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.onnx*")} == before
    assert all(one["kept"] for one in ends(tmp_path / "out").values())


def _change_input(folder: Path) -> None:
    put(folder / "in" / "a.onnx", 7)


def _touch_input(folder: Path) -> None:
    os.utime(folder / "in" / "a.onnx", (1, 1))


def _change_output(folder: Path) -> None:
    with (folder / "out" / "a.onnx").open("ab") as stream:
        stream.write(b"x")


def _remove_output(folder: Path) -> None:
    (folder / "out" / "a.onnx").unlink()


def _remove_report(folder: Path) -> None:
    (folder / "out" / "a.onnx.json").unlink()


def _remove_index(folder: Path) -> None:
    (folder / "out" / "index.html").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_change_input, ["a.onnx"]),
        (_touch_input, []),
        (_change_output, ["a.onnx"]),
        (_remove_output, ["a.onnx"]),
        (_remove_report, ["a.onnx"]),
        (_remove_index, []),
    ],
)
def test_what_changed_and_only_that_runs_again(
    quick: Quick, tmp_path: Path, change: Callable[[Path], None], expected: list[str]
) -> None:
    assert batch() == 0
    good = (tmp_path / "out" / "a.onnx").read_bytes()
    quick.take()
    change(tmp_path)
    assert batch() == 0
    assert quick.take() == expected
    assert ((tmp_path / "out" / "a.onnx").read_bytes() == good) == (change is not _change_input)
    assert (tmp_path / "out" / "index.html").exists()


def test_changed_external_data_runs_again(quick: Quick, tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.onnx", 1, external="weights.bin")
    assert batch() == 0
    assert quick.take() == ["a.onnx", "b.onnx"]
    assert batch() == 0
    assert quick.take() == []
    data = tmp_path / "in" / "weights.bin"
    content = bytearray(data.read_bytes())
    content[3] ^= 1
    data.write_bytes(content)
    assert batch() == 0
    assert quick.take() == ["a.onnx"]


def test_external_data_of_an_output_is_part_of_it(quick: Quick, tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.onnx", 1, external="weights.bin")
    assert batch() == 0
    (data,) = [name for name in ends(tmp_path / "out")["a.onnx"]["files"] if name.endswith(".data")]
    quick.take()
    (tmp_path / "out" / data).unlink()
    assert batch() == 0
    assert quick.take() == ["a.onnx"]
    assert (tmp_path / "out" / data).exists()


@pytest.mark.parametrize("copied", [True, False])
def test_stale_data_goes_unless_another_model_there_refers_to_it(quick: Quick, tmp_path: Path, copied: bool) -> None:
    put(tmp_path / "in" / "a.onnx", 1, external="weights.bin")
    assert batch() == 0
    out = tmp_path / "out"
    (data,) = [name for name in ends(out)["a.onnx"]["files"] if name.endswith(".data")]
    assert quick.take() == ["a.onnx", "b.onnx"]
    if copied:
        (out / "kept.onnx").write_bytes((out / "a.onnx").read_bytes())
    (tmp_path / "in" / "a.onnx").write_bytes(b"no model")
    assert batch() == 2
    assert not (out / "a.onnx").exists()
    assert (out / data).exists() is copied
    if copied:
        assert onnx.load(out / "kept.onnx").graph.initializer


def test_a_record_names_only_data_that_its_model_refers_to(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stray = tmp_path / "out" / "a.onnx.01234567.data"
    stray.write_bytes(b"x")
    put(tmp_path / "in" / "a.onnx", 1, external="weights.bin")
    assert batch() == 0
    assert quick.take() == ["a.onnx", "b.onnx"]
    names = ends(tmp_path / "out")["a.onnx"]["files"]
    assert stray.name not in names
    assert sum(name.endswith(".data") for name in names) == 1


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["-u", "2.5"], True),
        (["-u", "3"], False),
        (["--layers", "all"], True),
        (["--jsonl"], False),
        (["-j", "2"], False),
    ],
    ids=str,
)
def test_options_that_decide_the_result_run_everything_again(quick: Quick, words: list[str], again: bool) -> None:
    assert batch() == 0
    quick.take()
    assert batch(*words) == 0
    assert quick.take() == (["a.onnx", "b.onnx"] if again else [])


def test_another_version_of_the_tool_runs_everything_again(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch() == 0
    quick.take()
    monkeypatch.setattr(options, "__version__", "99")
    assert batch() == 0
    assert quick.take() == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize("option", [["--eval"], ["--invert", "--images"]], ids=str)
def test_the_content_of_files_with_data_counts(option: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    data.write_bytes(b"one")
    words = ["in", "out", *option, str(data)]
    first = options.parse_batch(words).salt
    assert options.parse_batch(words).salt == first
    data.write_bytes(b"two")
    assert options.parse_batch(words).salt != first


def test_what_a_batch_did_not_write_is_left_alone(quick: Quick, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "a.onnx"
    mine.parent.mkdir()
    mine.write_bytes(b"my own")
    for _ in range(2):
        assert batch() == 2
        assert mine.read_bytes() == b"my own"
        assert "no batch wrote it" in ends(tmp_path / "out")["a.onnx"]["error"]
    assert quick.take() == ["b.onnx"]
    assert batch("--overwrite") == 0
    assert quick.take() == ["a.onnx"]
    assert onnx.load(mine).graph.node


def test_an_output_of_a_run_cut_short_is_the_batchs_own(quick: Quick, tmp_path: Path) -> None:
    assert batch() == 0
    journal = tmp_path / "out" / "onnx-clp-batch.jsonl"
    kept = [line for line in journal.read_text().splitlines(keepends=True) if '"end", "name": "a.onnx"' not in line]
    journal.write_text("".join(kept) + '{"event": "end", "name": "a.on')
    quick.take()
    assert batch() == 0
    assert quick.take() == ["a.onnx"]
    assert journal.read_text().count("\n") == len(journal.read_text().splitlines())
    assert batch() == 0
    assert quick.take() == []


def test_no_output_of_an_earlier_input_is_left_when_the_new_one_is_refused(quick: Quick, tmp_path: Path) -> None:
    assert batch() == 0
    (tmp_path / "in" / "a.onnx").write_text("not a model")
    assert batch() == 2
    out = tmp_path / "out"
    assert not (out / "a.onnx").exists()
    assert not (out / "a.onnx.json").exists()
    assert (out / "deep" / "b.onnx").exists()
    assert "a.onnx: not an ONNX model" in ends(out)["a.onnx"]["error"]
    quick.take()
    put(tmp_path / "in" / "a.onnx", 1)
    assert batch() == 0
    assert quick.take() == ["a.onnx"]


def test_a_dry_run_writes_reports_alone(quick: Quick, tmp_path: Path) -> None:
    assert batch("--dry-run") == 0
    assert not (tmp_path / "out" / "a.onnx").exists()
    assert (tmp_path / "out" / "a.onnx.json").exists()
    assert quick.take() == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize(
    ("code", "retry", "again"),
    [(2, False, True), (3, False, False), (4, False, False), (3, True, True), (4, True, True), (5, False, True)],
)
def test_failures_that_lie_in_the_model_are_kept_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, retry: bool, again: bool
) -> None:
    runs = []

    def failing(words: list[str], *_: object) -> launch.Ending:
        runs.append(words[0])
        return launch.Ending(code, False, "onnx-clp: error: because")

    monkeypatch.setattr(launch, "run", failing)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in" / "a.onnx")
    assert batch() == code
    assert ends(tmp_path / "out")["a.onnx"]["error"] == "because"
    assert batch(*["--retry"] * retry) == code
    assert len(runs) == 1 + again
    assert (code in work.KEPT) == (code in (0, 1, 3, 4))


def test_a_result_whose_data_files_were_not_all_seen_is_never_kept(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hides a data file from the fingerprint: the report's size tells."""
    put(tmp_path / "in" / "a.onnx", 1, external="weights.bin")
    path = tmp_path / "in" / "a.onnx"
    real = marks.fingerprint

    def half_blind(one: Path) -> marks.Fingerprint:
        found = real(one)
        return marks.Fingerprint(found.sha256, one.stat().st_size) if one == path else found

    monkeypatch.setattr(work, "fingerprint", half_blind)
    for _ in range(2):
        assert batch() == 0
        assert "a.onnx" in quick.take()
    assert ends(tmp_path / "out")["a.onnx"]["key"] == ""


def test_every_model_is_begun_before_it_ends(quick: Quick, tmp_path: Path) -> None:  # noqa: ARG001
    assert batch() == 0
    seen = [(event["event"], event["name"]) for event in events(tmp_path / "out")]
    assert seen == [("begin", "a.onnx"), ("end", "a.onnx"), ("begin", "deep/b.onnx"), ("end", "deep/b.onnx")]
