"""What the tool did to edited files, one JSON line each, and the tables made from that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from onnx_clp.errors import LoadError

SETTLED: Final = 10.0
"""ASR in per cent below which a trigger is taken out."""
LOST: Final = 0.5
"""Points of ACC that taking it out may cost."""
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Record:
    """One file.

    Attributes:
        base, edit, seed: the network it was written into, the edit ("" for none), and its seed.
        half: "settings" where limits were chosen on the network, else "report".
        found: the kinds of the findings that name something.
        right: whether the class named is the edit's.
        acc_before, asr_before, acc_after, asr_after: in per cent.
        seconds: of CPU, the whole run.
    """

    base: str
    edit: str
    seed: int
    half: str
    found: tuple[str, ...]
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
    """The records of a file; none where there is no file.

    Raises:
        LoadError: a line is no record.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            held = json.loads(line)
            found.append(Record(**{**held, "found": tuple(held["found"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise LoadError(f"{path}: line {number} is no record; measure again into a new file") from error
    return found


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


def spelled(hits: int, total: int) -> str:
    """A count with its interval: "7 of 8 (53 to 98 %)"."""
    low, high = wilson(hits, total)
    return f"{hits} of {total} ({100 * low:.0f} to {100 * high:.0f} %)"
