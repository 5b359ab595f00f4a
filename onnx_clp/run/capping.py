"""Where caps on channels go: at statistics that the file or a calibration tells, as far as the dose allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onnx_clp.cap import bound_activations, ceilings
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.cap.ceilings import Ceiling
from onnx_clp.document.layers import CapLeft, CappedValue, Caps
from onnx_clp.fold.normalisations import Sight
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import calibrated
from onnx_clp.judge.calibrated import Calibrated, Probe
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.verdicts import Skipped, SkipReason

_UNDONE = Skipped(
    SkipReason.UNDONE, "the search undid the trigger it found, and caps on channels would cost accuracy on top of that"
)


_TOO_DEAR = Skipped(SkipReason.BUDGET, "caps at any height would cost more than the budget, as far as is known")


_UNMEASURED = Skipped(SkipReason.BUDGET, "what a cap there costs cannot be measured")


Reaches = Callable[[Ceiling], bool]
"""Whether what a cap costs can be measured there."""


def calibrate(
    index: ModelIndex,
    layers: list[tuple[LayerRewrite, Sight]],
    recorded: list[Statistic],
    times: float | None,
    probe: Probe | None,
) -> Calibrated:
    """What the user's inputs tell of the values behind `layers`; nothing where no caps were asked for."""
    if times is None:
        return Calibrated(None, (), ())
    return calibrated.calibrate(index, layers, recorded, times, probe)


def bound(
    edit: GraphEdit, statistics: list[Statistic], times: float | None, reaches: Reaches | None, undone: bool
) -> list[CappedValue | CapLeft]:
    """Put caps in at `times`·std, none where a trigger was `undone` or their cost is not known, and say what became."""
    caps: list[CappedValue | CapLeft] = []
    for statistic in statistics:
        found = _UNDONE if undone else _ceiling(statistic, times, reaches)
        if isinstance(found, Skipped):
            caps.append(CapLeft(statistic.output, found.sentence))
        else:
            ceilings.put(edit, found)
            caps.append(CappedValue(statistic.output, statistic.source))
    edit.finish()
    return caps


def listed(became: Iterable[CappedValue | CapLeft], times: float | None, asked: float | None) -> Caps | None:
    """What became of the values to be capped, at `times`·std or as `asked`; None where neither asks for caps."""
    if times is None and not asked:
        return None
    times = asked if times is None else times
    assert times is not None
    found = list(became)
    values = tuple(one for one in found if isinstance(one, CappedValue))
    return Caps(times, len(values), tuple(one for one in found if isinstance(one, CapLeft)), values)


def _ceiling(statistic: Statistic, times: float | None, reaches: Reaches | None) -> Ceiling | Skipped:
    """Where a cap goes; `times` is None where the budget allows for none, `reaches` where nothing was measured."""
    found = bound_activations.examine(statistic, 1.0 if times is None else times)
    if isinstance(found, Skipped):
        return found
    if reaches is not None and not reaches(found):
        return _UNMEASURED
    return _TOO_DEAR if times is None else found
