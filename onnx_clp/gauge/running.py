"""What every child does that runs a model on ordinary inputs: take an engine, keep to its memory, say why it failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from onnx_clp.errors import NotValidated
from onnx_clp.process.errand import Asked
from onnx_clp.process.serve import limit_memory
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.refusal import leaves_open, meaning
from onnx_clp.validation.session import FailureKind, RunError

_Answer = TypeVar("_Answer")


def capped(request: Asked, cap: int, instead: str, work: Callable[[Engine], _Answer]) -> _Answer:
    """What `work` gives, on the request's engine and within `cap` bytes of memory; `instead` ends a refusal.

    Raises:
        NotValidated: the model does not run.
        MemoryError: it needs more.
    """
    from onnx_clp.validation.provider import choose

    engine = choose(request.limits.provider)
    if not engine.on_gpu:
        limit_memory(cap)
    try:
        return work(engine)
    except RunError as error:
        if error.kind is FailureKind.MEMORY:
            raise MemoryError(str(error)) from error
        assert request.written is not None
        guessed = leaves_open(anatomy_of(read_skeleton(request.written)).inputs, request.limits.shapes)
        cause, cure = meaning(error, engine.version, sizes_open=guessed)
        raise NotValidated(f"{cause}; {f'{cure}, or ' if cure else ''}{instead}") from error
