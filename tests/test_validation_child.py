"""The child process: whatever a model does, the parent lives, says why and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onnx_clp.config import RunLimits
from onnx_clp.errors import Interrupted, NotValidated, UsageError, ValidationFailed
from onnx_clp.process import child, interpreter, serve, standby
from onnx_clp.process.codec import encode
from onnx_clp.validation import Request, validate, worker
from onnx_clp.validation.provider import CPU
from onnx_clp.validation.request import VALIDATION
from tests.validation_models import network, save, text_model

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and /proc are Linux's")
LOOP = """g (float[1,4] x) => (float[1,4] y)
<int64 forever = {9223372036854775807}, bool yes = {1}> {
    y = Loop<body = b (int64 i, bool c, float[1,4] s) => (bool k, float[1,4] t) {
        k = Identity(c) t = Identity(s) }>(forever, yes, x)
}"""
BOMB = "g (float[1] x) => (float[n] y) <int64[1] s = {100000000000}> { z = ConstantOfShape(s) y = Add(z, x) }"
OVERFLOW = """g (int64[1] x) => (int64[1] y)
<int64[1] least = {-9223372036854775808}, int64[1] minus = {-1}> {
    z = Sub(x, x) a = Add(z, least) y = Div(a, minus) }"""


def children() -> list[str]:
    """Command lines of this process's living children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text(encoding="ascii", errors="replace")
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"PPid:\t{os.getpid()}\n" in status and "validation.request:VALIDATION" in line:
                found.append(line)
    return found


def request(original: Path, **options: object) -> Request:
    limits = RunLimits(**{"provider": "cpu", **options})  # type: ignore[arg-type]
    return Request(original=original, folded=None, final=None, limits=limits)


def test_outcome_comes_back_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original = save(network(folded=False), tmp_path / "original.onnx")
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    final = save(network(folded=True, tweak=0.0), tmp_path / "final.onnx")
    outcome = validate(Request(original=original, folded=folded, final=final, limits=RunLimits(provider="cpu")))
    assert outcome.validation.provider_used == CPU
    assert outcome.validation.fold_error is not None
    assert outcome.validation.fold_error < 1e-5
    assert outcome.validation.outcome == "validated"
    assert capfd.readouterr() == ("", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["final.onnx", "folded.onnx", "original.onnx"]


@pytest.mark.parametrize(("error", "options"), [(ValidationFailed, {}), (UsageError, {"output_name": "nope"})])
def test_errors_come_back_as_themselves(tmp_path: Path, error: type[Exception], options: dict[str, str]) -> None:
    original = save(network(folded=False), tmp_path / "original.onnx")
    wrong = save(network(folded=True, tweak=2.0), tmp_path / "wrong.onnx")
    asked = Request(original=original, folded=wrong, final=None, limits=RunLimits(provider="cpu"), **options)  # type: ignore[arg-type]
    with pytest.raises(error):
        validate(asked)


def test_endless_loop_ends_at_the_timeout(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(NotValidated, match=r"took longer than 1\.5 s; allow more with --timeout"):
        validate(request(text_model(LOOP, tmp_path), timeout=1.5))
    assert time.monotonic() - start < 5


@LINUX
def test_memory_bomb_is_not_validated(tmp_path: Path) -> None:
    with pytest.raises(NotValidated, match="needs more than 1 GiB of memory; allow more with --memory"):
        validate(request(text_model(BOMB, tmp_path), memory=1 << 30))


@pytest.mark.skipif(sys.platform == "win32" or os.uname().machine != "x86_64", reason="x86 traps this")
def test_trap_in_a_kernel_is_not_validated(tmp_path: Path) -> None:
    with pytest.raises(NotValidated, match=r"ONNX Runtime crashed on this model \(SIGFPE\)"):
        validate(request(text_model(OVERFLOW, tmp_path)))


def test_the_child_keeps_memory_from_session_to_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "import os, sys; sys.exit(' '.join(k for k in os.environ if k.startswith('MALLOC_')))")
    with pytest.raises(NotValidated) as caught:
        validate(request(save(network(folded=False), tmp_path / "original.onnx")))
    assert "MALLOC_TRIM_THRESHOLD_" in str(caught.value)
    assert "MALLOC_MMAP_THRESHOLD_" in str(caught.value)


def fake(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(standby, "command", lambda *_: [sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", r"crashed on this model \(SIGABRT\)"),
        ("import os; os.kill(os.getpid(), 11)", r"crashed on this model \(SIGSEGV\)"),
        ("import os; os.kill(os.getpid(), 9)", r"SIGKILL, often the system being out of memory"),
        (
            "import sys; sys.exit('first\\nlast \\x1b[31mline')",
            r"exit code 1 and no answer: last \\x1b\[31mline",
        ),
        ("print('not json')", "exit code 0 and no answer"),
        ("print('{}')", "exit code 0 and no answer"),
        ("print('[1]')", "exit code 0 and no answer"),
        ("import sys; sys.stderr.write('e' * 1000000); sys.exit(3)", "exit code 3"),
    ],
)
def test_every_bad_end_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    fake(monkeypatch, code)
    with pytest.raises(NotValidated, match=words) as caught:
        validate(request(save(network(folded=False), tmp_path / "original.onnx")))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@LINUX
def test_resident_memory_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "b = bytearray(b'x') * (300 << 20); import time; time.sleep(30)")
    start = time.monotonic()
    with pytest.raises(NotValidated, match=r"needs more than 0\.098 GiB of memory"):
        validate(request(save(network(folded=False), tmp_path / "original.onnx"), memory=100 << 20))
    assert time.monotonic() - start < 10


@LINUX
def test_interruption_leaves_no_child(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, interrupt)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(Interrupted):
            validate(request(text_model(LOOP, tmp_path)))
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
    assert children() == []


@LINUX
def test_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    original = text_model(LOOP, tmp_path)
    script = (
        "import sys, onnx_clp.validation as v; from pathlib import Path; "
        "v.validate(v.Request(original=Path(sys.argv[1]), folded=None, final=None))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, original], stderr=subprocess.DEVNULL)
    orphan = _wait_for(lambda: _child_of(parent.pid))
    parent.kill()
    parent.wait()
    _wait_for(lambda: not _alive(orphan))


def _child_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(text[0]) if text else 0


def _alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


def _wait_for(question: Callable[[], int]) -> int:
    deadline = time.monotonic() + 20
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


def test_command_keeps_the_current_folder_off_the_path() -> None:
    line = standby.command(1)
    assert line[:2] == [sys.executable, "-P"]
    assert line[-1] == "1"


def test_relative_path_entries_do_not_follow_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "here", "/there"]))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    env = interpreter.environment()
    assert env["PYTHONPATH"].split(os.pathsep) == [str(Path("here").absolute()), "/there"]
    assert "PYTHONINSPECT" not in env


def test_hostile_files_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "numpy", "onnxruntime", "json", "onnx_clp"):
        (tmp_path / f"{name}.py").write_text("import os; os.abort()", encoding="ascii")
    original = save(network(folded=False), tmp_path / "original.onnx")
    monkeypatch.chdir(tmp_path)
    assert validate(request(Path("original.onnx"))).validation.outcome == "validated"
    assert validate(request(original)).validation.outcome == "validated"


def test_default_cap_grows_with_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(1000))
    assert child.memory_cap(VALIDATION, request(path)) == (2 << 30) + 6000
    assert child.memory_cap(VALIDATION, request(path, model_bytes=10**9)) == (2 << 30) + 6 * 10**9
    assert child.memory_cap(VALIDATION, replace(request(path), eval_data=path)) == (4 << 30) + 6000
    assert child.memory_cap(VALIDATION, request(path, memory=5)) == 5


def test_worker_turns_lack_of_memory_into_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(worker, "validate", exhausted)
    answer = json.loads(serve.answer(VALIDATION, encode(request(tmp_path / "m.onnx")), 3 << 30))
    assert answer["error"] == "NotValidated"
    assert "m.onnx: not validated because it needs more than 3 GiB of memory" in answer["text"]


def test_worker_turns_what_a_library_raises_into_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise EOFError("Compressed\x1b file ended")

    monkeypatch.setattr(worker, "validate", broken)
    answer = json.loads(serve.answer(VALIDATION, encode(request(tmp_path / "m.onnx")), 3 << 30))
    assert answer["error"] == "NotValidated"
    assert "m.onnx: not validated because of an unexpected EOFError (Compressed\\x1b file ended)" in answer["text"]


def test_prints_of_libraries_do_not_reach_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "import os; os.write(1, b'EP Error'); print('banner')"
    hook = "import onnx_clp.validation.proof as p; real = p.prove; "
    wrapped = f"{hook}p.prove = lambda *a: (exec({noise!r}), real(*a))[1]"
    real = standby.command(os.getpid())
    real[real.index("-c") + 1] = standby.BOOTSTRAP.replace("main(int", f"{wrapped}; main(int")
    monkeypatch.setattr(standby, "command", lambda *_: real)
    original = save(network(folded=False), tmp_path / "original.onnx")
    assert validate(request(original)).validation.outcome == "validated"
