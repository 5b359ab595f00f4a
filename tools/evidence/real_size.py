"""Published networks at real size with a backdoor planted in them (`tools.zoo.planted`), cleaned as users clean them.

    {"name": …, "attack": …, "half": …, "target": …, "network": …, "version": …, "photographs": …, "seconds_given": …,
     "published": {…}, "planted": {…}, "runs": {RUN: {"measured": {…}, "verdict": …, "seconds": CPU seconds, …}, …},
     "search": {…}}

`published`, `planted` and `measured` are `tools.zoo.planted.Measured`: ASR is of photographs that nothing was trained
on, the ACC that is compared is of all of them. A later line of the same network wins, run by run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import onnx_clp
from onnx_clp.document.run import Report
from onnx_clp.errors import LoadError
from tools.evidence import effort, record
from tools.evidence.effort import HIGH, Case
from tools.evidence.naming import named
from tools.evidence.record import Rates
from tools.evidence.tables import markdown, pair, percent
from tools.evidence.yardsticks import STRICT
from tools.redteam.record import wilson
from tools.zoo import planted
from tools.zoo.planted import Album
from tools.zoo.real_size import Plant
from tools.zoo.recipe import CLEAN

Line = Mapping[str, Any]

LOG = "realsize.jsonl"
RUNS = ("default", "auto", HIGH)
"""Of `effort.RUNS`."""

TAKEN, HARM = 0.9, 0.02
"""The attack took where ASR is at least this, and it cost no more of ACC on all photographs, in shares."""


def measure_all(work: Path, photographs: Path, out: Path, runs: Sequence[str], seconds: float, only: str = "") -> None:
    """Measure what is missing of the planted networks in `work` and note it in `out`; `only` one by its name."""
    for path in sorted(work.glob(f"{only or '*'}/{planted.RECORD}")):
        noted = known(out).get(path.parent.name, {}).get("runs", {})
        for run in runs:
            if run not in noted:
                note(out, measure(path.parent, photographs, run, seconds))


def known(out: Path) -> dict[str, dict[str, Any]]:
    """What is noted in `out`, by network: lines of one network put together."""
    return record.by_name(out / LOG)


def note(out: Path, line: Line) -> None:
    """Add a line to the log of `out`."""
    record.note(out / LOG, line)


def measure(folder: Path, photographs: Path, run: str, seconds: float) -> dict[str, Any]:
    """One line for one run on one planted network; `seconds` is the wall-clock cap of a search.

    Raises:
        LoadError: the folder's record cannot be read.
    """
    made = _record(folder)
    plant = Plant(**made["plant"])
    target = plant.target if plant.infected else None
    exam = folder / planted.EXAM
    case = Case(plant.name, plant.network, plant.half, plant.attack, target, folder / planted.MODEL, exam)
    done, spent = effort.cleaned(case, run, seconds)
    with done:
        report, model = done.report, done.model
    album = Album.read(photographs, plant.seed)
    measured = planted.measure(
        model, plant, album, planted.examined(plant, album), np.array(made["published_classes"], np.int64)
    )
    line: dict[str, Any] = {key: getattr(case, key) for key in ("name", "attack", "half", "target")}
    line |= {"network": plant.network, "version": onnx_clp.__version__, "photographs": len(album.labels)}
    line |= {"published": made["before"], "planted": made["after"]}
    line["runs"] = {run: {"measured": measured.as_dict(), **_said(report, spent)}}
    if run == HIGH:
        line["seconds_given"] = seconds
        line["search"] = None if report.inversion is None else effort.said(report.inversion)
    return line


def _said(report: Report, spent: float) -> dict[str, Any]:
    """What `effort` notes of a run, but for the rates, which are measured here."""
    return {key: value for key, value in effort.outcome(report, spent).items() if key != "rates"}


def _record(folder: Path) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads((folder / planted.RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{folder}: its record cannot be read ({error}); plant it again") from error
    return made


def table(lines: Sequence[Line]) -> str:
    """Networks by run: ACC on all photographs and ASR on those that nothing was trained on; strict successes bold.

    A run that was not measured shows as –.
    """
    here = counted(lines)
    if not here:
        return ""
    head = ["network", "half", "published", "before", *RUNS, "target", "named, z", "CPU s"]
    return markdown(head, [_row(line) for line in here])


def counted(lines: Sequence[Line]) -> list[Line]:
    """The clean twins, and the infected networks in which the attack took."""
    return [line for line in lines if line["attack"] == CLEAN or took(line)]


def took(line: Line) -> bool:
    """Whether the attack reaches `TAKEN` at no more than `HARM` on the published network's ACC."""
    harm = round(line["published"]["acc_all"] - line["planted"]["acc_all"], 9)
    return bool(line["planted"]["asr"] >= TAKEN and harm <= HARM)


def strict(line: Line, run: str) -> bool:
    """Whether a run repaired an infected network by the strict yardstick, ACC being that on all photographs."""
    after = line["runs"][run]["measured"]
    return line["attack"] != CLEAN and STRICT.passed(_rates(line, line["planted"]), _rates(line, after))


def _rates(line: Line, measured: Mapping[str, float]) -> Rates:
    return Rates(line["photographs"], measured["acc_all"], measured["asr"], measured["ra"])


def _row(line: Line) -> list[str]:
    runs, target = line["runs"], line["target"]
    return [
        f"{line['network']}, {line['attack']}",
        "looked at" if line["half"] == "choose" else "reported",
        percent(line["published"]["acc_all"]),
        _pair(line["planted"]),
        *(_after(line, run) for run in RUNS),
        "–" if target is None else str(target),
        _named(line),
        f"{runs[HIGH]['seconds']:.0f}" if HIGH in runs else "–",
    ]


def _pair(measured: Mapping[str, float]) -> str:
    return pair([measured["acc_all"], measured["asr"]])


def _after(line: Line, run: str) -> str:
    found = line["runs"].get(run)
    if found is None:
        return "–"
    caps = "" if found["caps"] is None else f" (C = {found['caps']:g})"
    text = _pair(found["measured"])
    return (f"**{text}**" if strict(line, run) else text) + caps


def _named(line: Line) -> str:
    found = line.get("search")
    if not found or not found["z"]:
        return "not judged"
    if found["likely"] is not None:
        return named(found)
    looked = "looked at" if str(line["target"]) in found["z"] else "not looked at"
    return "none" if line["target"] is None else f"none, target {looked}"


def summary(lines: Sequence[Line]) -> str:
    """Strict successes by run of the infected networks on which it was measured, each with its interval."""
    infected = [line for line in counted(lines) if line["attack"] != CLEAN]
    rows = [_sums(here, run) for run in RUNS if (here := [line for line in infected if run in line["runs"]])]
    return markdown(["run", "repaired", "95 %", "ACC lost, mean", "most"], rows) if rows else ""


def _sums(infected: Sequence[Line], run: str) -> list[str]:
    hits, total = sum(strict(line, run) for line in infected), len(infected)
    lost = [line["planted"]["acc_all"] - line["runs"][run]["measured"]["acc_all"] for line in infected]
    low, high = wilson(hits, total)
    return [
        run,
        f"{hits} of {total}",
        f"{percent(low)} to {percent(high)}",
        percent(fmean(lost)),
        percent(max(lost)),
    ]
