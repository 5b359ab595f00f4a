"""What a batch comes to: counts by outcome, the table at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from onnx_clp.batch.record import Record, worst
from onnx_clp.batch.work import SETTLED
from onnx_clp.document.run import Verdict
from onnx_clp.report.wording import plural
from onnx_clp.text import one_line, shown

MOST_LISTED = 20
OUTCOMES = {
    0: "done",
    1: "gate tripped",
    2: "refused",
    3: "wrong after the rewrite",
    4: "not validated",
    5: "crashed",
}
"""A word for each exit code of a single run."""


_RANKS: Final[Mapping[str, int]] = {
    Verdict.SUSPICIOUS: 0,
    Verdict.UNUSUAL: 2,
    Verdict.COULD_NOT_JUDGE: 3,
    Verdict.NOTHING_FOUND: 4,
}
"""A model without a verdict failed, and comes after the suspicious ones."""


@dataclass(slots=True)
class Tally:
    """The records so far, in the order they came."""

    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count one more."""
        self.records.append(record)

    @property
    def exit_code(self) -> int:
        """That of the worst model."""
        return worst({record.exit_code for record in self.records})

    @property
    def failed(self) -> int:
        """Models without a result."""
        return sum(record.exit_code not in SETTLED for record in self.records)

    @property
    def suspicious(self) -> int:
        """Models with evidence that names a class, a trigger, a path or a gate."""
        return self.verdicts(Verdict.SUSPICIOUS)

    def verdicts(self, verdict: Verdict) -> int:
        """How many models have this verdict."""
        return sum(record.verdict == verdict.value for record in self.records)

    def outcomes(self) -> list[tuple[str, int]]:
        """Each outcome that occurs, with its count; the good ones first."""
        counts = {code: sum(record.exit_code == code for record in self.records) for code in OUTCOMES}
        return [(OUTCOMES[code], count) for code, count in counts.items() if count]


def ranked(records: Sequence[Record]) -> list[Record]:
    """Suspicious models first, those with most evidence before the others; then those that failed, then the rest."""
    return sorted(records, key=lambda r: (_RANKS.get(r.verdict, 1), -len(r.found), -r.exit_code, -r.pruned, r.name))


def table(tally: Tally, seconds: float, width: int = 80) -> str:
    """The summary as text, for `seconds` of wall-clock time; no line is longer than `width`."""
    head = f"{len(tally.records):>9,}  models in {seconds:,.1f} s"
    lines = [head, *_counts(tally), *_suspicious(tally, width), *_failures(tally, width)]
    return "".join(line[:width].rstrip() + "\n" for line in lines)


def _counts(tally: Tally) -> Iterator[str]:
    kept = sum(record.kept for record in tally.records)
    if kept:
        yield f"{kept:>9,}  of them kept from an earlier batch"
    for verdict in Verdict:
        yield f"{tally.verdicts(verdict):>9,}  {verdict.value}"
    for outcome, count in tally.outcomes():
        if outcome != OUTCOMES[0]:
            yield f"{count:>9,}  {outcome}"
    pruned = sum(record.pruned for record in tally.records)
    judged = sum(record.judged for record in tally.records)
    yield f"{pruned:>9,}  channels stood out of {plural(judged, 'channel')} judged"


def _suspicious(tally: Tally, width: int) -> Iterator[str]:
    named = [record for record in ranked(tally.records) if record.verdict == Verdict.SUSPICIOUS]
    if named:
        yield ""
    for record in named[:MOST_LISTED]:
        yield f"suspicious: {shown(record.name, width - 12)}"
        yield f"  {one_line('; '.join(record.found), width - 2)}"
    if len(named) > MOST_LISTED:
        yield f"... and {len(named) - MOST_LISTED:,} more; the journal has them all"


def _failures(tally: Tally, width: int) -> Iterator[str]:
    failed = sorted((r for r in tally.records if r.exit_code not in SETTLED), key=lambda r: (-r.exit_code, r.name))
    if failed:
        yield ""
    for record in failed[:MOST_LISTED]:
        yield f"{OUTCOMES[record.exit_code]}: {shown(record.name, width // 2)}"
        yield f"  {one_line(record.error, width - 2)}"
    if len(failed) > MOST_LISTED:
        yield f"... and {len(failed) - MOST_LISTED:,} more; the journal has them all"
