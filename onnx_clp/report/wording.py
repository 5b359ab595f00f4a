"""What a report comes to, in words every view shares. No word here calls a model clean or safe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from onnx_clp.document.assessment import CHANNELS, MEASURED, TRIGGER
from onnx_clp.document.run import Cleanup, Evidence, Report, ValidationReport, Verdict
from onnx_clp.text import shown

if TYPE_CHECKING:
    from onnx_clp.document.audit import Audit

_MOST_BRIEFS: Final = 3


def headline(report: Report) -> str:
    """One sentence: the verdict, what it rests on, and what was done; what was undone comes first."""
    word = report.summary.verdict.value
    if report.summary.verdict is Verdict.COULD_NOT_JUDGE:
        if not report.summary.layers:
            return f"{word}: the model has no linear layer with constant weights"
        return f"{word}: no channel of the model's linear layers ({report.summary.layers:,}) could be scored"
    if report.summary.verdict is Verdict.NOTHING_FOUND:
        return f"{word} in {listed(report.looked_at)}; a backdoor that leaves no trace there is not excluded"
    return f"{word}: {found(report)}{_done(report)}"


def found(report: Report) -> str:
    """The evidence in a few words, the strongest first; channels count only where nothing else is there."""
    named = [one for one in report.evidence if one.verdict is report.summary.verdict and one.kind != CHANNELS]
    briefs = list(dict.fromkeys(brief(one) for one in named))
    if report.summary.verdict is Verdict.UNUSUAL and report.summary.channels_pruned:
        briefs.insert(0, _channels(report))
    more = f" and {len(briefs) - _MOST_BRIEFS:,} more" if len(briefs) > _MOST_BRIEFS else ""
    return ", ".join(briefs[:_MOST_BRIEFS]) + more


def brief(evidence: Evidence) -> str:
    """One piece of evidence in a few words."""
    towards = "" if evidence.target is None else f" towards class {evidence.target}"
    where = f" at {shown(evidence.where, 60)}" if evidence.where else ""
    known = {
        TRIGGER: f"a trigger{towards} was found",
        MEASURED: "the trigger that was supplied works",
        "path": f"a path of few channels{towards}{where}",
        "gate": f"a gate{towards} in the graph{where}",
        "blinding": f"something that blinds searches{where}",
        "class that stands out": f"class {evidence.target} stands out in the last layer",
    }
    return known.get(evidence.kind, f"{shown(evidence.kind, 60)}{where}")


def _channels(report: Report) -> str:
    summary = report.summary
    hit = sum(bool(layer.pruned) for layer in report.layers)
    return (
        f"{summary.channels_pruned:,} of {plural(summary.channels_judged, 'channel')} stand out, "
        f"in {hit:,} of {plural(summary.layers_judged, 'judged layer')}"
    )


def _done(report: Report) -> str:
    if report.output is None:
        return "; no model was written"
    return "".join(f"; {part}" for part in done(report)) or f"; left as it is{_why_left(report)}"


def done(report: Report) -> Iterator[str]:
    """What was changed against what was found, one phrase each, a repair first."""
    repair = None if report.inversion is None else report.inversion.repair
    if repair is not None:
        fate = "trigger capped and still there" if repair.stands_out else "trigger undone"
        yield f"{fate}: it turned {percent(repair.flip_before)} of the images, now {percent(repair.flip)}"
    kept = report.summary.channels_kept
    off = 0 if report.options.get("prune") is False else report.summary.channels_pruned - kept
    if off or kept:
        yield f"{plural(off, 'channel')} switched off" + (f", {kept:,} kept" if kept else "")
    if report.audit is not None:
        yield from taken_out(report.audit)
    if report.caps is not None and report.caps.capped:
        yield f"{plural(report.caps.capped, 'value')} capped"


def _why_left(report: Report) -> str:
    if report.options.get("repair"):
        return " (--rule inverted switches no channel off)"
    return " (--no-prune)" if report.options.get("prune") is False else ""


def listed(parts: Sequence[str], last: str = "and") -> str:
    """ "caps", "caps and audit", "caps, audit and search"."""
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts))


def cleaned_up(cleanup: Cleanup) -> str:
    """What cleaning up took out, kind by kind."""
    no_ops = sum(cleanup.no_ops.values())
    kinds = [
        (cleanup.dead_nodes, plural(cleanup.dead_nodes, "dead node")),
        (no_ops, f"{plural(no_ops, 'no-op')} ({', '.join(f'{n:,} {op}' for op, n in cleanup.no_ops.items())})"),
        (cleanup.transposes, plural(cleanup.transposes, "Transpose") + " that others undid"),
        (cleanup.unused_initializers, plural(cleanup.unused_initializers, "unused initializer")),
        (cleanup.duplicate_initializers, plural(cleanup.duplicate_initializers, "duplicate initializer")),
        (cleanup.stale_records, plural(cleanup.stale_records, "record") + " of values that are not there"),
        (cleanup.orphans, plural(cleanup.orphans, "constant") + " that this run left unused"),
    ]
    return ", ".join(text for count, text in kinds if count) or "nothing to take out"


def cleaning_proof(proof: ValidationReport) -> str:
    """Whether cleaning up left the outputs the same, or the same but for rounding; empty without a cleaning up."""
    if proof.cleanup_error is None:
        return ""
    if not proof.cleanup_error:
        return "cleaning up: every value is the same"
    return f"{number(proof.cleanup_error)} of cleaning up, within rounding (allowed: {number(proof.tolerance)})"


def percent(share: float | None) -> str:
    """A share in 0..1 as "91.2 %"; "-" for None or NaN."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def plural(count: int, noun: str) -> str:
    """ "1 layer", "1,216 layers"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes with a decimal unit: "512 B", "2.8 MB"."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def number(value: float | None) -> str:
    """Four significant digits, at most nine characters; "-" for None."""
    return "-" if value is None else f"{value:#.4g}".removesuffix(".")


def taken_out(audit: Audit) -> Iterator[str]:
    """What was done to what was found."""
    if audit.removed:
        yield f"{plural(audit.removed, 'kernel')} of the path zeroed"
    if audit.capped:
        yield f"{plural(audit.capped, 'channel')} of the path kept within what ordinary inputs usually give there"
    if replaced := sum(one.replaced for one in audit.quiet):
        yield f"{plural(replaced, 'value')} replaced by the constant that ordinary inputs give there"
