"""The parent's side of an audit."""

from __future__ import annotations

from collections.abc import Callable

from onnx_clp.audit.request import AUDIT, Audited, AuditRequest
from onnx_clp.process.child import ask, ticks

Tick = Callable[[str, int, int], None]


def audit(request: AuditRequest, tick: Tick) -> Audited:
    """Look for a dormant path in a child process; `tick` hears of progress.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return ask(AUDIT, request, ticks(tick))
