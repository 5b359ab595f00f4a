"""The child's side: cap itself, keep stdout for the answer alone, do the errand, answer."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from onnx_clp.errors import ClpError, NotValidated, UnsupportedModelError, UsageError, ValidationFailed
from onnx_clp.process.codec import decode, plain
from onnx_clp.process.errand import Asked, Errand, found
from onnx_clp.process.interpreter import die_with
from onnx_clp.text import quoted

Send = Callable[[str], None]
"""Sends one line to the parent at once."""

_MAX_FILE = 1 << 20
_RUNTIME = "onnx_clp.validation.runtime:load_runtime"


def main(parent: int) -> None:
    """Load the libraries, read an errand from stdin, do it, write the answer to what was stdout.

    The first line of stdin is the memory cap in bytes and where the errand is found; the request follows.
    Libraries' prints go to stderr. `parent` is the process id whose death ends this one.
    """
    gc.disable()  # short-lived, and nothing large is ever in a cycle
    answer_to = os.dup(1)
    os.dup2(2, 1)
    die_with(parent)
    _limit("RLIMIT_CORE", 0)
    with os.fdopen(answer_to, "wb") as out:

        def send(line: str) -> None:
            out.write(line.encode() + b"\n")
            out.flush()

        _load()
        cap, _, home = sys.stdin.buffer.readline().decode().strip().partition(" ")
        if home:  # else nothing was asked
            send(answer(found(home), sys.stdin.buffer.read().decode(), int(cap), send))
    # Leave without tearing down: provider libraries are known to crash on the way out.
    sys.stderr.flush()
    os._exit(0)


def _load() -> None:
    """Import what every errand needs; what fails here fails again, and is reported, where it is needed."""
    with contextlib.suppress(Exception):
        found("onnx:load")
        found(_RUNTIME)()


def answer(errand: Errand[Any, Any], text: str, cap: int, send: Send = lambda _: None) -> str:
    """The JSON answer to the JSON request `text`; every documented error becomes an answer too."""
    request = decode(errand.asked, text)
    try:
        return json.dumps({"answer": plain(found(errand.worker)(request, cap, send))})
    except ClpError as error:
        failure: ClpError = _named(errand, request, error)
    except MemoryError:
        failure = NotValidated(errand.memory_sentence(request, cap))
    except RecursionError:
        failure = NotValidated(errand.sentence(request, "its graphs are nested too deep"))
    except Exception as error:  # whatever a library raises on hostile data is a sentence too
        cause = f"of an unexpected {type(error).__name__} ({quoted(error)}); please report it, or {errand.instead}"
        failure = NotValidated(errand.sentence(request, cause))
    return json.dumps({"error": type(failure).__name__, "text": str(failure)})


def _named(errand: Errand[Any, Any], request: Asked, error: ClpError) -> ClpError:
    """The error as the parent is to raise it: of a kind it documents, the model named."""
    if isinstance(error, UsageError):
        return error
    text = errand.sentence(request, str(error)) if errand.names else str(error)
    kind = next((k for k in (ValidationFailed, UnsupportedModelError) if isinstance(error, k)), NotValidated)
    return (NotValidated if kind is UnsupportedModelError and not errand.names else kind)(text)


def limit_memory(cap: int) -> None:
    """Let this process map at most `cap` bytes more than it has mapped without touching them by now.

    Only for the CPU: CUDA reserves far more address space than it uses, so there the parent watches
    resident memory instead.
    """
    _limit("RLIMIT_FSIZE", _MAX_FILE)
    _limit("RLIMIT_AS", cap + _mapped_but_untouched())


def _mapped_but_untouched() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            mapped, resident = statm.read().split()[:2]
    except OSError:
        return 0
    return (int(mapped) - int(resident)) * os.sysconf("SC_PAGE_SIZE")


def _limit(name: str, value: int) -> None:
    """Lower a soft and hard limit where the system has it; a lower limit already set stays."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
