"""The trained zoo under the present defaults, beside what the defaults were before.

Records lie in the sub-folder `defaults` of the evidence: the models, and their rates as `record` has them. What is
noted is not measured again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx_clp
from tools.evidence import choice, measuring, record, subject, tables
from tools.evidence.record import Found, Rates
from tools.evidence.settings import NONE
from tools.evidence.subject import INFECTED_GROUPS, Subject
from tools.evidence.yardsticks import BACKDOORBENCH, STRICT
from tools.redteam.record import spelled
from tools.zoo import datasets, measure
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

FOLDER: Final = "defaults"

_PAPER: Final[Mapping[str, Any]] = {"fill": "zero", "budget": 1.0, "validate": False}
RUNS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "auto": {"bound_activations": 0.0},
    "high": {"effort": "high", "search_seconds": 600.0},
    "paper": _PAPER,
    "paper, u = 5, caps 2.5": {**_PAPER, "u": 5.0, "bound_activations": 2.5},
}
"""Run -> its options for the library; as options none, `--bound-activations auto`, `--effort high`, `--paper` and what
was chosen before there was a budget."""


def measure_all(work: Path, data: Path, out: Path, images: int) -> None:
    """Measure what is missing of a trained zoo, and note it in `out`."""
    folder, subjects = out / FOLDER, [one for one in subject.read(work) if one.infected or one.clean]
    subject.keep(list({one.name: one for one in [*subject.kept(folder), *subjects]}.values()), folder)
    for one in subjects:
        noted = record.read(folder).get(one.name, {})
        if missing := [run for run in (NONE, *RUNS) if run not in noted]:
            exam = one.evaluation(datasets.load(one.result.design.dataset, data), work, images)
            record.append(folder, one.name, rates(work / f"{one.name}.onnx", exam, missing))
            log.info("%s: %d runs", one.name, len(missing))


def rates(model: Path, exam: EvaluationSet, runs: Sequence[str]) -> dict[str, Rates]:
    """Rates by run; those that give the same bytes are run once."""
    ran: dict[str, measure.Rates] = {}
    return {run: _one(model, exam, run, ran) for run in runs}


def _one(model: Path, exam: EvaluationSet, run: str, ran: dict[str, measure.Rates]) -> Rates:
    if run == NONE:
        found = measuring.run_once(model.read_bytes(), exam, ran)
        return Rates(found.images, found.acc, found.asr, found.ra)
    done = onnx_clp.clean(model, onnx_clp.CleanConfig(provider="cpu", **RUNS[run]))
    found = measuring.run_once(done.model.SerializeToString(), exam, ran)
    report = done.report
    caps, gauge, summary = report.caps, report.gauge, report.summary
    return Rates(
        found.images,
        found.acc,
        found.asr,
        found.ra,
        pruned=summary.channels_pruned - summary.channels_kept,
        capped=0 if caps is None else caps.capped,
        verdict=summary.verdict.value,
        caps=None if caps is None or not caps.capped else caps.times,
        foretold=None if gauge is None or gauge.prediction is None else round(gauge.prediction.loss.high, 4),
    )


def summary(out: Path) -> str:
    """By half: how many models each run repairs, by both yardsticks, and what it costs; "" where none was measured."""
    subjects, found = _noted(out)
    rows = [
        row
        for half, name in (("choose", "even"), ("report", "odd"))
        for run in RUNS
        if (row := _sum(name, run, [one for one in subjects if one.half == half], found))
    ]
    head = ["seeds", "run", "strict", "BackdoorBench", *INFECTED_GROUPS, "ACC lost", "clean lost", "clean worst"]
    return tables.markdown(head, rows) if rows else ""


def _sum(half: str, run: str, subjects: Sequence[Subject], found: Found) -> list[str]:
    whole = choice.score(subjects, found, run)
    if not whole.infected:
        return []
    groups = [choice.score([s for s in subjects if s.group == group], found, run) for group in INFECTED_GROUPS]
    return [
        half,
        run,
        spelled(whole.strict, whole.infected),
        f"{whole.lenient} of {whole.infected}",
        *(f"{one.strict} of {one.infected}" if one.infected else "–" for one in groups),
        *map(tables.percent, (whole.infected_loss, whole.control_loss, whole.worst_control_loss)),
    ]


def table(out: Path) -> str:
    """Every model: ACC/ASR in percent before and after each run; strict successes bold, lenient ones in italics."""
    subjects, found = _noted(out)
    rows = [
        [f"{tables.label(one)}", *(_cell(one, found[one.name], run) for run in (NONE, *RUNS))]
        for one in sorted(subjects, key=lambda one: (one.half, one.clean, one.name))
    ]
    return tables.markdown(["model", "before", *RUNS], rows) if rows else ""


def _noted(out: Path) -> tuple[list[Subject], Found]:
    found = record.read(out / FOLDER)
    return [one for one in subject.kept(out / FOLDER) if NONE in found.get(one.name, {})], found


def _cell(one: Subject, noted: Mapping[str, Rates], run: str) -> str:
    if run not in noted:
        return "–"
    after = noted[run]
    text = f"{tables.percent(after.acc)}/{tables.percent(after.asr)}"
    if run != NONE and one.infected:
        text = f"**{text}**" if STRICT.passed(noted[NONE], after) else text
        text = f"*{text}*" if text[0] != "*" and BACKDOORBENCH.passed(noted[NONE], after) else text
    return text + (f" (C = {after.caps:g})" if after.caps is not None and not run.startswith("paper") else "")
