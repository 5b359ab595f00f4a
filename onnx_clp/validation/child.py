"""The parent's side: start a fresh interpreter, cap it, collect its answer, and never leave it behind.

The child is started with exec (a forked child would inherit locks and CUDA state), in a session of its own,
reads the request from stdin and answers on stdout with one JSON document. Whatever ends it (a signal, a
time or memory cap, its own exit) becomes `NotValidated` here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

from onnx_clp.config import GIB, Provider
from onnx_clp.document.readings import Readings
from onnx_clp.errors import NotValidated
from onnx_clp.process import interpreter
from onnx_clp.process.interpreter import drain, end, environment, signal_name
from onnx_clp.text import quoted
from onnx_clp.validation.request import (
    INSTEAD,
    NOT_DONE,
    Calibration,
    Outcome,
    Request,
    answer_from_json,
    memory_sentence,
    readings_from_json,
)

_Answer = TypeVar("_Answer")

_HOME = Path(__file__).resolve().parent
_BASE_MEMORY = 4 * GIB
_GPU_HOST_MEMORY = 4 * GIB
_MODEL_COPIES = 6
_MAX_ANSWER = 64 << 20
_MAX_STDERR = 16 << 10
_POLL_SECONDS = 0.1
# Several sessions of one model follow each other: memory that one lets go is the next one's, and need not go back to
# the system and be zeroed again. Names are glibc's (mallopt(3)); other C libraries do not read them.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(GIB), "MALLOC_TRIM_THRESHOLD_": str(4 * GIB)}

# The package's folder goes last: nothing that lies beside it can stand in for a library.
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from onnx_clp.validation.worker import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)


class Asked(Protocol):
    """What the parent needs to know of any request."""

    @property
    def original(self) -> Path: ...  # noqa: D102
    @property
    def written(self) -> Path | None: ...  # noqa: D102
    @property
    def provider(self) -> Provider: ...  # noqa: D102
    @property
    def timeout(self) -> float: ...  # noqa: D102
    @property
    def memory(self) -> int | None: ...  # noqa: D102
    @property
    def model_bytes(self) -> int | None: ...  # noqa: D102
    def to_json(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Errand:
    """What kind of child a request is for.

    Attributes:
        bootstrap: what it runs; it finds the package's folder, its parent and its memory cap in sys.argv.
        failed, instead: how a sentence says that it was not done, and what a user can do without it.
        heard: hears what the child has written so far, several times a second.
    """

    bootstrap: str = _BOOTSTRAP
    failed: str = NOT_DONE
    instead: str = INSTEAD
    heard: Callable[[bytearray], None] = lambda _: None


def validate(request: Request) -> Outcome:
    """Prove `request`'s models in a child process.

    Returns:
        What was proven and measured.

    Raises:
        ValidationFailed: folding changed the outputs, pruning changed their shape or type or made them
            non-finite, or the result breaks the ONNX specification where the input does not.
        NotValidated: time or memory ran out, the child crashed, or nothing here can run the input model.
        UsageError: the provider, a shape, the output's name or the evaluation file does not fit.
    """
    return ask(request, answer_from_json)


def calibrate(request: Calibration) -> Readings:
    """Run `request`'s model on the user's inputs in a child process, and measure the values it names.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or nothing here can run the model.
        UsageError: the provider does not work, or the file with inputs does not fit.
    """
    return ask(request, readings_from_json)


def ask(request: Asked, understand: Callable[[str], _Answer], errand: Errand | None = None) -> _Answer:
    """Send `request` to a child of its own, which is never left behind, and `understand` what it answers.

    Raises:
        NotValidated: time or memory ran out, or the child crashed.
        ClpError: what the child reports.
    """
    errand = errand or Errand()
    _require_text(request)
    cap = memory_cap(request)
    process = _start(command(os.getpid(), cap, errand.bootstrap))
    try:
        code, answer, complaints = _converse(process, request, cap, errand)
    finally:
        end(process)
    if code == 0:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return understand(answer.decode())
    raise NotValidated(f"{_shown(request)}: {errand.failed} because {_ending(code, complaints)}")


def _require_text(request: Asked) -> None:
    """ONNX Runtime takes the names of files as UTF-8 alone."""
    for path in (request.original, request.written or request.original):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise NotValidated(
                f"{quoted(path)}: not validated because ONNX Runtime opens no file whose name is not UTF-8; "
                "rename it, or go without a proof with --no-validate"
            ) from None


def memory_cap(request: Asked) -> int:
    """The child's memory cap in bytes: as asked, else 4 GiB and six times the model."""
    if request.memory is not None:
        return request.memory
    size = request.original.stat().st_size if request.model_bytes is None else request.model_bytes
    return _BASE_MEMORY + _MODEL_COPIES * size


def command(parent: int, cap: int, bootstrap: str = _BOOTSTRAP) -> list[str]:
    """The child's command line: this interpreter, without the current folder on its path."""
    if not sys.executable:
        raise NotValidated("the validation needs a Python interpreter to start, and this one has no path")
    return interpreter.command(bootstrap, str(parent), str(cap))


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=_HOME,
            env={**environment(), **_KEEP_MEMORY},
            start_new_session=True,
        )
    except OSError as error:
        raise NotValidated(f"the validation process could not be started: {quoted(error)}") from error


def _converse(process: subprocess.Popen[bytes], request: Asked, cap: int, errand: Errand) -> tuple[int, bytes, bytes]:
    """The child's exit code, its answer and what it said on stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    answer, complaints = bytearray(), bytearray()
    reader = threading.Thread(target=drain, args=(process.stdout, answer, _MAX_ANSWER), daemon=True)
    threads = [
        reader,
        threading.Thread(target=drain, args=(process.stderr, complaints, _MAX_STDERR), daemon=True),
        threading.Thread(target=_feed, args=(process.stdin, request.to_json().encode()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    _wait(process, reader, request, cap, errand, lambda: errand.heard(answer))
    for thread in threads:
        thread.join(timeout=5)
    return process.returncode, bytes(answer), bytes(complaints)


def _wait(
    process: subprocess.Popen[bytes],
    reader: threading.Thread,
    request: Asked,
    cap: int,
    errand: Errand,
    listen: Callable[[], None],
) -> None:
    deadline = time.monotonic() + request.timeout
    # ONNX Runtime on a GPU keeps gigabytes of libraries and pinned buffers in host memory.
    cpu_alone = request.provider == "cpu" and not (isinstance(request, Request) and request.compare_providers)
    resident_cap = cap if request.memory or cpu_alone else cap + _GPU_HOST_MEMORY
    while reader.is_alive() or process.poll() is None:
        listen()
        if time.monotonic() >= deadline:
            raise NotValidated(
                f"{_shown(request)}: {errand.failed} because it took longer than {request.timeout:g} s; "
                f"allow more with --timeout, or {errand.instead}"
            )
        if _resident(process.pid) > resident_cap:
            raise NotValidated(memory_sentence(request, resident_cap, errand.failed, errand.instead))
        reader.join(_POLL_SECONDS)
        if not reader.is_alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)


def _ending(code: int, complaints: bytes) -> str:
    if code < 0:
        return f"ONNX Runtime crashed on this model ({signal_name(-code)})"
    lines = [line for line in complaints.decode(errors="replace").splitlines() if line.strip()]
    said = f": {quoted(lines[-1])}" if lines else ""
    return f"the validation process ended with exit code {code} and no answer{said}"


def _shown(request: Asked) -> str:
    return quoted(request.original)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(data)


def _resident(pid: int) -> int:
    """Resident bytes of `pid`; 0 where the system does not say (not Linux, or the process is gone)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
