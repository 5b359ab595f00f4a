"""The parent's side: start the child, pass its progress on, read its answer."""

from __future__ import annotations

from onnx_clp.inversion.request import SEARCH, Found, SearchRequest
from onnx_clp.process.child import ask, ticks
from onnx_clp.process.progress import Tick


def search(request: SearchRequest, tick: Tick) -> Found:
    """Search `request`'s model in a child process; `tick` is called with a stage, what is done of it, and the total.

    Raises:
        UsageError: the model is no classifier of images, or the images or an option do not fit it.
        UnsupportedModelError: an operator of it has no gradient rule.
        NotValidated: time or memory ran out, or the child crashed.
    """
    return ask(SEARCH, request, ticks(tick))
