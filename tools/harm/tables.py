"""The tables of `docs/harm.md`: what was foretold beside what happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.evidence import page
from tools.harm import searching
from tools.harm.network import Kind
from tools.harm.record import Measured

MOST_LOST = 0.01
LEAST_AGREEMENT = 0.98
MOST_CHANGE = 0.02
_NONE = "–"
_HEAD = (
    "| network | kind | inputs | run | off | kept | capped | right before > after | lost ± 2 s.e. | agree | KL "
    "| change | foretold | CPU s | MiB |"
)
_KIND_ORDER = list(Kind)


def fill(
    path: Path,
    found: Sequence[Measured],
    picture: str = "",
    edits: str = "",
    foretold: str = "",
    calibration: str = "",
) -> None:
    """Rewrite the page's marked parts.

    `picture` and `edits` are paths of pictures from the page, empty if none was drawn; `foretold` is what became of
    what was foretold, `calibration` how often the upper end holds on networks that had no part in it.
    """
    shown = {
        name: f"![Loss foretold, up to the upper end, against the loss on {of}]({drawn})" if drawn else ""
        for name, drawn, of in (("picture", picture, "real inputs"), ("edits", edits, "labelled images"))
    }
    page.fill(
        path,
        {
            "all": table(found),
            "summary": summary(found),
            "search": searching.table(found),
            "foretold": foretold,
            "calibration": calibration,
            **shown,
        },
    )


def table(found: Sequence[Measured]) -> str:
    """One row for each network and setting, by kind; empty if nothing was measured."""
    if not found:
        return ""
    ordered = sorted(found, key=lambda one: (_KIND_ORDER.index(Kind(one.kind)), one.network, one.setting))
    rows = [_row(one) for one in ordered]
    return "\n".join([_HEAD, "|" + "---|" * _HEAD.count(" | ") + "---|", *rows])


def _row(one: Measured) -> str:
    cells = [one.network, one.kind, str(one.samples), f"`{one.setting}`" if one.setting else "default"]
    if one.outcome != "written":
        return f"| {' | '.join([*cells, one.outcome.replace('|', '/')])} |" + " |" * (_HEAD.count(" | ") - len(cells))
    cells += [str(one.pruned), str(one.kept), str(one.capped), _right(one), _lost(one), _percent(one.get("agreement"))]
    cells += [_number(one.get("divergence")), _number(one.largest_change), _foretold(one)]
    cells += [f"{one.cpu:.1f}", f"{one.peak / 2**20:.0f}"]
    return f"| {' | '.join(cells)} |"


def _right(one: Measured) -> str:
    before, after = one.get("right_before"), one.get("right_after")
    return _NONE if before is None or after is None else f"{100 * before:.1f} > {100 * after:.1f}"


def _lost(one: Measured) -> str:
    lost, error = one.get("loss"), one.get("loss_error")
    return _NONE if lost is None or error is None else f"{100 * lost:.1f} ± {200 * error:.1f}"


def _foretold(one: Measured) -> str:
    """The predicted loss and its upper end in percent, or the predicted relative change."""
    loss, upper, change = (one.predicted.get(name) for name in ("loss", "loss_upper", "relative_change"))
    if loss is not None:
        return f"{100 * loss:.1f}" + ("" if upper is None else f" (at most {100 * upper:.1f})")
    return _NONE if change is None else f"change {change:.3f}"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def harmless(one: Measured) -> bool:
    """Whether a run left the network as good as it came: the project's own promise.

    Labelled: at most 1 point lost. Others: 98 % agreement, or no output changed by more than 2 % of its variation. A
    run that wrote nothing did no harm.
    """
    if one.outcome != "written":
        return True
    lost, agreement, change = one.get("loss"), one.get("agreement"), one.largest_change
    if lost is not None:
        return lost <= MOST_LOST + 1e-9
    return (agreement is not None and agreement >= LEAST_AGREEMENT) or (change is not None and change <= MOST_CHANGE)


def summary(found: Sequence[Measured]) -> str:
    """For each setting: how many networks it left as good as they came, and the worst of those it did not."""
    lines = []
    for setting in sorted({one.setting for one in found}):
        rows = [one for one in found if one.setting == setting]
        written = [one for one in rows if one.outcome == "written"]
        losses = {one.network: loss for one in written if (loss := one.get("loss")) is not None}
        name = f"`{setting}`" if setting else "default"
        line = f"- {name}: {sum(map(harmless, rows))} of {len(rows)} networks are left as good as they came"
        if losses:
            worst = max(losses, key=lambda network: losses[network])
            line += f"; the largest loss is {100 * losses[worst]:.1f} points ({worst})"
        if len(written) < len(rows):
            silent = len(rows) - len(written)
            line += f"; {silent} run{'s' * (silent > 1)} wrote nothing"
        lines.append(f"{line}.")
    return "\n".join(lines)
