"""The report as one standalone HTML page: no scripts, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING

from onnx_clp.config.rules import facts
from onnx_clp.document.assessment import CHANNELS, TRIGGER, weight
from onnx_clp.document.run import Judgement, LayerReport, Report, Verdict
from onnx_clp.errors import UsageError
from onnx_clp.report import (
    advice,
    auditing,
    deciding,
    engines,
    gauging,
    inverting,
    patching,
    ruling,
    sizing,
    sweeping,
    wording,
)
from onnx_clp.text import one_line, shown
from onnx_clp.verdicts import LayerStatus

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

EXTRA = ("jinja2", "matplotlib")
MOST_PICTURES = 1000
MOST_ROWS = 1000
MOST_CHANNELS = 200
MOST_EVIDENCE = 10
_HEAT = ((0.95, "warm2"), (0.85, "warm1"), (0.5, "calm2"))
"""Classes of layers without an outlier, by their highest z as a share of u."""


@dataclass(frozen=True, slots=True)
class Card:
    """One layer on the page: `place` is its position in the graph, `heat` a CSS class for its highest z."""

    place: int
    layer: LayerReport
    heat: str
    judgement: Judgement | None
    picture: Markup

    @property
    def others(self) -> int:
        """How many judgements of the layer are not drawn."""
        return max(len(self.layer.judgements) - 1, 0)


def require_extra() -> None:
    """Raise UsageError unless what the page is made with is installed."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"an .html report needs {' and '.join(missing)}: pip install 'onnx-clp[report]', or ask for another form"
        )


def render(report: Report) -> str:
    """The page, below 3 MB for a network of 200 layers.

    Raises:
        UsageError: the extra `report` is not installed.
    """
    require_extra()
    column = _cards(report, ruling.u_of(report))
    worst = sorted(column, key=lambda card: (not card.layer.pruned, -card.layer.max_z, card.place))
    return _template().render(
        report=report,
        summary=sentence(report),
        column=column,
        judged=[card for card in worst if card.judgement is not None],
        left=[card for card in column if card.judgement is None or card.layer.not_folded],
        engine=engines.described(report),
        rates=_rates(report),
        evidence=[one for one in report.evidence if one.kind not in (CHANNELS, TRIGGER)],
        others=[one for one in report.findings if weight(one.kind) is not Verdict.SUSPICIOUS],
        loss=None if report.gauge is None or report.gauge.prediction is None else report.gauge.prediction.loss,
        most_evidence=MOST_EVIDENCE,
        sweep=_sweep(report),
        most_channels=MOST_CHANNELS,
        most_rows=MOST_ROWS,
    )


def sentence(report: Report) -> str:
    """What happened, for a reader who knows neither the method nor the model's inside."""
    verdict = report.summary.verdict
    if verdict is Verdict.COULD_NOT_JUDGE:
        return "Nothing can be said about this model: this method could judge none of its layers."
    if verdict is Verdict.NOTHING_FOUND:
        return (
            f"None of the {wording.plural(report.summary.channels_judged, 'channel')} judged stands out from its "
            "neighbours. That is no proof: some hidden triggers leave no mark that this method can see."
        )
    if verdict is Verdict.SUSPICIOUS:
        signs = f"This file shows what a hidden trigger shows: {wording.found(report)}."
        return f"{signs} {_undone(report)}{_measured(report)}"
    if not report.summary.channels_pruned:
        return f"Something in this file is unusual, and names no trigger: {wording.found(report)}.{_measured(report)}"
    return f"{_stood_out(report)}{_what_was_done(report)}{_measured(report)}"


def _undone(report: Report) -> str:
    """What was done against it, a repair first."""
    if report.output is None:
        return "Nothing was changed: this was an analysis only."
    parts = list(wording.done(report))
    return f"Done: {'; '.join(parts)}." if parts else "The model that was written is as it came."


def _stood_out(report: Report) -> str:
    summary = report.summary
    layers = sum(bool(layer.pruned) for layer in report.layers)
    return (
        f"{wording.plural(summary.channels_pruned, 'channel')} of {summary.channels_judged:,}, in "
        f"{wording.plural(layers, 'layer')}, {_how(report)}, as channels that serve a hidden trigger often do, and "
        "ordinary ones too. "
    )


def _how(report: Report) -> str:
    rule = ruling.rule_of(report)
    by = f"by over {ruling.u_of(report):g} {ruling.deviations(rule)}"
    return f"can {facts(rule).reaction} than the others of their layer, {by}"


def _what_was_done(report: Report) -> str:
    if report.options.get("prune") is False:
        return "They were left as they are: pruning was not asked for."
    if report.output is None:
        return "Nothing was changed: this was an analysis only."
    stood, kept = report.summary.channels_pruned, report.summary.channels_kept
    which = "it" if stood == 1 else "them"
    if kept == stood:
        return f"The model that was written still uses {which}: the predicted loss below says why."
    if kept:
        gone = f"The model that was written no longer uses {stood - kept:,} of them"
        return f"{gone}; {kept:,} stayed, and the predicted loss below says why."
    return f"The model that was written no longer uses {which}."


def _measured(report: Report) -> str:
    found = report.evaluation
    if found is None:
        return ""
    before, after = found.before, found.after
    accuracy = f"accuracy went from {wording.percent(before.acc)} to {wording.percent(after.acc)}"
    if not found.triggered_images:
        return f" On the images supplied {accuracy}."
    return (
        f" On the images supplied the trigger succeeded in {wording.percent(before.asr)} of cases before and "
        f"{wording.percent(after.asr)} after; ordinary {accuracy}."
    )


def _cards(report: Report, u: float) -> list[Card]:
    from markupsafe import Markup

    from onnx_clp.report import pictures

    drawn = sorted(range(len(report.layers)), key=lambda at: -report.layers[at].max_z)[:MOST_PICTURES]
    chosen = set(drawn)
    cards = []
    for place, layer in enumerate(report.layers):
        judgement = _worst(layer)
        # Made here from numbers alone: the picture holds no text of the model's.
        picture = Markup(pictures.of_scores(judgement) if judgement and place in chosen else "")
        cards.append(Card(place, layer, _heat(layer, judgement, u), judgement, picture))
    return cards


def _worst(layer: LayerReport) -> Judgement | None:
    if layer.status is not LayerStatus.JUDGED:
        return None
    return max(layer.judgements, key=lambda judgement: judgement.max_z, default=None)


def _heat(layer: LayerReport, judgement: Judgement | None, u: float) -> str:
    if judgement is None:
        return "unjudged"
    if layer.pruned:
        return "hit2" if layer.max_z >= 1.5 * u else "hit1"
    return next((name for least, name in _HEAT if layer.max_z >= least * u), "calm1")


def _rates(report: Report) -> Markup:
    from markupsafe import Markup

    from onnx_clp.report import pictures

    return Markup(pictures.of_rates(report.evaluation) if report.evaluation else "")


def _sweep(report: Report) -> list[Markup]:
    from markupsafe import Markup

    from onnx_clp.report import pictures

    found = report.sweep
    return [] if found is None else [Markup(p) for p in pictures.of_sweep(found, ruling.u_of(report))]


def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Callable[..., object]] = {
        "shown": shown,
        "one_line": one_line,
        "percent": wording.percent,
        "plural": wording.plural,
        "size": wording.size,
        "number": wording.number,
        "change_rows": sizing.rows,
        "cleaned_up": wording.cleaned_up,
        "cleaning_proof": wording.cleaning_proof,
        "footnote": sizing.footnote,
        "headline": wording.headline,
        "limit": ruling.limit,
        "titles": ruling.titles,
        "steps": advice.steps,
        "audit_rows": auditing.rows,
        "patch_rows": patching.rows,
        "loss_rows": gauging.rows,
        "marks": sweeping.marks,
        "sheet": inverting.sheet,
        "search_rows": inverting.rows,
        "decided_rows": deciding.rows,
        "trigger_views": inverting.views,
        "brief": wording.brief,
        "search_classes": inverting.classes,
        "search_changes": inverting.changes,
        "provider": engines.short,
    }
    environment.filters.update(filters)
    source = files("onnx_clp.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
