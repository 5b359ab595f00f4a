"""The child's main: cap itself, keep stdout for the answer alone, prove or calibrate, answer."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from onnx_clp.errors import ClpError, NotValidated, UsageError, ValidationFailed
from onnx_clp.process.interpreter import die_with
from onnx_clp.text import quoted
from onnx_clp.validation.request import (
    Calibration,
    Request,
    error_to_json,
    memory_sentence,
    outcome_to_json,
    readings_to_json,
)

if TYPE_CHECKING:
    from onnx_clp.validation.provider import Engine

_MAX_FILE = 1 << 20


def main(parent: int, cap: int) -> None:
    """The child of a validation (see `serve`); `cap` is its memory cap in bytes."""
    gc.disable()  # short-lived, and nothing large is ever in a cycle
    serve(parent, lambda text, _: answer(text, cap))


def serve(parent: int, work: Callable[[str, Callable[[str], None]], str]) -> None:
    """Read a request from stdin, write the answer to what was stdout; libraries' prints go to stderr.

    `parent` is the process id whose death ends this one. `work` gets the request's text and a function that writes
    to the parent at once; what it returns is written last.
    """
    answer_to = os.dup(1)
    os.dup2(2, 1)
    die_with(parent)
    _limit("RLIMIT_CORE", 0)
    with os.fdopen(answer_to, "wb") as out:

        def tell(said: str) -> None:
            out.write(said.encode())
            out.flush()

        tell(work(sys.stdin.buffer.read().decode(), tell))
    # Leave without tearing down: provider libraries are known to crash on the way out.
    sys.stderr.flush()
    os._exit(0)


def answer(text: str, cap: int) -> str:
    """The JSON answer to the JSON request `text`; every documented error becomes an answer too."""
    request = Calibration.from_json(text) or Request.from_json(text)
    try:
        return _work(request, cap)
    except (ValidationFailed, NotValidated, UsageError) as error:
        return error_to_json(error)
    except ClpError as error:
        return error_to_json(NotValidated(str(error)))
    except MemoryError:
        return error_to_json(NotValidated(memory_sentence(request, cap)))
    except RecursionError:
        shown = quoted(request.original)
        return error_to_json(NotValidated(f"{shown}: not validated because its graphs are nested too deep"))


def _work(request: Request | Calibration, cap: int) -> str:
    """Choose where to run, cap this process accordingly, and only then touch a model."""
    from onnx_clp.validation.provider import choose
    from onnx_clp.validation.runtime import load_runtime

    engine = choose(request.provider)
    rival = _rival(request, engine)
    if not engine.on_gpu and (rival is None or not rival.on_gpu):
        limit_memory(cap)
    if isinstance(request, Calibration):
        from onnx_clp.validation.calibrating import calibrate

        return readings_to_json(calibrate(request, engine, cap))
    from onnx_clp.validation.proof import prove

    load_runtime().set_seed(request.seed % (1 << 31))
    return outcome_to_json(prove(request, engine, cap, rival))


def _rival(request: Request | Calibration, engine: Engine) -> Engine | None:
    """What `engine` is to be compared with; None where that was not asked for."""
    from onnx_clp.validation.provider import choose

    if isinstance(request, Calibration) or not request.compare_providers:
        return None
    return engine if engine.on_gpu else choose("auto")


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
