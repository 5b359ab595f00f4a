"""How often the loss that came lies below the upper end of what was foretold, over labelled networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tools.harm.record import Measured
from tools.redteam.record import spelled

_ERRORS: Final = 2
_SAME: Final = 4
"""Decimals to which losses foretold agree where the edit is the same: the last digits differ from run to run."""
_COSTLY: Final = 0.01
"""The share of images from which on an edit costs more than chance does on a few hundred."""


def edits(found: Iterable[Measured]) -> list[Measured]:
    """Labelled runs that foretold a loss and changed the network; of those with the same effect the first alone."""
    kept: dict[tuple[object, ...], Measured] = {}
    for one in found:
        loss, upper = one.get("loss"), one.predicted.get("loss_upper")
        if one.outcome != "written" or loss is None or upper is None or (upper == 0 and one.get("agreement") == 1):
            continue
        foretold = round(one.predicted["loss"], _SAME)
        kept.setdefault((one.network, one.samples, foretold, loss, one.get("agreement")), one)
    return list(kept.values())


def excess(one: Measured) -> float:
    """By how much the loss that came lies above the upper end; negative if below."""
    return (one.get("loss") or 0.0) - one.predicted["loss_upper"]


def told(found: Iterable[Measured]) -> str:
    """The count in Markdown: of all, of costly ones, and of what lies above by more than chance."""
    every = edits(found)
    if not every:
        return ""
    costly = [one for one in every if (one.get("loss") or 0.0) >= _COSTLY or one.predicted["loss"] >= _COSTLY]
    lines = [_line("edits", every), _line("those that cost 1 % or more, foretold or in truth", costly)]
    return "\n".join([*lines, *(_above(one) for one in sorted(every, key=excess, reverse=True) if excess(one) > 0)])


def _line(what: str, runs: Sequence[Measured]) -> str:
    below = sum(excess(one) <= 0 for one in runs)
    far = sum(excess(one) > _ERRORS * (one.get("loss_error") or 0.0) for one in runs)
    count = len({one.network for one in runs})
    return (
        f"- {what}, on {count} networks: the loss lies below the upper end in {spelled(below, len(runs))}; above it by "
        f"more than two standard errors in {far}."
    )


def _above(one: Measured) -> str:
    lost, error = 100 * (one.get("loss") or 0.0), 200 * (one.get("loss_error") or 0.0)
    setting = f"`{one.setting}`" if one.setting else "default"
    most = 100 * one.predicted["loss_upper"]
    return f"    - above: {one.network}, {setting}: {lost:.2f} ± {error:.2f} points lost, at most {most:.2f} foretold"
