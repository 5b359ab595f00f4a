"""How far a run has come, as the pipeline reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Tick = Callable[[str, int, int], None]
"""Takes word of progress: the stage, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of `stage` are finished (0 <= done <= total; a total of 0 means unknown)."""

    stage: str
    done: int
    total: int
