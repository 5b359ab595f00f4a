"""The parent's side of the gauge."""

from __future__ import annotations

from onnx_clp.gauge.request import DOSING, Dosed, DoseRequest
from onnx_clp.process.child import ask, ticks
from onnx_clp.process.progress import Tick


def dose(request: DoseRequest, tick: Tick) -> Dosed:
    """Find the dose that the budget allows in a child process; `tick` is called as the work goes on.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return ask(DOSING, request, ticks(tick))
