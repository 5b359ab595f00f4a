"""Which evidence gives which verdict: the one table of it, and what it makes of a report.

The verdict is that of the strongest evidence: `suspicious` where a class, a trigger, a path or a gate is named,
`unusual` where something stands out and names nothing. Without evidence it is `nothing found` if channels were scored
or a search ended, else `could not judge`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from onnx_clp.document.audit import UNKNOWN
from onnx_clp.document.evidence import Evidence
from onnx_clp.document.run import EvaluationReport, Report
from onnx_clp.verdicts import INCONCLUSIVE, Finding, Verdict

TRIGGER: Final = "trigger found"
MEASURED: Final = "trigger measured"
CHANNELS: Final = "channels that stand out"

TABLE: Final[Mapping[str, Verdict | None]] = {
    # Named: a class, a trigger, a path, a gate.
    TRIGGER: Verdict.SUSPICIOUS,
    MEASURED: Verdict.SUSPICIOUS,
    "path": Verdict.SUSPICIOUS,
    "gate": Verdict.SUSPICIOUS,
    "blinding": Verdict.SUSPICIOUS,
    "class that stands out": Verdict.SUSPICIOUS,
    # Odd, and naming nothing.
    "class that stands out at every position": Verdict.UNUSUAL,
    CHANNELS: Verdict.UNUSUAL,
    "data-dependent branch": Verdict.UNUSUAL,
    "data-dependent loop": Verdict.UNUSUAL,
    "data-dependent selection": Verdict.UNUSUAL,
    "input compared with a constant": Verdict.UNUSUAL,
    "custom operator": Verdict.UNUSUAL,
    # Of the run or the file, not of a backdoor.
    INCONCLUSIVE: None,
    "rounding": None,
    "runtime": None,
    "checker": None,
    "calibration": None,
    "nondeterministic": None,
    "non-finite output": None,
    "pattern without a layer": None,
    "search not done": None,
}
"""By kind, the strongest first: what it gives by itself, None for nothing. A finding of another kind is `unusual`."""

WORKING_TRIGGER: Final = 0.5
"""The attack success rate from which a trigger that the user supplied counts as evidence (a share)."""

_ORDER: Final = list(TABLE)


def assess(report: Report) -> Report:
    """The report with its evidence, with what was looked at, and with the verdict."""
    found = tuple(sorted(_evidence(report), key=lambda one: _rank(one.kind)))
    summary = replace(report.summary, verdict=_verdict(report, found))
    return replace(report, summary=summary, evidence=found, looked_at=tuple(_looked_at(report)))


def weight(kind: str) -> Verdict | None:
    """The verdict that evidence of this kind gives by itself; None for none."""
    return TABLE.get(kind, Verdict.UNUSUAL)


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in TABLE else _ORDER.index(CHANNELS)


def _verdict(report: Report, found: tuple[Evidence, ...]) -> Verdict:
    given = {one.verdict for one in found}
    for verdict in (Verdict.SUSPICIOUS, Verdict.UNUSUAL):
        if verdict in given:
            return verdict
    if report.summary.layers_judged or _searched(report):
        return Verdict.NOTHING_FOUND
    return Verdict.COULD_NOT_JUDGE


def _evidence(report: Report) -> Iterator[Evidence]:
    yield from _of_search(report)
    if report.evaluation is not None:
        yield from _of_evaluation(report.evaluation)
    for finding in report.findings:
        yield from _of_finding(finding)
    yield from _of_channels(report)


def _of_finding(finding: Finding) -> Iterator[Evidence]:
    verdict = weight(finding.kind)
    if verdict is not None:
        yield Evidence(finding.kind, verdict, finding.where, finding.sentence, finding.target)


def _of_search(report: Report) -> Iterator[Evidence]:
    found = report.inversion
    if found is not None and found.likely is not None:
        yield Evidence(TRIGGER, Verdict.SUSPICIOUS, "", found.sentence, found.likely)


def _of_evaluation(evaluation: EvaluationReport) -> Iterator[Evidence]:
    asr, acc = evaluation.before.asr, evaluation.before.acc
    # Images that the model gets wrong anyway may fall into the target class without any trigger.
    mistakes = 0.0 if acc is None else 1 - acc
    if asr is not None and asr >= WORKING_TRIGGER and asr > mistakes:
        sentence = f"the trigger in the images supplied works on the file as it came: ASR {100 * asr:.1f} %"
        yield Evidence(MEASURED, Verdict.SUSPICIOUS, "", sentence)


def _of_channels(report: Report) -> Iterator[Evidence]:
    for layer in report.layers:
        out = layer.pruned
        if out:
            channels = f"channel{'' if len(out) == 1 else 's'} {', '.join(map(str, out[:_MOST_NAMED]))}"
            more = f" and {len(out) - _MOST_NAMED:,} more" if len(out) > _MOST_NAMED else ""
            sentence = (
                f"{channels}{more} of {layer.channels:,}: {len(out):,} beyond the limit, highest z {layer.max_z:.1f}"
            )
            where = f"{layer.place}/{layer.name}" if layer.place else layer.name
            yield Evidence(CHANNELS, Verdict.UNUSUAL, where, sentence)


_MOST_NAMED: Final = 4


def _searched(report: Report) -> bool:
    """Whether a search compared classes."""
    return report.inversion is not None and bool(report.inversion.results)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _looked_at(report: Report) -> Iterator[str]:
    summary = report.summary
    if summary.layers_judged:
        yield f"{_count(summary.channels_judged, 'channel')} in {_count(summary.layers_judged, 'layer')}"
    if summary.classes_judged:
        yield f"the {summary.classes_judged:,} classes of the last layer"
    yield "branches and comparisons in the graph"
    if report.audit is not None and not report.audit.note.startswith(UNKNOWN):
        yield "paths and gates written by hand"
    found = report.inversion
    if found is not None and found.results:
        yield f"triggers towards {len(found.results):,} of {found.classes:,} classes on {found.images.count:,} images"
    if report.evaluation is not None:
        yield "the trigger in the images supplied"
