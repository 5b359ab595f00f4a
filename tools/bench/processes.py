"""Run commands in turn and say what each cost: CPU and wall seconds, and peak resident memory.

Standard library only: a process started here is charged with what this one holds, so this one holds little.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIB = 1 << 20
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: CPU seconds (user and system), wall seconds, peak resident bytes."""

    cpu: float
    wall: float
    peak: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A named command, and what to do before each of its runs (not measured)."""

    name: str
    command: tuple[str, ...]
    before: Callable[[], None] = lambda: None


def measure(command: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    """Run one command to its end, its output discarded.

    Raises:
        RuntimeError: it did not exit with 0.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    start = time.perf_counter()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
        variables = dict(os.environ) if environment is None else environment
        child = os.posix_spawn(command[0], list(command), variables, file_actions=actions)
    finally:
        os.close(null)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"exit status {os.waitstatus_to_exitcode(status)} from: {' '.join(command)}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * _RSS_UNIT)


def interleave(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Cost]]:
    """Run all contenders in turn, `rounds` times over, after one uncounted round that warms the page cache."""
    costs: dict[str, list[Cost]] = {c.name: [] for c in contenders}
    for turn in range(rounds + 1):
        for contender in contenders:
            contender.before()
            cost = measure(contender.command)
            if turn:
                costs[contender.name].append(cost)
    return costs


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure on its own."""
    return Cost(
        statistics.median(c.cpu for c in costs),
        statistics.median(c.wall for c in costs),
        int(statistics.median(c.peak for c in costs)),
    )
