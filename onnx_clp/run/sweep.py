"""What other thresholds would prune: every u of a sweep from one scoring, every distinct result measured once.

A layer's scores do not depend on u. So each threshold is counted from the scores there are; thresholds that mark the
same channels give the same model, which is made and measured once, as the bytes a run with that -u would write.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.document import run

if TYPE_CHECKING:
    from onnx_clp.config import CleanConfig
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.analysis import Analysis
    from onnx_clp.validation import Outcome

Marks = frozenset[tuple[int, int, int]]
"""Channels that stand out: (layer, branch of the layer, channel of the branch), each counted from 0."""

_NAME = "variant.onnx"


@dataclass(frozen=True, slots=True)
class Level:
    """One threshold: what it marks, how many channels that switches off, and in how many layers."""

    u: float
    marks: Marks
    channels: int
    layers: int


@dataclass(frozen=True, slots=True)
class _Measured:
    rates: run.Rates | None = None
    failure: str = ""


class Sweeping:
    """The sweep of one run; one without thresholds stages nothing and reports None."""

    def __init__(self, analysis: Analysis, config: CleanConfig) -> None:
        self.levels = tuple(_level(analysis, u) for u in config.sweep)
        self._analysis, self._config = analysis, config
        self._paths: dict[Marks, Path] = {}

    @property
    def candidates(self) -> tuple[Path, ...]:
        """The staged models, in the order of `levels`."""
        return tuple(self._paths.values())

    def stage(self, file: ModelFile, cleanup: ExitStack) -> None:
        """Write every distinct model to a temporary folder that `cleanup` removes, where there is data for it."""
        if self._config.eval_data is None or not self.levels:
            return
        wanted = {level.marks: level for level in self.levels}
        from onnx_clp.modelfile.staging import scratch, staging

        stage = cleanup.enter_context(staging(cleanup.enter_context(scratch()) / _NAME))
        for level in wanted.values():
            variant = self._variant(file, level.u)
            self._paths[level.marks] = stage(file, variant.written, self._config.external_data).checkable()

    def _variant(self, file: ModelFile, u: float) -> Analysis:
        from onnx_clp.run.analysis import analyse

        known = [verdict.raw for verdict in self._analysis.verdicts]
        readings = self._analysis.readings
        probe = None if readings is None else lambda *_: readings
        return analyse(file, replace(self._config, u=u, sweep=(), budget=1.0), _unheard, known, probe)

    def report(self, outcome: Outcome | None) -> run.Sweep | None:
        """The document's part; without an `outcome` it counts only."""
        if not self.levels:
            return None
        measured = self._measured(outcome)
        foretold = self._predictions()
        points = tuple(
            _point(level, foretold.get(level.u), measured.get(level.marks, _Measured())) for level in self.levels
        )
        counts = [level.channels for level in self.levels]
        return run.Sweep(
            points=points,
            distinct=len({level.marks for level in self.levels}),
            knee=knee([level.u for level in self.levels], counts),
        )

    def _measured(self, outcome: Outcome | None) -> dict[Marks, _Measured]:
        if outcome is None:
            return {}
        found = {Path(c.path): _Measured(c.rates, c.failure) for c in outcome.candidates}
        return {marks: found[path.absolute()] for marks, path in self._paths.items()}

    def _predictions(self) -> dict[float, run.Prediction]:
        dosed = self._analysis.dose.dosed
        return {} if dosed is None else dict(zip(self._config.sweep, dosed.sweep, strict=True))


def _unheard(_stage: str, _done: int, _total: int) -> None:
    pass


def _level(analysis: Analysis, u: float) -> Level:
    marks, channels = set(), set()
    for at, verdict in enumerate(analysis.verdicts):
        for number, mask in enumerate(verdict.outlying(u)):
            for channel in mask.nonzero()[0].tolist():
                marks.add((at, number, channel))
                channels.add((at, verdict.branches[number].first + channel))
    return Level(u, frozenset(marks), len(channels), len({at for at, _ in channels}))


def _point(level: Level, prediction: run.Prediction | None, found: _Measured) -> run.SweepPoint:
    return run.SweepPoint(level.u, level.channels, level.layers, prediction, found.rates, found.failure)


def knee(us: Sequence[float], counts: Sequence[int]) -> float | None:
    """The u at which a falling count bends: the point farthest below the line from the first point to the last.

    Both axes are scaled to 0..1 first. None where the count does not fall or no point lies below the line; of equal
    distances the lowest u.
    """
    if len(us) < 3 or counts[0] <= counts[-1]:
        return None
    depths = [
        1 - (u - us[0]) / (us[-1] - us[0]) - (count - counts[-1]) / (counts[0] - counts[-1])
        for u, count in zip(us, counts, strict=True)
    ]
    best = max(range(len(us)), key=lambda place: (round(depths[place], 12), -place))
    return us[best] if depths[best] > 1e-9 else None
