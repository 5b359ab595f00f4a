"""Signals that end a run in order: each becomes one `Interrupted`, never in the middle of what must not be cut.

Python runs a signal's handler in the main thread between two instructions, so an exception may come anywhere:
also between making a temporary file and noting its name. Such pairs of steps are put into `held()`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from onnx_clp.errors import Interrupted

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class _State:
    """The process has one: open `held` blocks, the signals caught, the one that came, what it will say."""

    depth = 0
    caught: tuple[int, ...] = ()
    came: int | None = None
    words = ""
    quiet = False


def catch() -> None:
    """From now on turn interrupt, termination and hang-up into `Interrupted`; main thread only.

    A signal that came in ignored (nohup, a shell's background job) stays ignored.
    """
    _State.came, _State.words = None, ""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    _State.caught = tuple(n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN)
    for number in _State.caught:
        signal.signal(number, _interrupt)
    if not _State.quiet:
        sys.unraisablehook, _State.quiet = _but_interruptions(sys.unraisablehook), True


def catch_again() -> None:
    """Take back the signals that `catch` caught and that a library has taken over since."""
    if _State.came is None:
        for number in _State.caught:
            signal.signal(number, _interrupt)


def ignore() -> None:
    """From now on ignore the signals that `catch` caught: nothing is left that they could stop."""
    for number in _State.caught:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Put off a signal that comes inside the block until its end; blocks nest."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if not _State.depth:
            check()


def check() -> None:
    """Raise `Interrupted` if a signal has come: one that was put off, or one that a library swallowed."""
    if _State.came is not None:
        error = Interrupted(_State.came)
        if _State.words:
            error.args = (_State.words,)
        raise error


def settle() -> None:
    """Everything is in place: forget a signal that came, and ignore what `catch` caught from now on."""
    ignore()
    _State.came = None


def tell(words: str) -> None:
    """Have an interruption say this from now on, instead of that nothing was written."""
    _State.words = words


def _but_interruptions(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Where Python can raise nothing, as in the callbacks of an import, `check` raises later what came there."""

    def hook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            report(unraisable)

    return hook


def _interrupt(number: int, frame: types.FrameType | Any) -> None:  # noqa: ARG001
    # One is enough: a second one must not cut short the cleaning up that the first one started.
    ignore()
    _State.came = number
    if not _State.depth:
        check()
