"""What to do next, from what is known of this very file: sentences, and shell lines that work on it as they are.

No step is given that would do nothing: no caps where no statistics tell where they go, no search where none can run,
no lower u that no further channel passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from onnx_clp.config.rules import FACTS
from onnx_clp.document.run import EvaluationReport, Report, Verdict
from onnx_clp.report import command
from onnx_clp.report.deciding import repairs
from onnx_clp.report.wording import percent, plural, taken_out
from onnx_clp.text import shown
from onnx_clp.verdicts import LayerStatus

LARGE_DROP: Final = 0.02
"""An accuracy lost that is worth a second thought (a share)."""
HIGH_ASR: Final = 0.20
"""An attack success rate that still counts as a working backdoor (a share)."""
MOST_STEPS: Final = 3
_FREEZE: Final = "--freeze-inputs"
_OWN: Final = "ONNX Runtime's own"
_OVERRULED: Final = frozenset({LayerStatus.HEAD, LayerStatus.GATE, LayerStatus.NOT_ZERO_KEEPING, LayerStatus.EXCLUDED})
"""What --include overrules; a layer that cannot be judged stays so."""
_LOWER: Final = (2.5, 2.0, 1.5)
_WIDER_BUDGET: Final = 5.0
"""Times the budget of this run that is worth a try where it kept channels."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do; `command` is a shell line that does it, "" where a sentence has to do."""

    sentence: str
    command: str = ""


def steps(report: Report) -> list[Advice]:
    """At least one and at most `MOST_STEPS` steps, the best first."""
    chosen = list(_steps(report))[:MOST_STEPS]
    return chosen or [_nothing_left(report)]


def _nothing_left(report: Report) -> Advice:
    if not report.layers:
        return Advice("nothing to do: this model holds no layer of a kind that is judged")
    if report.summary.channels_kept:
        return Advice("nothing to write: what stands out was kept; --eval DATA.npz measures a trigger that you know")
    return Advice("nothing to write: nothing would change; --eval DATA.npz measures a trigger that you know")


def _steps(report: Report) -> Iterator[Advice]:
    yield from _as_it_came(report)
    yield from _frozen(report)
    yield from _optimised(report)
    if report.summary.verdict is Verdict.COULD_NOT_JUDGE:
        yield from _when_not_judged(report)
    elif report.summary.verdict is Verdict.NOTHING_FOUND:
        yield from _look_further(report)
        yield Advice(_measure(report, "silence is no proof: --eval DATA.npz measures a trigger that you know"))
    else:
        yield from _when_found(report)


def _as_it_came(report: Report) -> Iterator[Advice]:
    """Outputs of this tool have lost what the better steps need."""
    ahead = report.outlook
    if ahead.folded and not ahead.cappable:
        made = plural(ahead.folded, "bias") if ahead.folded == 1 else f"{ahead.folded:,} biases"
        yield Advice(
            f"folded by onnx_clp ({made} named as it names them), so its statistics are gone: give the file as it came"
        )
    elif ahead.capped:
        yield Advice(f"capped by onnx_clp before ({plural(ahead.capped, 'cap')}): give the file as it came")


def _frozen(report: Report) -> Iterator[Advice]:
    """Layers whose weights a caller may replace are judged once these are frozen."""
    layers = [layer for layer in report.layers if layer.status is LayerStatus.UNJUDGEABLE and _FREEZE in layer.reason]
    if layers and not report.options.get("freeze_inputs"):
        cause = f"{plural(len(layers), 'layer')} not judged, because the weights are inputs too"
        yield Advice(f"{cause}: freeze them with --freeze-inputs", _line(report, freeze_inputs=True))


def _optimised(report: Report) -> Iterator[Advice]:
    """Layers in a form that ONNX Runtime made for itself are judged in the file before that."""
    layers = [layer for layer in report.layers if layer.status is LayerStatus.UNJUDGEABLE and _OWN in layer.reason]
    if layers:
        cause = f"{plural(len(layers), 'layer')} not read, because ONNX Runtime optimised this file for itself"
        yield Advice(f"{cause}: give the file as it was before that")


def _when_found(report: Report) -> Iterator[Advice]:
    if report.output is not None and report.validation.outcome == "not asked for":
        yield Advice("this model was not validated: do that before you use it", _line(report, validate=True))
    if report.evaluation is not None:
        yield from _after_evaluation(report, report.evaluation)
        return
    if report.output is None and _changed(report):
        yield Advice("write the repaired model", _line(report, validate=True))
    yield from _go_on(report)
    if report.output is not None:
        path = shown(report.output.path, 200)
        yield Advice(f"test {path} on data of your own before you use it: --eval DATA.npz measures ACC and ASR")


def _go_on(report: Report) -> Iterator[Advice]:
    """What has not been tried against what was found."""
    found, suspicious = report.inversion, report.summary.verdict is Verdict.SUSPICIOUS
    searched = found is not None and (found.likely is not None or bool(found.results))
    if found is not None and found.likely is not None and not repairs(report):
        yield Advice("undo the trigger that was found", _line(report, repair=True))
    elif not searched and _can_search(report):
        yield _search(report, "look for the trigger" if suspicious else "look for a trigger too")
    if report.options.get("prune") is False and not report.options.get("repair"):
        if report.audit is not None and report.audit.path is not None:
            yield Advice("take the path out", _line(report, prune=True))
        elif report.summary.channels_pruned:
            yield Advice("switch the channels that stand out off", _line(report, prune=True))
    done = found is not None and found.repair is not None and not found.repair.stands_out
    if suspicious and not done:
        yield from _caps(report)


def _look_further(report: Report) -> Iterator[Advice]:
    if report.inversion is None and _can_search(report):
        yield _search(report, "look for a trigger too")


def _search(report: Report, words: str) -> Advice:
    """A search; it undoes what it finds unless the run is to fold alone."""
    folds = report.options.get("prune") is False and not report.options.get("repair")
    sentence = f"{words} (minutes)" if folds else f"{words}{',' if words.endswith('too') else ''} and undo it (minutes)"
    return Advice(sentence, _line(report, effort="high"))


def _after_evaluation(report: Report, evaluation: EvaluationReport) -> Iterator[Advice]:
    before, after = evaluation.before, evaluation.after
    if after.asr is not None and after.asr >= HIGH_ASR:
        works = f"the trigger still works ({percent(after.asr)} ASR)"
        tried = list(_remedies(report))
        yield from (Advice(f"{works}: {step.sentence}", step.command) for step in tried)
        if not tried:
            yield Advice(f"{works}: retrain the model, or do not use it")
    elif before.acc is not None and after.acc is not None and before.acc - after.acc > LARGE_DROP:
        yield from (Advice(f"accuracy fell to {percent(after.acc)}: {s.sentence}", s.command) for s in _milder(report))
    elif report.output is None and _changed(report):
        yield Advice("write the repaired model", _line(report, validate=True))
    else:
        yield Advice("test the model on further data of your own before you use it")


def _milder(report: Report) -> Iterator[Advice]:
    """What costs less accuracy; caps first, as each of them acts on every image."""
    off = report.summary.channels_pruned - report.summary.channels_kept
    if report.caps is not None and report.caps.capped:
        yield Advice("cap higher", _line(report, bound_activations=float(math.floor(report.caps.times) + 2)))
    if off and report.options.get("prune") is not False:
        yield Advice("prune less", _line(report, u=report.options.get("u", 3.0) + 2))
    yield Advice("fine-tune the model on data of your own")


def _remedies(report: Report) -> Iterator[Advice]:
    """What may still take a trigger away and does something on this file, the best first."""
    if _can_search(report) and not repairs(report):
        yield Advice("look for it and undo it (minutes)", _line(report, effort="high"))
    yield from _caps(report)
    if report.summary.channels_kept and report.gauge is not None and report.gauge.budget < 1:
        budget = min(_WIDER_BUDGET * max(report.gauge.budget, 0.01), 1.0)
        yield Advice("allow a larger loss, as channels that stand out were kept", _line(report, budget=budget))
    lower = _lower_u(report)
    if lower is not None:
        yield Advice("prune more", _line(report, u=lower))


def _caps(report: Report) -> Iterator[Advice]:
    options, gauge = report.options, report.gauge
    tried = report.caps is not None or options.get("bound_activations") is not None
    tried = tried or (gauge is not None and bool(gauge.evidence) and options.get("prune") is not False)
    if report.outlook.cappable and not tried and options.get("validate") is not False and options.get("budget") != 1:
        in_vain = report.inversion is not None and report.inversion.repair is None
        changes = {"repair": False, "prune": True, "invert": False} if in_vain else {}
        yield Advice(
            f"cap {plural(report.outlook.cappable, 'value')} as low as the budget allows",
            _line(report, bound_activations=0.0, **changes),
        )


def _can_search(report: Report) -> bool:
    return not report.outlook.unsearchable and report.options.get("validate") is not False


def _lower_u(report: Report) -> float | None:
    """The highest of some lower u that more channels pass; None where none has any, or pruning is off."""
    u = report.options.get("u", 3.0)
    if report.options.get("prune") is False:
        return None
    judged = [one for layer in report.layers if layer.status is LayerStatus.JUDGED for one in layer.judgements]
    for lower in (one for one in _LOWER if one < u):
        if any(
            one.spread > 0 and lower < (score - one.centre) / one.spread <= u for one in judged for score in one.scores
        ):
            return lower
    return None


def _changed(report: Report) -> bool:
    """Whether the run decided on a change that is worth writing."""
    repaired = report.inversion is not None and report.inversion.repair is not None
    off = report.summary.channels_pruned - report.summary.channels_kept
    pruned = report.options.get("prune") is not False and off > 0
    removed = report.audit is not None and any(taken_out(report.audit))
    return repaired or pruned or removed or (report.caps is not None and report.caps.capped > 0)


def _when_not_judged(report: Report) -> Iterator[Advice]:
    small = [layer.channels for layer in report.layers if layer.status is LayerStatus.TOO_SMALL]
    if small:
        yield from _small(report, max(small))
    elif any(layer.status is LayerStatus.NOT_CONVOLUTION for layer in report.layers):
        yield Advice("judge Gemm and MatMul too", _line(report, layers="all"))
    elif any(layer.status in _OVERRULED for layer in report.layers):
        yield Advice("see with -v why each layer was left alone; --include PATTERN overrules that")
    elif report.layers:
        yield Advice("see with -v why each layer cannot be judged")
    yield from _look_further(report)


def _small(report: Report, channels: int) -> Iterator[Advice]:
    reach = (channels - 1) / math.sqrt(channels) if channels > 1 else 0.0
    known = FACTS.get(str(report.options.get("rule")))
    if known is not None and not known.reach:
        yield Advice(f"too few channels for this rule; --rule paper can judge {channels} with a -u below {reach:.2f}")
        return
    sentence = f"one outlier among {channels} channels reaches at most {reach:.2f} std: choose -u below that"
    below = math.floor(10 * reach - 1) / 10
    yield Advice(sentence, _line(report, u=below) if below > 0 else "")


def _measure(report: Report, otherwise: str) -> str:
    found = report.evaluation
    if found is None or found.after.asr is None:
        return otherwise
    return f"the trigger supplied does not work ({percent(found.after.asr)} ASR); another one may"


def _line(report: Report, *, output: bool = True, **changes: Any) -> str:
    """The shell line; "" for a model that was in memory."""
    if report.input is None:
        return ""
    return command.line(report, command.output_of(report) if output else None, **changes)
