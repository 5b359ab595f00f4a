"""How often a search names a class in a clean network, and how often the right one in an infected one, as tables.

The networks are those of `effort`. A class counts by its largest z of any form where a second form puts it 2.33 out as
well or that z is 5.5, else by that of its patch, and where one of its forms turns at least half of the images: what the
search itself goes by (`onnx_clp.inversion.finding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from onnx_clp.inversion.finding import CLEAR, LIMIT, TOGETHER
from tools.evidence.effort import HIGH
from tools.evidence.tables import markdown, percent
from tools.redteam.record import wilson
from tools.zoo.recipe import CLEAN

Line = Mapping[str, Any]

LEAST = 10
"""Networks of each kind that a table of shares by limit needs; of fewer it would say nothing."""

LIMITS = (2.0, 2.5, 3.0, LIMIT, 4.0, 5.0, 6.0)
_TURNED = 0.5


def searched(lines: Sequence[Line], *, clean: bool) -> list[Line]:
    """The clean networks that were searched, or the infected ones with one target."""
    kind = [line for line in lines if (line["attack"] == CLEAN) is clean and line.get("search")]
    return kind if clean else [line for line in kind if line["target"] is not None]


def furthest(line: Line) -> tuple[int | None, float]:
    """The class that lies furthest out, and its z; (None, 0) where no form turns half of the images into any."""
    found = line["search"]
    reached = [int(at) for at, flips in found["flip"].items() if max(flips.values(), default=0.0) >= _TURNED]
    far = {at: _sure(found["z"][str(at)]) for at in reached}
    nearest = max(far, key=lambda at: far[at], default=None)
    return nearest, 0.0 if nearest is None else far[nearest]


def _sure(z: Mapping[str, float]) -> float:
    """How far a class lies out by its forms, as far as these count."""
    ordered = sorted(z.values(), reverse=True)
    agreed = len(ordered) > 1 and ordered[1] >= TOGETHER
    return ordered[0] if agreed or ordered[0] >= CLEAR else z.get("patch", 0.0)


def false_alarms(lines: Sequence[Line]) -> str:
    """Clean networks by kind: how many, in how many a class is named, how far it lies out, what they lose."""
    clean = searched(lines, clean=True)
    if not clean:
        return ""
    kinds = sorted({line["kind"] for line in clean}, key=lambda kind: (not kind, kind))
    rows = [_alarm_row(kind or "trained elsewhere", [one for one in clean if one["kind"] == kind]) for kind in kinds]
    rows += [
        _alarm_row(f"**all of the {name} half**", here)
        for half, name in (("choose", "even"), ("report", "odd"))
        if (here := [one for one in clean if one["half"] == half])
    ]
    head = ["clean networks", "count", "ACC", "a class named", "median largest z", "largest", "ACC lost", "worst"]
    return markdown(head, [*rows, _alarm_row("**all**", clean)])


def named(search: Mapping[str, Any]) -> str:
    """The class that a search named and how far it lies from the others, or that only marks name it, for a table.

    A class within the limit counts as named by marks; no network of these tables was named by its row there.
    """
    likely = search["likely"]
    far = max(search["z"][str(likely)].values())
    return f"{likely}, {far:.1f}" if far > LIMIT else f"{likely}, by marks"


def _alarm_row(name: str, lines: Sequence[Line]) -> list[str]:
    far = [furthest(line)[1] for line in lines]
    lost = [line["rates"][0] - line["runs"][HIGH]["rates"][0] for line in lines]
    named = sum(line["search"]["likely"] is not None for line in lines)
    accuracy = [line["rates"][0] for line in lines]
    span = percent(min(accuracy)) if len(lines) == 1 else f"{percent(min(accuracy))} to {percent(max(accuracy))}"
    return [
        name,
        str(len(lines)),
        span,
        _share(named, len(lines)),
        f"{median(far):.1f}",
        f"{max(far):.1f}",
        percent(fmean(lost)),
        percent(max(lost)),
    ]


def _share(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return f"{hits} ({percent(low)} to {percent(high)} %)" if total > 9 else str(hits)


def roc(lines: Sequence[Line]) -> str:
    """By limit: clean networks in which a class lies beyond it, infected ones whose target lies furthest and beyond."""
    clean, infected = searched(lines, clean=True), searched(lines, clean=False)
    if min(len(clean), len(infected)) < LEAST:
        return ""
    rows = []
    for limit in LIMITS:
        wrong = sum(furthest(line)[1] > limit for line in clean)
        right = sum(furthest(line)[0] == line["target"] and furthest(line)[1] > limit for line in infected)
        mark = f"**{limit:g}**" if limit == LIMIT else f"{limit:g}"
        rows.append([mark, *_of(wrong, len(clean)), *_of(right, len(infected))])
    head = ["limit", "clean: a class beyond it", "95 %", "infected: the target furthest and beyond it", "95 %"]
    curve = f"Area under the curve of the largest z, clean against infected: {area(lines):.2f}."
    return f"{markdown(head, rows)}\n\n{curve}"


def _of(hits: int, total: int) -> list[str]:
    low, high = wilson(hits, total)
    return [f"{hits} of {total}", f"{percent(low)} to {percent(high)}"]


def area(lines: Sequence[Line]) -> float:
    """Share of pairs of an infected and a clean network in which the infected one's largest z is larger; ties half."""
    low = [furthest(line)[1] for line in searched(lines, clean=True)]
    high = [furthest(line)[1] for line in searched(lines, clean=False)]
    return fmean((b > a) + 0.5 * (a == b) for a in low for b in high)
