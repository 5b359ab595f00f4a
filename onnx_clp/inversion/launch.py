"""The parent's side: start the child, pass its progress on, read its answer."""

from __future__ import annotations

from collections.abc import Callable

from onnx_clp.inversion.request import SEARCH, Found, SearchRequest
from onnx_clp.process.child import ask

Tick = Callable[[str, int, int], None]


def search(request: SearchRequest, tick: Tick) -> Found:
    """Search `request`'s model in a child process; `tick` hears of progress: stage, done, total.

    Raises:
        UsageError: the model is no classifier of images, or the images or an option do not fit it.
        UnsupportedModelError: an operator of it has no gradient rule.
        NotValidated: time or memory ran out, or the child crashed.
    """
    return ask(SEARCH, request, lambda written: _pass_on(written, tick))


def _pass_on(written: bytearray, tick: Tick) -> None:
    """Tell of the last whole tick among what was written."""
    end = written.rfind(b"\n")
    words = bytes(written[written.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)]).split()
    if len(words) == 4 and words[0] == b"tick":
        tick(words[1].decode(), int(words[2]), int(words[3]))
