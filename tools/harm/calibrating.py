"""How the upper end of the predicted loss is calibrated, counted on networks that had no part in it.

The upper end is `above` times the predicted loss, and no less than the few images of the gauge can show
(`onnx_clp.gauge.loss`). `fit` chooses `above`: the smallest of a ladder under which the losses of at least 95 % of the
edits lie at or below the upper end. It is fitted on the choosing half (`split`), and, to count every network, on all
others than that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from onnx_clp.document.gauge import OutputChange
from onnx_clp.gauge import loss
from tools.harm import coverage, split
from tools.harm.record import Measured
from tools.redteam.record import spelled

LADDER: Final = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0)
WANTED: Final = 0.95


def renewed(one: Measured) -> Measured:
    """A record whose prediction is made again, as the gauge makes it now, from what it was made from."""
    if not one.shown:
        return one
    found = loss.predicted(_changes(one), one.images, noise=one.source == "noise")
    return replace(one, predicted={**one.predicted, "loss": found.share, "loss_upper": found.high})


def _changes(one: Measured) -> list[OutputChange]:
    return [OutputChange(**fields) for fields in one.shown]


def upper(one: Measured, above: float) -> float:
    """The upper end of a record's prediction if it were `above` times the loss."""
    return (
        loss.upper(one.predicted["loss"], above, one.images) if one.source != "noise" else one.predicted["loss_upper"]
    )


def below(edits: Iterable[Measured], above: float) -> int:
    """How many losses, as measured, lie at or below the upper end."""
    return sum((one.get("loss") or 0.0) <= upper(one, above) for one in edits)


def fit(edits: Sequence[Measured]) -> float:
    """The smallest `above` of the ladder under which 95 % of the edits lie below; its largest if none does."""
    return next((above for above in LADDER if below(edits, above) >= WANTED * len(edits)), LADDER[-1])


def told(found: Iterable[Measured]) -> str:
    """The counts in Markdown: what the choosing half asks for, the reporting half, and each network left out."""
    edits = [one for one in coverage.edits(found) if one.shown]
    choosing, reporting = ([one for one in edits if split.half(one.network) == half] for half in ("choose", "report"))
    if not choosing or not reporting:
        return ""
    above = fit(choosing)
    lines = [
        f"- the choosing half, {_count(choosing)}: {above:g} times the predicted loss are enough for 95 %; "
        f"the tool takes {loss.ABOVE:g}.",
        f"- the reporting half, {_count(reporting)}: below the upper end of the tool lie "
        f"{spelled(below(reporting, loss.ABOVE), len(reporting))}, below {above:g} times "
        f"{spelled(below(reporting, above), len(reporting))}.",
        f"- every network with the factor fitted on all others, {_count(edits)}: "
        f"{spelled(left_out(edits), len(edits))} lie below.",
    ]
    return "\n".join(lines)


def left_out(edits: Sequence[Measured]) -> int:
    """How many lie below, each by the factor that all networks but its own ask for."""
    networks = {split.own_name(one.network) for one in edits}
    count = 0
    for network in networks:
        own = [one for one in edits if split.own_name(one.network) == network]
        count += below(own, fit([one for one in edits if one not in own]))
    return count


def _count(edits: Sequence[Measured]) -> str:
    networks = len({split.own_name(one.network) for one in edits})
    return f"{len(edits)} edits of {networks} networks"
