"""The marked parts of docs/evidence.md, each made from the records of one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.evidence import record, settings, subject, tables
from tools.evidence.tables import Evidence


def all_parts(out: Path) -> Mapping[str, str]:
    """Every part by its name; one of which nothing was measured is empty.

    Raises:
        LoadError: a record cannot be read.
    """
    evidence = Evidence(tuple(subject.kept(out)), record.read(out))
    chosen = [setting.name for setting in evidence.chosen().values() if setting.form == "plain"]
    shown = list(dict.fromkeys([settings.PAPER, settings.CAPS, settings.BOTH, *chosen]))
    return {
        "models": tables.models(evidence),
        "not-taken": tables.not_taken(evidence),
        "rules": tables.rules(evidence),
        "architectures": tables.architectures(evidence, shown),
        "single": tables.single(evidence, shown),
        "grid": tables.grid(evidence),
        "unjudged": tables.unjudged(evidence),
    }
