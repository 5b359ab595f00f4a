"""The part of the document that says how far a run went by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """One step beyond folding and scoring: "prune", "caps", "audit" or "search", whether it was `taken`, and why."""

    step: str
    taken: bool
    reason: str
