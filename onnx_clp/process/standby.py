"""A child process that waits for its errand with the libraries loaded, so that no run waits for them.

A run that validates needs one child at least, and most often two. Each takes longer to load ONNX Runtime than a small
model takes to run. So the first is started before the model is analysed, and the next while the one before is at work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from onnx_clp.errors import NotValidated
from onnx_clp.process import interpreter

if TYPE_CHECKING:
    import subprocess

# Several sessions of one model follow each other: memory that one lets go is the next one's, and need not go back to
# the system and be zeroed again. Names are glibc's (mallopt(3)); other C libraries do not read them.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}

# The package's folder goes last: nothing that lies beside it can stand in for a library.
BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from onnx_clp.process.serve import main; main(int(sys.argv[2]))"


class Standby:
    """The child that waits, if there is one. It belongs to the thread that made it, as its end does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Start a child unless one waits; one that cannot be started is missed where it is needed."""
        if self._process is None:
            with contextlib.suppress(NotValidated):
                self._process = start()

    def take(self) -> subprocess.Popen[bytes] | None:
        """The child that waits, which is the caller's from now on; None where none does."""
        process, self._process = self._process, None
        if process is not None and process.poll() is not None:
            interpreter.end(process)
            return None
        return process

    def close(self) -> None:
        """End the child that still waits."""
        if (process := self.take()) is not None:
            interpreter.end(process)


_standby: ContextVar[Standby | None] = ContextVar("standby", default=None)


@contextlib.contextmanager
def standing_by(wanted: bool) -> Iterator[None]:
    """Have a child wait for whatever is asked of one within; nothing where none is `wanted`."""
    if not wanted:
        yield
        return
    ready = Standby()
    token = _standby.set(ready)
    try:
        ready.prepare()
        yield
    finally:
        _standby.reset(token)
        ready.close()


def taken(more: bool) -> subprocess.Popen[bytes]:
    """The child that waits, else a new one; where `more` are likely to be asked for, the next one starts.

    Raises:
        NotValidated: it could not be started.
    """
    ready = _standby.get()
    process = (ready and ready.take()) or start()
    if ready is not None and more:
        ready.prepare()
    return process


def command(parent: int) -> list[str]:
    """The child's command line: this interpreter, without the current folder on its path.

    Raises:
        NotValidated: this interpreter has no path.
    """
    line = interpreter.command(BOOTSTRAP, str(parent))
    if not line:
        raise NotValidated("the validation needs a Python interpreter to start, and this one has no path")
    return line


def start() -> subprocess.Popen[bytes]:
    """Start a child that reads its errand from stdin.

    Raises:
        NotValidated: it could not be started.
    """
    import subprocess

    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command(os.getpid()),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=interpreter.HOME,
            env={**interpreter.environment(), **_KEEP_MEMORY},
            start_new_session=True,
        )
    except OSError as error:
        from onnx_clp.text import quoted

        raise NotValidated(f"the validation process could not be started: {quoted(error)}") from error
