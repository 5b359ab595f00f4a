"""What a batch comes to: counts by outcome, the table at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

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
    def stood_out(self) -> int:
        """Models in which a channel stood out."""
        return self.verdicts(Verdict.STOOD_OUT)

    def verdicts(self, verdict: Verdict) -> int:
        """How many models have this verdict."""
        return sum(record.verdict == verdict.value for record in self.records)

    def outcomes(self) -> list[tuple[str, int]]:
        """Each outcome that occurs, with its count; the good ones first."""
        counts = {code: sum(record.exit_code == code for record in self.records) for code in OUTCOMES}
        return [(OUTCOMES[code], count) for code, count in counts.items() if count]


def table(tally: Tally, seconds: float, width: int = 80) -> str:
    """The summary as text, for `seconds` of wall-clock time; no line is longer than `width`."""
    lines = [f"{len(tally.records):>9,}  models in {seconds:,.1f} s", *_counts(tally), *_failures(tally, width)]
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


def _failures(tally: Tally, width: int) -> Iterator[str]:
    failed = sorted((r for r in tally.records if r.exit_code not in SETTLED), key=lambda r: (-r.exit_code, r.name))
    if failed:
        yield ""
    for record in failed[:MOST_LISTED]:
        yield f"{OUTCOMES[record.exit_code]}: {shown(record.name, width // 2)}"
        yield f"  {one_line(record.error, width - 2)}"
    if len(failed) > MOST_LISTED:
        yield f"... and {len(failed) - MOST_LISTED:,} more; the journal has them all"
