"""The parent's side: start a fresh interpreter, cap it, collect its answer, and never leave it behind.

The child is started with exec (a forked child would inherit locks and CUDA state), in a session of its own,
reads the request from stdin and answers on stdout in lines, the last of which is one JSON document. Whatever ends
it (a signal, a time or memory cap, its own exit) becomes `NotValidated` here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from onnx_clp import errors
from onnx_clp.config import GIB
from onnx_clp.errors import NotValidated
from onnx_clp.process import standby
from onnx_clp.process.codec import encode, restored
from onnx_clp.process.errand import Asked, Errand, model_bytes
from onnx_clp.process.interpreter import drain, end, signal_name
from onnx_clp.process.progress import Tick
from onnx_clp.text import quoted

_Answer = TypeVar("_Answer")

_GPU_HOST_MEMORY = 4 * GIB
_MODEL_COPIES = 6
_MAX_ANSWER = 64 << 20
_MAX_STDERR = 16 << 10
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Talk:
    """One child at work: the errand, the request, its memory cap, and what takes the text it has written so far."""

    errand: Errand[Any, Any]
    request: Asked
    cap: int
    hear: Callable[[bytearray], None]


def ask(errand: Errand[Any, _Answer], request: Asked, hear: Callable[[bytearray], None] = lambda _: None) -> _Answer:
    """Send `request` to a child of its own, which is never left behind, and give its answer.

    `hear` gets what the child has written so far, several times a second.

    Raises:
        NotValidated: time or memory ran out, or the child crashed.
        ClpError: what the child reports.
    """
    _require_text(errand, request)
    talk = _Talk(errand, request, memory_cap(errand, request), hear)
    process = standby.taken(errand.more)
    try:
        code, answer, complaints = _converse(process, talk)
    finally:
        end(process)
    if code == 0:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            return _understood(errand, answer.decode())
    raise NotValidated(errand.sentence(request, _ending(code, complaints)))


def ticks(tick: Tick) -> Callable[[bytearray], None]:
    """Reads a child's lines `tick stage done total` and passes the last whole one on."""

    def hear(written: bytearray) -> None:
        end = written.rfind(b"\n")
        words = bytes(written[written.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)]).split()
        if len(words) == 4 and words[0] == b"tick":
            tick(words[1].decode(), int(words[2]), int(words[3]))

    return hear


def _understood(errand: Errand[Any, _Answer], text: str) -> _Answer:
    """The last line's answer, or the documented error it reports, raised."""
    raw = json.loads(text.strip().rsplit("\n", 1)[-1])
    if "error" in raw:
        kind = getattr(errors, raw["error"])
        raise kind(str(raw["text"]))
    return restored(errand.answered, raw["answer"])


def _require_text(errand: Errand[Any, Any], request: Asked) -> None:
    """ONNX Runtime takes the names of files as UTF-8 alone."""
    for path in (request.original, request.written or request.original):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            cause = f"ONNX Runtime opens no file whose name is not UTF-8; rename it, or {errand.instead}"
            raise NotValidated(f"{quoted(path)}: {errand.failed} because {cause}") from None


def memory_cap(errand: Errand[Any, Any], request: Asked) -> int:
    """The child's memory cap in bytes: as asked, else what the errand spares and six times the model."""
    if request.limits.memory is not None:
        return request.limits.memory
    return errand.spare(request) + _MODEL_COPIES * model_bytes(request)


def _converse(process: subprocess.Popen[bytes], talk: _Talk) -> tuple[int, bytes, bytes]:
    """The child's exit code, its answer and what it said on stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    answer, complaints = bytearray(), bytearray()
    reader = threading.Thread(target=drain, args=(process.stdout, answer, _MAX_ANSWER), daemon=True)
    threads = [
        reader,
        threading.Thread(target=drain, args=(process.stderr, complaints, _MAX_STDERR), daemon=True),
        threading.Thread(target=_feed, args=(process.stdin, _asked(talk)), daemon=True),
    ]
    for thread in threads:
        thread.start()
    _wait(process, reader, talk, answer)
    for thread in threads:
        thread.join(timeout=5)
    return process.returncode, bytes(answer), bytes(complaints)


def _asked(talk: _Talk) -> bytes:
    """What the child reads: its memory cap and where its errand is found, then the request."""
    return f"{talk.cap} {talk.errand.home}\n{encode(talk.request)}".encode()


def _wait(process: subprocess.Popen[bytes], reader: threading.Thread, talk: _Talk, answer: bytearray) -> None:
    errand, limits = talk.errand, talk.request.limits
    deadline = time.monotonic() + limits.timeout
    # ONNX Runtime on a GPU keeps gigabytes of libraries and pinned buffers in host memory.
    resident_cap = talk.cap if limits.memory or talk.request.on_cpu else talk.cap + _GPU_HOST_MEMORY
    while reader.is_alive() or process.poll() is None:
        talk.hear(answer)
        if time.monotonic() >= deadline:
            cause = f"it took longer than {limits.timeout:g} s; allow more with --timeout, or {errand.instead}"
            raise NotValidated(errand.sentence(talk.request, cause))
        if _resident(process.pid) > resident_cap:
            raise NotValidated(errand.memory_sentence(talk.request, resident_cap))
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
