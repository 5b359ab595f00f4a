"""The networks of `effort` as a table: every run's ACC and ASR, with intervals, and what the search named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.evidence.effort import HIGH, RUNS
from tools.evidence.naming import furthest, named
from tools.evidence.record import Rates
from tools.evidence.tables import markdown, pair, percent
from tools.evidence.yardsticks import STRICT
from tools.redteam.record import wilson
from tools.zoo.recipe import CLEAN

Line = Mapping[str, Any]

DATA = "cifar10"


def table(lines: Sequence[Line]) -> str:
    """CIFAR-10 networks of which every run was measured; strict successes bold."""
    here = whole(lines)
    if not here:
        return ""
    head = ["network", "half", "before", *RUNS, "target", "named, z", "CPU s"]
    return markdown(head, [_row(line) for line in here])


def whole(lines: Sequence[Line]) -> list[Line]:
    """Those on CIFAR-10 of which every run was measured."""
    return [line for line in lines if line["kind"].endswith(DATA) and RUNS.keys() <= line["runs"].keys()]


def _row(line: Line) -> list[str]:
    runs, target = line["runs"], line["target"]
    return [
        f"{line['kind'].split(',')[0]}, {line['attack']}",
        "looked at" if line["half"] == "choose" else "reported",
        pair(line["rates"]),
        *(_after(line, runs[run]) for run in RUNS),
        "–" if target is None else str(target),
        _named(line),
        f"{runs[HIGH]['seconds']:.0f}",
    ]


def _after(line: Line, run: Mapping[str, Any]) -> str:
    caps = "" if run["caps"] is None else f" (C = {run['caps']:g})"
    text = pair(run["rates"])
    return (f"**{text}**" if strict(line, run) else text) + caps


def strict(line: Line, run: Mapping[str, Any]) -> bool:
    """Whether a run repaired an infected network by the strict yardstick."""
    before, after = (Rates(line["images"], *rates) for rates in (line["rates"], run["rates"]))
    return line["attack"] != CLEAN and STRICT.passed(before, after)


def _named(line: Line) -> str:
    found = line.get("search")
    if not found:
        return "not searched"
    if found["likely"] is not None:
        return named(found)
    nearest, z = furthest(line)
    return "none" if nearest is None else f"none ({nearest}, {z:.1f})"


def summary(lines: Sequence[Line]) -> str:
    """Strict successes by run and half, each with its interval."""
    infected = [line for line in whole(lines) if line["attack"] != CLEAN]
    if not infected:
        return ""
    rows = [
        [run, *_cells(infected, run), *_cells([one for one in infected if one["half"] == "report"], run)]
        for run in RUNS
    ]
    return markdown(["run", "all", "95 %", "reported half", "95 %"], rows)


def _cells(infected: Sequence[Line], run: str) -> list[str]:
    hits, total = sum(strict(line, line["runs"][run]) for line in infected), len(infected)
    low, high = wilson(hits, total)
    return [f"{hits} of {total}", f"{percent(low)} to {percent(high)}"]
