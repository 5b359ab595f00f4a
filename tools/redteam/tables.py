"""The tables of `docs/redteam.md`, made from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.evidence import page
from tools.redteam.catalogue import ADAPTIVE, OTHERS
from tools.redteam.record import Record, spelled

OF_AUDIT: Final = ("path", "gate", "blinding")
"""The kinds of findings that the audit gives; others name something too, such as a head row that stands out."""


def fill(path: Path, records: Sequence[Record]) -> None:
    """Rewrite the page's marked parts."""
    page.fill(
        path,
        {
            "edits": "\n".join(table("edit", records, lambda one: one.edit)),
            "networks": "\n".join(table("network (half)", records, lambda one: f"{one.base} ({one.half})")),
            "summary": "\n".join(summary(records)),
        },
    )


def found(one: Record) -> bool:
    """Whether the audit found it."""
    return any(kind in OF_AUDIT for kind in one.found)


def table(name: str, records: Sequence[Record], key: Callable[[Record], str]) -> Iterator[str]:
    """Markdown rows, one for each value of `key`, and one for all."""
    yield f"| {name} | files | found | also a head row | right class | ACC before > after | ASR before > after | out |"
    yield "|---|---|---|---|---|---|---|---|"
    edited = [one for one in records if one.edit]
    for value in sorted({key(one) for one in edited}):
        yield _row(value, [one for one in edited if key(one) == value])
    if edited:
        yield _row("all", edited)


def _row(name: str, some: Sequence[Record]) -> str:
    def mean(field: str) -> str:
        return f"{sum(getattr(one, field) for one in some) / len(some):.1f}"

    counts = [
        sum(map(found, some)),
        sum("class that stands out" in one.found for one in some),
        sum(one.right for one in some),
    ]
    cells = [*map(str, [len(some), *counts]), f"{mean('acc_before')} > {mean('acc_after')}"]
    cells += [f"{mean('asr_before')} > {mean('asr_after')}", str(sum(one.taken_out for one in some))]
    return f"| {name} | {' | '.join(cells)} |"


def summary(records: Sequence[Record]) -> Iterator[str]:
    """The shares that count, each with its 95 % interval (Wilson)."""
    for title, halves in (("all networks", ("settings", "report")), ("the half that was only measured", ("report",))):
        some = [one for one in records if one.half in halves]
        every = [one for one in some if _is_path(one)]
        paths = [one for one in every if one.edit not in ADAPTIVE]
        gates = [one for one in some if one.edit.startswith("gate-") and one.edit not in ADAPTIVE]
        blinds = [one for one in some if one.edit in ("blinded", "false-statistics", "broken-gradient")]
        aimed = [one for one in some if one.edit in ADAPTIVE]
        parts = [
            f"paths found {_share(paths, found)}, taken out {_share(paths, lambda one: one.taken_out)}",
            f"gates found {_share(gates, found)}, taken out {_share(gates, lambda one: one.taken_out)}",
            f"blinding found {_share(blinds, found)}",
            f"edits that aim at the audit found {_share(aimed, found)}, "
            f"taken out {_share(aimed, lambda one: one.taken_out)}",
            f"all paths, aimed or not, found {_share(every, found)}, "
            f"taken out {_share(every, lambda one: one.taken_out)}",
        ]
        yield f"- On {title}: {'; '.join(parts)}."


def _is_path(one: Record) -> bool:
    return not one.edit.startswith("gate-") and one.edit not in OTHERS


def _share(some: Sequence[Record], holds: Callable[[Record], bool]) -> str:
    return spelled(sum(map(holds, some)), len(some))
