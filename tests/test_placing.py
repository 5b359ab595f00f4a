"""Putting in place: what another model needs stays, two runs do not undo each other, and it is all or nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format

from onnx_clp import SaveError
from onnx_clp.cli.main import main
from onnx_clp.file.file_names import data_name, is_own_data
from onnx_clp.modelfile import reader, staged, staging, turn
from onnx_clp.process import signals
from tests.hostile.case import snapshot
from tests.hostile.networks import network

ROOT = Path(__file__).parent.parent
EXTERNAL = ("--no-validate", "-q", "--external-data", "always")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two models whose outputs have different data, in a folder that nothing is written to."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.onnx").write_bytes(network(64).SerializeToString())
    (inputs / "b.onnx").write_bytes(network(128).SerializeToString())
    made = tmp_path / "out"
    made.mkdir()
    return made


def write(folder: Path, name: str, output: str = "out.onnx", *options: str) -> int:
    return main([str(folder.parent / "in" / f"{name}.onnx"), str(folder / output), *EXTERNAL, *options])


def data(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.endswith(".data")}


def weights(path: Path) -> onnx.GraphProto:
    graph = onnx.load(path).graph
    for tensor in graph.initializer:
        tensor.ClearField("data_location")
    return graph


# --- data files of other models -------------------------------------------------------------------------


def test_a_renamed_output_keeps_its_data(folder: Path) -> None:
    assert write(folder, "a") == 0
    before = weights(folder / "out.onnx")
    (folder / "out.onnx").rename(folder / "first.onnx")
    for name in ("b", "a", "b"):
        assert write(folder, name, "out.onnx", "--overwrite") == 0
        assert weights(folder / "first.onnx") == before
    assert len(data(folder)) == 2


def _copied(folder: Path) -> None:
    (folder / "copy").write_bytes((folder / "out.onnx").read_bytes())


def _linked(folder: Path) -> None:
    (folder / "store").mkdir()
    (folder / "out.onnx").rename(folder / "store" / "real.onnx")
    (folder / "copy").symlink_to("store/real.onnx")
    (folder / "out.onnx").write_bytes((folder / "copy").read_bytes())


def _hard_linked(folder: Path) -> None:
    (folder / "store").mkdir()
    (folder / "store" / "copy").hardlink_to(folder / "out.onnx")


def _link_itself(folder: Path) -> None:
    (folder / "store").mkdir()
    (folder / "out.onnx").rename(folder / "store" / "real.onnx")
    (folder / "out.onnx").symlink_to("store/real.onnx")


def _as_text(folder: Path) -> None:
    model = onnx.load(folder / "out.onnx", load_external_data=False)
    (folder / "copy.textproto").write_text(text_format.MessageToString(model))


def _in_a_nested_graph(folder: Path) -> None:
    tensor = onnx.load(folder / "out.onnx", load_external_data=False).graph.initializer[0]
    inner = onnx.GraphProto(name="inner", initializer=[tensor])
    outer = onnx.ModelProto(ir_version=9, graph=onnx.GraphProto(name="outer"))
    outer.graph.node.add(op_type="If").attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH, g=inner)
    (folder / "copy").write_bytes(outer.SerializeToString())


@pytest.mark.parametrize(
    "refer", [_copied, _linked, _hard_linked, _link_itself, _as_text, _in_a_nested_graph], ids=lambda f: f.__name__
)
def test_data_that_another_model_refers_to_stays(folder: Path, refer: Callable[[Path], None]) -> None:
    assert write(folder, "a") == 0
    (kept,) = data(folder)
    content = (folder / kept).read_bytes()
    refer(folder)
    assert write(folder, "b", "out.onnx", "--overwrite") == 0
    assert (folder / kept).read_bytes() == content


def _nothing(folder: Path) -> None:
    pass


def _no_model(folder: Path) -> None:
    (folder / "notes.txt").write_text(f"mind {data(folder).pop()}")
    (folder / "empty.onnx").touch()
    (folder / "folder.onnx").mkdir()
    (folder / "gone.onnx").symlink_to("nowhere")


def _another_model(folder: Path) -> None:
    assert write(folder, "a", "other.onnx") == 0


@pytest.mark.parametrize("beside", [_nothing, _no_model, _another_model], ids=lambda f: f.__name__)
def test_data_that_only_the_replaced_model_needed_goes(folder: Path, beside: Callable[[Path], None]) -> None:
    assert write(folder, "a") == 0
    (old,) = data(folder)
    beside(folder)
    others = set(snapshot(folder)) - {"out.onnx", old}
    assert write(folder, "b", "out.onnx", "--overwrite") == 0
    (new,) = {name for name in data(folder) if name.startswith("out.onnx.")}
    assert new != old
    assert set(snapshot(folder)) == {"out.onnx", new} | others


def test_files_that_this_tool_did_not_name_stay(folder: Path) -> None:
    model = onnx.load(folder.parent / "in" / "a.onnx")
    onnx.save(model, folder / "out.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert write(folder, "b", "out.onnx", "--overwrite") == 0
    assert (folder / "weights.bin").exists()


def test_data_under_the_outputs_own_name_that_another_model_needs_is_not_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(folder, "a") == 0
    (name,) = data(folder)
    (folder / "out.onnx").rename(folder / "first.onnx")
    assert write(folder, "a") == 0  # the same bytes under the same name serve both
    (folder / name).write_bytes(b"x" * (folder / name).stat().st_size)
    before = snapshot(folder)
    assert write(folder, "a", "out.onnx", "--overwrite") == 2
    assert f"{folder / name}: holds data of another model; name another output" in capsys.readouterr().err
    assert snapshot(folder) == before
    (folder / "first.onnx").unlink()
    assert write(folder, "a", "out.onnx", "--overwrite") == 0
    assert weights(folder / "out.onnx").initializer


def test_without_a_lock_nothing_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    assert write(folder, "a") == 0
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert write(folder, "b", "out.onnx", "--overwrite") == 0
    assert len(data(folder)) == 2


# --- two runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_runs_with_one_output_the_last_to_finish_stays_whole(folder: Path, order: tuple[int, int]) -> None:
    assert write(folder, "a", "out.onnx", "--no-prune") == 0
    place = folder / "out.onnx"
    inputs = [folder.parent / "in" / f"{name}.onnx" for name in "ab"]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(reader.read(path, 1 << 30)) for path in inputs]
        stages = [stack.enter_context(staging.staging(place)) for _ in files]
        both = [stage(file, file.model, "always") for stage, file in zip(stages, files, strict=True)]
        for number in order:
            both[number].commit()
            assert weights(place) == weights(inputs[number])
    assert set(snapshot(folder)) == {"out.onnx", *data(folder)}
    assert len(data(folder)) == 1


def test_no_run_puts_anything_in_place_while_another_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins when the first has its data in place and its model not yet."""
    monkeypatch.setattr(turn, "PATIENCE_SECONDS", 0.1)
    place, source = folder / "out.onnx", folder.parent / "in" / "a.onnx"
    refused: list[str] = []

    def commit_other() -> None:
        with reader.read(source, 1 << 30) as file, staging.staging(place) as stage:
            try:
                stage(file, file.model, "always").commit()
            except SaveError as error:
                refused.append(str(error))

    put_data = staged.Staged._place_data

    def put_data_and_let_the_other_try(self: staged.Staged) -> Path | None:
        new = put_data(self)
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=commit_other)
            other.start()
            other.join()
        return new

    monkeypatch.setattr(staged.Staged, "_place_data", put_data_and_let_the_other_try)
    assert write(folder, "a") == 0
    (said,) = refused
    assert said.startswith(f"{folder}: another run has been putting files in place there")
    assert set(snapshot(folder)) == {"out.onnx", *data(folder)}
    monkeypatch.setattr(staged.Staged, "_place_data", put_data)
    commit_other()
    assert len(refused) == 1
    assert weights(place) == weights(source)


@pytest.mark.slow
def test_runs_that_race_for_one_output_leave_it_whole(folder: Path) -> None:
    code = (
        "import sys; from onnx_clp.cli.main import main; "
        "sys.exit(max(main([*sys.argv[1:], '--overwrite']) for _ in range(30)))"
    )
    output, environment = str(folder / "out.onnx"), {**os.environ, "PYTHONPATH": str(ROOT)}
    running = []
    for name in "ab":
        words = [str(folder.parent / "in" / f"{name}.onnx"), output, *EXTERNAL]
        running.append(subprocess.Popen([sys.executable, "-c", code, *words], env=environment))
    assert [process.wait(300) for process in running] == [0, 0]
    assert weights(folder / "out.onnx").initializer
    assert set(snapshot(folder)) == {"out.onnx", *data(folder)}
    assert len(data(folder)) == 1


def test_an_output_that_appeared_meanwhile_is_not_replaced_unasked(folder: Path) -> None:
    place = folder / "out.onnx"
    with reader.read(folder.parent / "in" / "a.onnx", 1 << 30) as file, staging.staging(place) as stage:
        ready = stage(file, file.model, "always")
        place.write_bytes(b"mine")
        with pytest.raises(SaveError, match="another program made it while this run worked"):
            ready.commit(overwrite=False)
        assert place.read_bytes() == b"mine"
        ready.commit(overwrite=True)
    assert weights(place).initializer


# --- names ----------------------------------------------------------------------------------------------


NAMES = (
    *(b"n\xe4me.onnx", b"a\\b.onnx", b"C:x.onnx", b"x" * 250 + b".onnx"),
    *("模型.onnx".encode(), "模".encode() * 80 + b".onnx"),
)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_of_an_output_will_do_with_external_data(name: bytes, folder: Path) -> None:
    output = os.fsdecode(name)
    assert write(folder, "a", output) == 0
    (first,) = data(folder)
    again = folder / "again.onnx"
    assert main([str(folder / output), str(again), *EXTERNAL]) == 0
    assert weights(again).initializer == weights(folder / output).initializer
    again.unlink()
    assert write(folder, "b", output, "--overwrite") == 0
    assert len({one for one in data(folder) if is_own_data(folder / output, one)}) == 1
    assert not (folder / first).exists()


def test_a_name_of_a_data_file_holds_the_models_whole_name() -> None:
    assert data_name(Path("x/out.onnx"), "0123456789") == "out.onnx.01234567.data"
    assert is_own_data(Path("out.onnx"), "out.onnx.01234567.data")
    for name in ("out.onnx.0123456.data", "out.onnx.0123456g.data", "out.onnxx01234567.data", "x.onnx.01234567.data"):
        assert not is_own_data(Path("out.onnx"), name)


# --- all or nothing -------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_placed_leaves_the_reports_as_they_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "old.json").write_text("{}")
    (folder / "out.onnx").write_bytes(b"old")
    before = snapshot(folder)

    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(staged.Staged, "_put_inplace", fail)
    words = ["--overwrite", "--report", str(folder / "old.json"), "--report", str(folder / "new.json")]
    assert write(folder, "a", "out.onnx", *words) == 2
    assert "out.onnx: cannot be written (Operation not permitted)" in capsys.readouterr().err
    assert snapshot(folder) == before


def test_a_report_that_cannot_be_placed_leaves_no_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "old.json").write_text("{}")
    before = snapshot(folder)
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if Path(target).name == "new.json":
            raise OSError(1, "Operation not permitted")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    words = ["--report", str(folder / "old.json"), "--report", str(folder / "new.json")]
    assert write(folder, "a", "out.onnx", *words) == 2
    assert "new.json: cannot write the report: Operation not permitted" in capsys.readouterr().err
    assert snapshot(folder) == before
    monkeypatch.undo()
    assert write(folder, "a", "out.onnx", *words) == 0
    assert {p.name for p in folder.iterdir()} == {"old.json", "new.json", "out.onnx", *data(folder)}
    assert (folder / "old.json").read_bytes() == (folder / "new.json").read_bytes()


def test_a_signal_during_the_last_step_comes_too_late(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = staged.Staged._put_inplace

    def put_and_raise(self: staged.Staged, overwrite: bool) -> None:
        put(self, overwrite)
        signals._State.came = 15  # what the handler notes inside `held`

    monkeypatch.setattr(staged.Staged, "_put_inplace", put_and_raise)
    assert write(folder, "a") == 0
    assert weights(folder / "out.onnx").initializer
