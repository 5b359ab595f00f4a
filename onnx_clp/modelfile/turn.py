"""Turns: of several runs that put files in place in one folder, one does so at a time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from onnx_clp.errors import SaveError
from onnx_clp.process import signals
from onnx_clp.text import shown_path

PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.02


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Hold the folder's turn; gives False, without waiting, where the system or the disk cannot lock a folder.

    Raises:
        SaveError: another run has held it for a minute.
        Interrupted: a signal came meanwhile, even inside `signals.held`.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (OSError, AttributeError):
            yield False
            return
        stack.callback(os.close, descriptor)  # which ends the lock too
        yield _locked(descriptor, folder)


def _locked(descriptor: int, folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return False
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise SaveError(
                    f"{shown_path(folder)}: another run has been putting files in place there for "
                    f"{PATIENCE_SECONDS:g} seconds; end it, or name an output in another folder"
                ) from None
            signals.check()
            time.sleep(_PAUSE_SECONDS)
        except OSError:  # a disk without locks
            return False
        else:
            return True
