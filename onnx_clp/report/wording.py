"""What a report comes to, in words every view shares. No word here calls a model clean or safe."""

from __future__ import annotations

import math
import shlex
from typing import Final

from onnx_clp.document.run import Cleanup, EvaluationReport, Report, ValidationReport, Verdict
from onnx_clp.text import shown
from onnx_clp.verdicts import LayerStatus

LARGE_DROP = 0.02
"""An accuracy lost to pruning that is worth a second thought (a share)."""

HIGH_ASR = 0.20
"""An attack success rate that still counts as a working backdoor (a share)."""

_FREEZE: Final = "--freeze-inputs"
_OVERRULED: Final = frozenset(
    {
        LayerStatus.HEAD,
        LayerStatus.GATE,
        LayerStatus.NOT_ZERO_KEEPING,
        LayerStatus.NOT_CONVOLUTION,
        LayerStatus.EXCLUDED,
    }
)
"""What --include or --layers all overrules; a layer that cannot be judged stays so."""


def headline(report: Report) -> str:
    """One sentence: what stood out, of how much."""
    summary = report.summary
    if summary.verdict is Verdict.COULD_NOT_JUDGE:
        if not summary.layers:
            return "could not judge: the model has no linear layer with constant weights"
        return f"could not judge: no channel of the model's linear layers ({summary.layers:,}) could be scored"
    among = f"{plural(summary.channels_judged, 'channel')} in {plural(summary.layers_judged, 'judged layer')}"
    if summary.verdict is Verdict.NOTHING_STOOD_OUT:
        return f"nothing stood out among {among}; a backdoor that leaves no outlier is not excluded"
    hit = sum(bool(layer.pruned) for layer in report.layers)
    return (
        f"stood out: {summary.channels_pruned:,} of {plural(summary.channels_judged, 'channel')}, "
        f"in {hit:,} of {plural(summary.layers_judged, 'judged layer')}{_done(report)}"
    )


def _done(report: Report) -> str:
    if report.options.get("prune") is False:
        return f"; left as they are ({_why_not_pruned(report)})"
    kept = report.summary.channels_kept
    off = report.summary.channels_pruned - kept
    done = "switched off" if not kept else f"{off:,} switched off, {kept:,} kept"
    return f"; {done}" if report.output is not None else "; no model was written"


def _why_not_pruned(report: Report) -> str:
    return "--rule inverted switches none off" if report.options.get("repair") else "--no-prune"


def next_step(report: Report) -> str:
    """What the user should do now, in one line."""
    verdict = report.summary.verdict
    if verdict is not Verdict.STOOD_OUT and (freeze := _when_overridable(report)):
        return freeze
    if report.inversion is not None and report.inversion.repair is not None:
        return _when_changed(report)
    if verdict is Verdict.COULD_NOT_JUDGE:
        return _when_not_judged(report)
    if verdict is Verdict.NOTHING_STOOD_OUT:
        return _when_nothing_stood_out(report)
    if report.options.get("prune") is False:
        option = "--rule inverted" if report.options.get("repair") else "--no-prune"
        return f"run again without {option} to switch these channels off"
    return _when_changed(report)


def _when_changed(report: Report) -> str:
    if report.output is None:
        return "to write the repaired model, give the same command an output file and no --dry-run"
    output = shown(shlex.quote(report.output.path), 200)
    if report.validation.outcome == "not asked for":
        return f"run again without --no-validate before you use {output}"
    if report.evaluation is None:
        return f"test {output} on your own data before you use it: --eval DATA.npz measures ACC and ASR"
    return _after_evaluation(report, report.evaluation, output)


def _when_not_judged(report: Report) -> str:
    small = [layer.channels for layer in report.layers if layer.status is LayerStatus.TOO_SMALL]
    if small:
        n = max(small)
        reach = (n - 1) / math.sqrt(n) if n > 1 else 0.0
        if report.options.get("rule") in ("loo", "mad"):
            return f"too few channels for this rule; --rule paper can judge {n} with a -u below {reach:.2f}"
        return f"one outlier among {n} channels reaches at most {reach:.2f} std: choose -u below that"
    if not report.layers:
        return "nothing to do: this model holds no layer of a kind that is judged"
    if any(layer.status in _OVERRULED for layer in report.layers):
        return "see with -v why each layer was left alone; --include PATTERN or --layers all overrule it"
    return "see with -v why each layer cannot be judged"


def _when_overridable(report: Report) -> str:
    """What to do about layers whose weights a caller may replace; empty where there are none."""
    count = sum(_FREEZE in layer.reason for layer in report.layers if layer.status is LayerStatus.UNJUDGEABLE)
    if not count or report.options.get("freeze_inputs"):
        return ""
    return f"{plural(count, 'layer')} not judged, because the weights are inputs too: run again with {_FREEZE}"


def _when_nothing_stood_out(report: Report) -> str:
    lower = _remedy(report, f"try a lower -u than {report.options.get('u', 3):g}")
    if report.evaluation is None:
        return f"{lower}, or measure with --eval DATA.npz: silence is no proof"
    asr = report.evaluation.after.asr
    if asr is not None and asr >= HIGH_ASR:
        return f"the trigger works ({percent(asr)} ASR) without an outlier: {lower}, or retrain the model"
    return f"{lower} if you still doubt the model: silence is no proof"


def _remedy(report: Report, lower: str) -> str:
    """What to try against a trigger that still works: caps first, which repaired most where they were measured."""
    return lower if report.options.get("bound_activations") else f"add --bound-activations 2.5, {lower}"


def _after_evaluation(report: Report, evaluation: EvaluationReport, output: str) -> str:
    before, after = evaluation.before, evaluation.after
    if after.asr is not None and after.asr >= HIGH_ASR:
        remedy = _remedy(report, "try a lower -u")
        return f"the trigger still works ({percent(after.asr)} ASR): {remedy}, or retrain the model"
    if before.acc is not None and after.acc is not None and before.acc - after.acc > LARGE_DROP:
        return f"accuracy fell to {percent(after.acc)}: try a higher -u, or fine-tune {output}"
    return f"test {output} on data of your own before you use it"


def cleaned_up(cleanup: Cleanup) -> str:
    """What cleaning up took out, kind by kind."""
    no_ops = sum(cleanup.no_ops.values())
    kinds = [
        (cleanup.dead_nodes, plural(cleanup.dead_nodes, "dead node")),
        (no_ops, f"{plural(no_ops, 'no-op')} ({', '.join(f'{n:,} {op}' for op, n in cleanup.no_ops.items())})"),
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
