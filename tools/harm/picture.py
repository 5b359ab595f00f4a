"""The picture of `docs/harm.md`: the loss foretold against the loss that came (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from tools.harm.record import Measured

_INK, _FADED, _RED = "#222222", "#b8b8b8", "#c0392b"
_DPI = 110
Point = tuple[float, float, float]


def points(found: Sequence[Measured]) -> list[Point]:
    """Predicted loss, its upper end and the true loss in percent, of every run that has both.

    Where there are no labels, the share of inputs whose answer changed stands for the loss.
    """
    out = []
    for one in found:
        loss, upper = one.predicted.get("loss"), one.predicted.get("loss_upper")
        agreement, true = one.get("agreement"), one.get("loss")
        if true is None and agreement is not None:
            true = 1 - agreement
        if loss is not None and true is not None:
            out.append((100 * loss, 100 * (loss if upper is None else upper), 100 * true))
    return out


def draw(found: Sequence[Measured], path: Path) -> bool:
    """Draw the picture; False, and nothing, if no run foretold a loss."""
    pairs = points(found)
    if not pairs:
        return False
    pyplot.switch_backend("Agg")
    matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = pyplot.subplots(figsize=(5, 4))
    for loss, upper, true in pairs:
        axes.plot([loss, upper], [true, true], color=_FADED, linewidth=1, zorder=1)
        axes.plot(loss, true, "o", markersize=4, color=_INK if true <= upper else _RED, zorder=2)
    end = max(max(pair) for pair in pairs) * 1.05 + 0.1
    axes.plot([0, end], [0, end], color=_FADED, linestyle="--", linewidth=0.8)
    axes.set(xlabel="loss foretold, up to the interval's upper end (%)", ylabel="loss on real inputs (%)")
    figure.savefig(path, dpi=_DPI, metadata={"Software": None}, bbox_inches="tight")
    pyplot.close(figure)
    return True
