"""The parent's side of an audit."""

from __future__ import annotations

from onnx_clp.audit.request import AUDIT, AuditRequest
from onnx_clp.document.audit import Audit
from onnx_clp.process.child import ask, ticks
from onnx_clp.process.progress import Tick


def audit(request: AuditRequest, tick: Tick) -> Audit:
    """Look for a dormant path in a child process; `tick` is called as the work goes on.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return ask(AUDIT, request, ticks(tick))
