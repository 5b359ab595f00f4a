"""Single runs as processes of their own: started, capped in time, and ended with whoever started them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_clp.errors import ClpError
from onnx_clp.process import interpreter

# The package's folder goes last: nothing that lies beside it can stand in for a library.
_CODE = (
    "import sys; sys.path.append(sys.argv[1]); from onnx_clp.batch.start import main; "
    "main(int(sys.argv[2]), sys.argv[3:])"
)
_MAX_STDERR = 16 << 10
_GRACE_SECONDS = 5.0


class Stopped(ClpError):
    """The batch is being stopped; the run was ended before its time."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: its exit status (negative: the signal), whether time was up, the last line it said."""

    code: int
    late: bool
    said: str


class _Live:
    """The process's runs that are under way, with the batch each belongs to, and the batches stopped."""

    lock = threading.Lock()
    runs: dict[subprocess.Popen[bytes], str] = {}  # noqa: RUF012 (one registry is meant)
    stopped: set[str] = set()  # noqa: RUF012


def run(words: Sequence[str], folder: Path | None, seconds: float, batch: str) -> Ending:
    """One single run with these command-line words, in `folder`.

    Raises:
        Stopped: `stop` ended it.
        OSError, ValueError: it cannot be started.
    """
    process = _start(words, folder, batch)
    said = bytearray()
    assert process.stderr is not None
    reader = threading.Thread(target=interpreter.drain, args=(process.stderr, said, _MAX_STDERR), daemon=True)
    try:
        reader.start()
        late = _wait(process, reader, seconds)
    finally:
        interpreter.end(process)
        with _Live.lock:
            del _Live.runs[process]
    reader.join(_GRACE_SECONDS)
    if batch in _Live.stopped:
        raise Stopped("the batch was stopped")
    return Ending(process.returncode, late, _last_line(bytes(said)))


def stop(batch: str) -> None:
    """End every run of `batch` in this process, politely first, and start no more of it."""
    with _Live.lock:
        _Live.stopped.add(batch)
        runs = [process for process, owner in _Live.runs.items() if owner == batch]
    for process in runs:
        with contextlib.suppress(OSError):
            process.terminate()
    for process in runs:
        _give_time(process)


def _start(words: Sequence[str], folder: Path | None, batch: str) -> subprocess.Popen[bytes]:
    with _Live.lock:
        if batch in _Live.stopped:
            raise Stopped("the batch was stopped")
        process = subprocess.Popen(
            interpreter.command(_CODE, str(os.getpid()), *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=interpreter.environment(),
            start_new_session=True,
        )
        _Live.runs[process] = batch
        return process


def _wait(process: subprocess.Popen[bytes], reader: threading.Thread, seconds: float) -> bool:
    # The pipe closes the moment the process ends; waiting for the process itself would poll.
    reader.join(seconds)
    late = reader.is_alive()
    if late:
        with contextlib.suppress(OSError):
            process.terminate()
    _give_time(process)
    return late


def _give_time(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
