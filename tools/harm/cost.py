"""Run one command and print, as JSON, its exit status and what it cost (standard library only).

    python -m tools.harm.cost STDERR COMMAND ...

A process is charged with the memory of the one that starts it, so the bench, which holds the answers to many samples,
starts this small one in between.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def measured(command: Sequence[str], errors: str) -> dict[str, float]:
    """Run a command with its standard output discarded and its standard error in file `errors`.

    Gives `status` (of exit), `cpu` (user and system seconds, its own children's too) and `peak` (bytes resident, of the
    largest of these processes).
    """
    out, sink = os.open(os.devnull, os.O_WRONLY), os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, sink, 2)]
    child = os.posix_spawn(command[0], list(command), dict(os.environ), file_actions=actions)
    _, status, used = os.wait4(child, 0)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * _RSS_UNIT
    return {"status": os.waitstatus_to_exitcode(status), "cpu": cpu, "peak": peak}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[2:], sys.argv[1])))
