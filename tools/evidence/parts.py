"""The marked parts of docs/evidence.md, each made from the records of one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tools.evidence import (
    colour,
    defaults,
    effort,
    evasion,
    experiments,
    fine_pruning,
    latency,
    naming,
    reactivation,
    real_size,
    record,
    scoring,
    settings,
    subject,
    tables,
    tac,
)
from tools.evidence.tables import Evidence


def all_parts(out: Path) -> Mapping[str, str]:
    """Every part by its name; one of which nothing was measured is empty.

    Raises:
        LoadError: a record cannot be read.
    """
    evidence = Evidence(tuple(subject.kept(out)), record.read(out))
    one = evidence.one_for_all()
    by_name = effort.known(out)
    runs, real = list(by_name.values()), list(real_size.known(out).values())
    shown = list(dict.fromkeys([settings.PAPER, settings.CAPS, settings.BOTH, *([one.name] if one else [])]))
    return {
        "headline": tables.headline(evidence),
        "models": tables.models(evidence),
        "not-taken": tables.not_taken(evidence),
        "rules": tables.rules(evidence),
        "architectures": tables.architectures(evidence, shown),
        "single": tables.single(evidence, shown),
        "grid": tables.grid(evidence),
        "folded": tables.folded(evidence, [settings.CAPS, settings.FOLDED[1], *reversed(settings.CALIBRATED)]),
        "unjudged": tables.unjudged(evidence),
        "spearman": experiments.spearman(tac.read(out), evidence.subjects),
        "seconds": experiments.seconds(record.lines(out / scoring.LOG)),
        "latency": experiments.latency(record.lines(out / latency.LOG)),
        "cifar": colour.table(runs),
        "cifar-sums": colour.summary(runs),
        "real-size": real_size.table(real),
        "real-size-sums": real_size.summary(real),
        "false-alarms": naming.false_alarms(runs),
        "naming": naming.roc(runs),
        "defaults": defaults.table(out),
        "defaults-sums": defaults.summary(out),
        "reactivation": reactivation.table(record.lines(out / reactivation.LOG)),
        "fine-pruning": fine_pruning.table(record.lines(out / fine_pruning.LOG), by_name),
        "evasion": experiments.evasion(record.lines(out / evasion.LOG)),
    }
