"""The child's side: choose where to run, cap this process accordingly, and only then touch a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_clp.process.serve import Send, limit_memory
from onnx_clp.validation.request import Calibration, Outcome, Request

if TYPE_CHECKING:
    from onnx_clp.document.readings import Readings
    from onnx_clp.validation.provider import Engine


def validate(request: Request, cap: int, _: Send) -> Outcome:
    """Prove the request's models within `cap` bytes of memory; errors as `child.validate`."""
    from onnx_clp.validation.provider import choose

    engine = choose(request.limits.provider)
    rival = None
    if request.compare_providers:
        rival = engine if engine.on_gpu else choose("auto")
    if not engine.on_gpu and (rival is None or not rival.on_gpu):
        limit_memory(cap)
    return _prove(request, engine, cap, rival)


def _prove(request: Request, engine: Engine, cap: int, rival: Engine | None) -> Outcome:
    from onnx_clp.validation.proof import prove
    from onnx_clp.validation.runtime import load_runtime

    load_runtime().set_seed(request.limits.seed % (1 << 31))
    return prove(request, engine, cap, rival)


def calibrate(request: Calibration, cap: int, _: Send) -> Readings:
    """Measure the request's values within `cap` bytes of memory; errors as `child.calibrate`."""
    from onnx_clp.validation import calibrating
    from onnx_clp.validation.provider import choose

    engine = choose(request.limits.provider)
    if not engine.on_gpu:
        limit_memory(cap)
    return calibrating.calibrate(request, engine, cap)
