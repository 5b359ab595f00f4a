"""How long two models take on the CPU, measured in turns so that what else the machine does meets both alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import cpu_engine
from onnx_clp.validation.session import Feeds, Runner, open_runner

_WARM_UPS: Final = 2
_LEAST_TURNS: Final = 5
_MOST_TURNS: Final = 300


@dataclass(frozen=True, slots=True)
class Latency:
    """Median seconds of one run of each model, over `turns` turns in which each ran once.

    `ratio` is the median over the turns of after / before: on a busy machine the two runs of a turn slow down together,
    so it is steadier than the ratio of the medians.
    """

    before: float
    after: float
    turns: int
    ratio: float


def compare(before: Path, after: Path, feeds: Feeds, seconds: float) -> Latency:
    """Measure two models on the same feeds, as they would be deployed: all of ONNX Runtime's optimisations on.

    The order within a turn alternates. It stops after about `seconds` of running, not before five turns.

    Raises:
        RunError: a model does not load or run.
    """
    return _turns([open_runner(path, cpu_engine(), AS_DEPLOYED) for path in (before, after)], feeds, seconds)


def _turns(runners: list[Runner], feeds: Feeds, seconds: float) -> Latency:
    for runner in runners * _WARM_UPS:
        runner.run(feeds)
    taken: list[list[float]] = [[], []]
    deadline = time.perf_counter() + seconds
    while len(taken[0]) < _LEAST_TURNS or (len(taken[0]) < _MOST_TURNS and time.perf_counter() < deadline):
        for which in (0, 1) if len(taken[0]) % 2 else (1, 0):
            start = time.perf_counter()
            runners[which].run(feeds)
            taken[which].append(time.perf_counter() - start)
    ratio = statistics.median(last / first for first, last in zip(*taken, strict=True))
    return Latency(statistics.median(taken[0]), statistics.median(taken[1]), len(taken[0]), ratio)
