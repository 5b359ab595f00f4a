"""How far a run has come: what the pipeline tells whoever listens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of `stage` are finished (0 <= done <= total; a total of 0 means unknown)."""

    stage: str
    done: int
    total: int
