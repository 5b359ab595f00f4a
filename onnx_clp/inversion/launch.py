"""The parent's side: start the child, pass its progress on, read its answer."""

from __future__ import annotations

import json
from collections.abc import Callable

from onnx_clp.errors import NotValidated, UnsupportedModelError, UsageError
from onnx_clp.inversion.request import Found, SearchRequest, found_from_json
from onnx_clp.validation.child import Errand, ask

Tick = Callable[[str, int, int], None]

_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from onnx_clp.inversion.worker import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
_ERRORS = {kind.__name__: kind for kind in (NotValidated, UnsupportedModelError, UsageError)}


def search(request: SearchRequest, tick: Tick) -> Found:
    """Search `request`'s model in a child process; `tick` hears of progress: stage, done, total.

    Raises:
        UsageError: the model is no classifier of images, or the images or an option do not fit it.
        UnsupportedModelError: an operator of it has no gradient rule.
        NotValidated: time or memory ran out, or the child crashed.
    """
    errand = Errand(
        _BOOTSTRAP,
        failed="not searched",
        instead="go without --invert and --synthesize",
        heard=lambda written: _pass_on(written, tick),
    )
    return ask(request, _answer, errand)


def _answer(text: str) -> Found:
    last = text.strip().rsplit("\n", 1)[-1]
    raw = json.loads(last)
    if "error" in raw:
        raise _ERRORS[raw["error"]](str(raw["text"]))
    return found_from_json(last)


def _pass_on(written: bytearray, tick: Tick) -> None:
    """Tell of the last whole tick among what was written."""
    end = written.rfind(b"\n")
    words = bytes(written[written.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)]).split()
    if len(words) == 4 and words[0] == b"tick":
        tick(words[1].decode(), int(words[2]), int(words[3]))
