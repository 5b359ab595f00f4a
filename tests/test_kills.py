"""A run killed at any moment: the output is the old file or the new one, whole; what was told to stop cleans up."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import ModelProto

from onnx_clp.cli.main import main
from tests.hostile.networks import network

ROOT = Path(__file__).parent.parent
OLD = b"the file that was there before" * 1000
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
TEMPORARY = re.compile(r"\.out\.onnx\..*\.tmp(\.data|\.check)?")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Each run is forked from a process that has imported everything, so that its time goes into the run itself.
SERVER = """
import os, signal, sys
import rich, scipy.linalg
from onnx_clp.cli import main as cli
from onnx_clp.modelfile import reader, staging
from onnx_clp.report import files, terminal
from onnx_clp.run import analysis, assemble, pipeline
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no KeyboardInterrupt in what Python does between fork and the run
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        sys.stdin.readline()  # until then even a process that ended keeps its number
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0), os.dup2(null, 1)
    sys.argv = ["onnx-clp", *line.split()]
    cli.console()
"""


class Server:
    """Runs of the command line one after the other, each in a process that can be killed."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT
        )

    def start(self, *arguments: str) -> int:
        """Start a run; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(arguments) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        """Wait for the end of the run; its exit status, negative for a signal."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def stop(self) -> str:
        """End the server; everything its runs said on stderr."""
        return self._process.communicate(timeout=60)[1]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def large() -> ModelProto:
    """Nearly a megabyte of weights, with something to fold and to prune."""
    model = network(6_000)
    model.graph.initializer[0].doc_string = "x" * 100_000
    return model


@pytest.mark.parametrize(
    ("external", "kills"),
    [
        ("always", 14),
        pytest.param("never", 50, marks=pytest.mark.slow),
        pytest.param("always", 50, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_leaves_the_old_file_or_the_new_one(
    external: str, kills: int, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    source, output = folder / "in.onnx", folder / "out.onnx"
    source.write_bytes(large().SerializeToString())
    reports = tmp_path / "report.json"
    command = [str(source), str(output), "--no-validate", "--overwrite", "-q", "--external-data", external]
    command += ["--report", str(reports)]
    seconds = _complete_run(server, command, output)
    new = _files(folder)
    chance, seen = random.Random(4), Counter[str]()
    for _ in range(kills):
        number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        _start_again(folder, source)
        output.write_bytes(OLD)
        process = server.start(*command)
        time.sleep(chance.uniform(0, 1.1 * seconds))
        os.kill(process, number)
        seen[_check(server.status(), number, folder, new)] += 1
    assert seen["old"] >= kills // 10, seen  # the kills do fall into the run


def _complete_run(server: Server, command: list[str], output: Path) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        server.start(*command)
        assert server.status() == 0
        seconds.append(time.perf_counter() - start)
        assert output.stat().st_size > 10_000
    return min(seconds)


def _start_again(folder: Path, source: Path) -> None:
    for path in folder.iterdir():
        if path != source:
            path.unlink()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _check(status: int, number: signal.Signals, folder: Path, new: dict[str, bytes]) -> str:
    """Check what lies there after a kill; whether it is the "old" file or the "new"."""
    found = _files(folder)
    if number == signal.SIGKILL:  # nothing can clean up after that
        found = {name: data for name, data in found.items() if not TEMPORARY.fullmatch(name)}
    if found["out.onnx"] == OLD:
        assert status in (STATUS[number], -number)  # the latter where it came before the run listened
        # Killed between putting the data file in place and the model: the data file is there already, whole.
        data = {n: d for n, d in found.items() if n.endswith(".data")} if number == signal.SIGKILL else {}
        assert found == {"in.onnx": new["in.onnx"], "out.onnx": OLD} | {n: new[n] for n in data}
        return "old"
    assert status in (0, -signal.SIGKILL)  # once the model is in place, no other signal stops the run
    assert found == new
    return "new"


def test_nothing_but_one_line_is_said(tmp_path: Path) -> None:
    """Each signal, at moments over the whole run: one line that tells the truth, no temporary file, no traceback."""
    server, source, output = Server(), tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(large().SerializeToString())
    command = [str(source), str(output), "--no-validate", "--overwrite", "-q"]
    seconds = _complete_run(server, command, output)
    output.unlink()
    expected = Counter[str]()
    for step in range(24):
        process = server.start(*command)
        time.sleep(seconds * step / 24)
        os.kill(process, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[step % 3])
        if server.status() != 0:
            assert not output.exists()
            expected["onnx-clp: error: interrupted; nothing was written"] += 1
        assert {p.name for p in tmp_path.iterdir()} <= {"in.onnx", "out.onnx"}
        output.unlink(missing_ok=True)
    assert expected.total() >= 5
    said = Counter(server.stop().splitlines())
    # A run that is hit before it catches signals ends without a word.
    assert said <= expected
    assert sum(said.values()) >= sum(expected.values()) - 4


@pytest.mark.parametrize(("error", "said"), [("Interrupted(15)", False), ("ValueError(15)", True)])
def test_an_interruption_where_python_can_raise_nothing_prints_no_traceback(error: str, said: bool) -> None:
    lines = (
        "from onnx_clp.process import signals",
        "from onnx_clp.errors import Interrupted",
        "signals.catch(), signals.catch()",
        f"class Late: __del__ = lambda self: (_ for _ in ()).throw({error})",
        "Late()",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=ENVIRONMENT, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert (b"Traceback" in done.stderr) == said


@pytest.mark.slow
def test_kills_while_the_model_is_validated(tmp_path: Path) -> None:
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(network(64).SerializeToString())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(scratch)}
    chance = random.Random(5)
    start = time.perf_counter()
    assert main([str(source), str(output), "--provider", "cpu", "-q"]) == 0
    seconds, new = time.perf_counter() - start, output.read_bytes()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * 2:
        shutil.copy(source, output)
        arguments = [source, output, "--provider", "cpu", "-q", "--overwrite"]
        process = subprocess.Popen(
            [sys.executable, "-m", "onnx_clp", *map(str, arguments)], env=environment, stderr=subprocess.PIPE
        )
        time.sleep(chance.uniform(0.5, 1.0) * (seconds + 0.5))
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert b"Traceback" not in said
        assert output.read_bytes() in (source.read_bytes(), new)
        left = {p.name for p in tmp_path.iterdir()} - {"in.onnx", "out.onnx", "scratch"}
        assert number == signal.SIGKILL or not left
        assert all(TEMPORARY.fullmatch(name) for name in left)
        for name in left:
            (tmp_path / name).unlink()
        assert list(scratch.iterdir()) == []
