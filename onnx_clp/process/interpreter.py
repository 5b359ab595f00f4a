"""A fresh interpreter of this package: its command line, its environment, its end.

A child is started with exec (a forked one would inherit locks and CUDA state), in a session of its own, without
the current folder on its path, and is never left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

HOME = Path(__file__).resolve().parent.parent


def command(code: str, *words: str) -> list[str]:
    """The command line that runs `code`: this interpreter, without the current folder on its path.

    `code` finds the folder this package lies in at sys.argv[1], and `words` behind it. Empty where the running
    interpreter has no path.
    """
    if not sys.executable:
        return []
    flags = ["-P"] + ["-s"] * sys.flags.no_user_site + ["-E"] * sys.flags.ignore_environment
    return [sys.executable, *flags, "-c", code, str(HOME.parent), *words]


def environment() -> dict[str, str]:
    """The child's environment: one hash seed, no thread pools beside ONNX Runtime's, no relative
    paths, no telemetry.
    """
    env = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    env["MALLOC_ARENA_MAX"] = "2"
    # ONNX Runtime's own builds report on models to their maker and leave an identifier on the disk.
    # Source: onnxruntime pull requests 27379 and 29843.
    env["ORT_DISABLE_TELEMETRY"] = env["ORT_TELEMETRY_DISABLED"] = "1"
    for name in ("PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONWARNINGS"):
        env.pop(name, None)
    folders = [str(Path(p).absolute()) for p in env.pop("PYTHONPATH", "").split(os.pathsep) if p]
    if folders:
        env["PYTHONPATH"] = os.pathsep.join(folders)
    return env


def die_with(parent: int, number: int = int(getattr(signal, "SIGKILL", signal.SIGTERM))) -> None:
    """On Linux, have the kernel send this process signal `number` when the thread that started it ends."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_parent_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, number)
    if os.getppid() != parent:
        os._exit(1)


def drain(pipe: IO[bytes], into: bytearray, limit: int) -> None:
    """Read to the end and keep the last `limit` bytes, so that a child that talks too much never blocks."""
    with contextlib.suppress(OSError, ValueError):
        while chunk := os.read(pipe.fileno(), 1 << 16):
            into += chunk
            del into[:-limit]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, the whole group, reap it and close the pipes."""
    if process.poll() is None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def signal_name(number: int) -> str:
    """A signal's name, with what SIGKILL most often means."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name}, often the system being out of memory" if name == "SIGKILL" else name
