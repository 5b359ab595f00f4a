"""Networks cleaned as users clean them: by default, with caps, at high effort and as in the paper.

    {"name": …, "kind": …, "half": …, "attack": …, "target": …, "images": …, "rates": [ACC, ASR, RA],
     "search": {…}, "runs": {RUN: {"rates": […], "verdict": …, "seconds": CPU seconds, …}, …}}

Rates are shares in 0..1. `search` is what the search of the run at high effort said, class by class. A model and run
that are noted are not measured again; a later line of the same model wins, run by run.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_clp
from onnx_clp.document.run import Report
from onnx_clp.document.search import Inversion
from onnx_clp.document.validation import Rates
from tools.evidence import record
from tools.evidence.subject import Subject, read
from tools.zoo import datasets
from tools.zoo.datasets import Dataset
from tools.zoo.lineup import COLOUR
from tools.zoo.recipe import CLEAN
from tools.zoo.result import UNFOLDED

LOG = "effort.jsonl"
HIGH = "high"
RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "auto": {"bound_activations": 0.0},
    HIGH: {"effort": "high"},
    "paper": {"fill": "zero", "budget": 1.0},
}
"""Run -> its options for the library; as options none, `--bound-activations auto`, `--effort high`, `--paper`."""

IMAGES = 2000
"""Test images a model is measured on, at most."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network to clean: its file, its evaluation file and what is known of it.

    `kind` is its architecture and its data in a few words, or "" where others trained it. `attack` is a name of the
    zoo's or what its makers call theirs, "clean" for none, `target` the attacker's class (None: none, or several).
    `pixels` is the range of pixel values that it takes (None: 0 to 1).
    """

    name: str
    kind: str
    half: str
    attack: str
    target: int | None
    model: Path
    exam: Path
    pixels: tuple[float, float] | None = None


def of_zoo(subject: Subject, work: Path, data: Dataset, folder: Path) -> Case:
    """The case of a trained model; its evaluation file is written into `folder`."""
    made = subject.result.design
    exam = folder / "exam.npz"
    subject.evaluation(data, work, min(IMAGES, len(data.y_test))).save(exam)
    attack = f"{made.attack} {100 * made.rate:g} %" if made.infected else CLEAN
    target = made.target if made.infected else None
    model = work / f"{subject.name}{UNFOLDED}"
    return Case(subject.name, f"{made.architecture}, {made.dataset}", subject.half, attack, target, model, exam)


def measure_all(work: Path, data: Path, out: Path, runs: Sequence[str], seconds: float) -> None:
    """Measure what is missing of a trained zoo, clean networks at high effort alone, and note it in `out`."""
    for subject in read(work):
        noted = known(out).get(subject.name, {}).get("runs", {})
        wanted = [run for run in runs if run not in noted and (run == HIGH or not _small(subject))]
        if wanted and (subject.infected or subject.clean):
            with TemporaryDirectory() as folder:
                case = of_zoo(subject, work, datasets.load(subject.result.design.dataset, data), Path(folder))
                note(out, measure(case, wanted, seconds))


def _small(subject: Subject) -> bool:
    """Whether it is one of the many small clean networks, of which only the search is of interest."""
    return subject.clean and subject.result.design.recipe.name != COLOUR.name


def note(out: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the log of `out`."""
    record.note(out / LOG, line)


def known(out: Path) -> dict[str, dict[str, Any]]:
    """What is noted in `out`, by model: lines of one model put together, in the order in which models came."""
    return record.by_name(out / LOG)


def measure(case: Case, runs: Iterable[str], seconds: float) -> dict[str, Any]:
    """One line for a case; `seconds` is the wall-clock cap of a search."""
    line: dict[str, Any] = {key: getattr(case, key) for key in ("name", "kind", "half", "attack", "target")}
    line |= {"version": onnx_clp.__version__, "runs": {}}
    for run in runs:
        done, spent = cleaned(case, run, seconds)
        report = done.report
        assert report.evaluation is not None
        line |= {"images": report.evaluation.clean_images, "rates": shares(report.evaluation.before)}
        line["runs"][run] = outcome(report, spent)
        if run == HIGH:
            line["search"] = None if report.inversion is None else said(report.inversion)
    return line


def cleaned(case: Case, run: str, seconds: float) -> tuple[onnx_clp.CleanResult, float]:
    """What one run gave, and the CPU seconds that it took with its child processes."""
    before, options = _cpu(), RUNS[run] | ({"search_seconds": seconds} if run == HIGH else {})
    fixed: dict[str, Any] = {"provider": "cpu", "timeout": 7200.0, "eval_data": case.exam, "pixel_range": case.pixels}
    config = onnx_clp.CleanConfig(**fixed, **options)
    return onnx_clp.clean(case.model, config), _cpu() - before


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def shares(found: Rates) -> list[float | None]:
    """ACC, ASR and RA, rounded to 1e-4; None for what cannot be told."""
    return [None if value is None else round(value, 4) for value in (found.acc, found.asr, found.ra)]


def outcome(report: Report, spent: float) -> dict[str, Any]:
    """What is noted of one run, `spent` being its CPU seconds."""
    assert report.evaluation is not None
    caps = report.caps
    return {
        "rates": shares(report.evaluation.after),
        "verdict": report.summary.verdict.value,
        "pruned": report.summary.channels_pruned,
        "caps": None if caps is None or not caps.capped else caps.times,
        "seconds": round(spent, 1),
    }


def said(found: Inversion) -> dict[str, Any]:
    """What a search said and did, in plain values; `z` and `flip` by class and form."""
    repair = found.repair
    return {
        "likely": found.likely,
        "nearest": found.nearest,
        "z": {str(one.target): {form.kind: round(form.z, 2) for form in one.forms} for one in found.results},
        "flip": {str(one.target): {form.kind: round(form.flip, 3) for form in one.forms} for one in found.results},
        "repair": None if repair is None else [repair.quantile, repair.directions, repair.flip, repair.agreement],
        "note": found.repair_note,
        "unfinished": found.unfinished,
    }
