"""What the tool did to edited files, one JSON line each, and the tables made from that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SETTLED: Final = 10.0
"""ASR in per cent below which a trigger is taken out."""
LOST: Final = 0.5
"""Points of ACC that taking it out may cost."""
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Record:
    """One file: base network, edit ("" for none), half, what was found, ACC and ASR in per cent before and after."""

    base: str
    edit: str
    seed: int
    half: str
    found: bool
    right: bool
    acc_before: float
    asr_before: float
    acc_after: float
    asr_after: float
    seconds: float

    @property
    def taken_out(self) -> bool:
        """Whether the trigger no longer works and little was lost."""
        return self.asr_after < SETTLED and self.acc_before - self.acc_after <= LOST


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no file."""
    if not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def add(path: Path, record: Record) -> None:
    """Append one."""
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(record)) + "\n")


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), both ends in 0..1; (0, 1) for nothing."""
    if not total:
        return 0.0, 1.0
    share, square = hits / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * (share * (1 - share) / total + square / (4 * total)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def rows(records: Sequence[Record]) -> Iterator[str]:
    """A Markdown table by edit, then the false alarms."""
    yield "| edit | files | found | right class | ASR before > after | points lost | taken out |"
    yield "|---|---|---|---|---|---|---|"
    edits = sorted({record.edit for record in records} - {""})
    for edit in edits:
        yield _row(edit, [one for one in records if one.edit == edit])
    if edits:
        yield _row("all", [one for one in records if one.edit])
    clean = [one for one in records if not one.edit]
    yield ""
    yield f"Unedited files with a finding: {spelled(sum(one.found for one in clean), len(clean))}."


def _row(name: str, some: Sequence[Record]) -> str:
    mean = {field: sum(getattr(one, field) for one in some) / len(some) for field in ("asr_before", "asr_after")}
    lost = sum(one.acc_before - one.acc_after for one in some) / len(some)
    counts = " | ".join(
        spelled(sum(bool(getattr(one, field)) for one in some), len(some)) for field in ("found", "right")
    )
    out = spelled(sum(one.taken_out for one in some), len(some))
    return (
        f"| {name} | {len(some)} | {counts} | {mean['asr_before']:.1f} > {mean['asr_after']:.1f} | {lost:.1f} | {out} |"
    )


def spelled(hits: int, total: int) -> str:
    """A count with its interval: "7 of 8 (53 to 98 %)"."""
    low, high = wilson(hits, total)
    return f"{hits} of {total} ({100 * low:.0f} to {100 * high:.0f} %)"
