"""The input and the rewritten model on the CPU and on the GPU: the same inputs, timed in turn, set side by side.

Sessions are opened as a deployment opens them, with every graph optimisation, unlike those that prove the fold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from onnx_clp.document.validation import ProviderComparison, ProviderRun, Rates
from onnx_clp.text import quoted
from onnx_clp.validation import compare, evaluate
from onnx_clp.validation.measuring import Measured
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import CPU, Engine, cpu_engine
from onnx_clp.validation.session import Outputs, RunError, Runner, open_runner
from onnx_clp.validation.terms import Terms

_MOST_ROUNDS = 15
_SECONDS = 5.0


@dataclass(slots=True)
class _Seat:
    """One model on one engine: what it gave, and what its runs over all inputs took (seconds each)."""

    model: str
    path: Path
    engine: Engine
    runner: Runner | None = None
    loading: float = 0.0
    draws: list[Outputs] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    rates: Rates | None = None
    failure: str = ""


def compare_providers(terms: Terms, original: Measured, rival: Engine) -> ProviderComparison:
    """The table: the CPU's rows first, then `rival`'s where it is on a GPU; a note says why it is not.

    Raises:
        MemoryError: a session does not fit beside the others.
    """
    engines = [cpu_engine(), rival] if rival.on_gpu else [cpu_engine()]
    models = [("input", terms.request.original)]
    if terms.request.written is not None:
        models.append(("cleaned", terms.request.written))
    seats = [_Seat(name, path, engine) for engine in engines for name, path in models]
    for seat in seats:
        _open(seat, terms, original)
    _time(seats, original)
    base = {seat.model: seat for seat in seats if seat.engine.providers[0] == CPU}
    note = (
        "" if rival.on_gpu else f"only the CPU is shown: {rival.overruled or rival.note.removeprefix('on the CPU: ')}"
    )
    return ProviderComparison(tuple(_row(seat, base[seat.model], original) for seat in seats), note)


def _open(seat: _Seat, terms: Terms, original: Measured) -> None:
    """Load the model and run it once over everything: what is timed later is warm."""
    start = time.perf_counter()
    try:
        seat.runner = open_runner(seat.path, seat.engine, AS_DEPLOYED)
        seat.loading = time.perf_counter() - start
        seat.draws = [seat.runner.run(feed) for feed in original.feeds]
        if terms.exam is not None:
            seat.rates = evaluate.rates(terms.exam.data, evaluate.predict(seat.runner, terms.exam))
    except RunError as refused:
        if refused.kind is refused.kind.MEMORY:
            raise MemoryError(str(refused)) from refused
        seat.runner, seat.failure = None, quoted(refused)


def _time(seats: list[_Seat], original: Measured) -> None:
    running = [(seat, seat.runner) for seat in seats if seat.runner is not None]
    deadline = time.perf_counter() + _SECONDS * len(running)
    for _ in range(_MOST_ROUNDS):
        for seat, runner in running:
            start = time.perf_counter()
            for feed in original.feeds:
                runner.run(feed)
            seat.taken.append((time.perf_counter() - start) / len(original.feeds))
        if time.perf_counter() > deadline:
            return


def _row(seat: _Seat, base: _Seat, original: Measured) -> ProviderRun:
    error = None
    if seat is not base and seat.draws and base.draws:
        found = compare.agreements(base.draws, seat.draws)
        errors = [a.error for a in found if a.error is not None and a.output not in original.unsteady]
        error = max(errors, default=None)
    return ProviderRun(
        model=seat.model,
        provider=seat.engine.providers[0],
        placed=dict(seat.runner.placed) if seat.runner is not None else {},
        load_seconds=seat.loading if seat.runner is not None else None,
        run_seconds=sorted(seat.taken)[len(seat.taken) // 2] if seat.taken else None,
        error=error,
        rates=seat.rates,
        failure=seat.failure,
    )
