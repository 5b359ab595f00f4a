"""The loop: give jobs out, note each in the journal before it begins and when it ends, tell who listens."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import replace

from onnx_clp.batch.destinations import Destination
from onnx_clp.batch.executors import Executor
from onnx_clp.batch.journal import Journal
from onnx_clp.batch.record import Record, Task
from onnx_clp.errors import INTERNAL_ERROR, UsageError
from onnx_clp.process import signals
from onnx_clp.text import one_line, shown_path

_LOOK_SECONDS = 1.0


def run(
    jobs: Iterable[Task],
    executor: Executor,
    journal: Journal,
    outputs: Destination,
    hear: Callable[[Record], None],
    *,
    overwrite: bool = False,
) -> None:
    """Do every job; `hear` is called with each record after it is in the journal.

    An output that lies there already and that no batch put there is left alone, unless `overwrite`.

    Raises:
        Interrupted: a signal came; every process is ended, and the journal tells what was done.
        SaveError: the journal cannot be written.
    """
    batch = secrets.token_hex(8)
    waiting = deque(replace(job, batch=batch, known=journal.past.records.get(job.name)) for job in jobs)
    running: dict[Future[Record], Task] = {}
    note = _Notes(journal, hear, len(waiting))
    try:
        while waiting or running:
            while waiting and len(running) < executor.slots:
                job = waiting.popleft()
                if not overwrite and (record := _in_the_way(job, journal, outputs)) is not None:
                    note(record)
                    continue
                with signals.held():
                    journal.begin(job.name)
                    running[executor.submit(job)] = job
            for record in _finished(running):
                note(record)
    except BaseException:
        executor.abort(batch)
        raise


class _Notes:
    """Puts a record into the journal, together with what an interruption would say from then on."""

    def __init__(self, journal: Journal, hear: Callable[[Record], None], total: int) -> None:
        self._journal, self._hear = journal, hear
        self._ended, self._total = 0, total
        self._tell()

    def __call__(self, record: Record) -> None:
        with signals.held():
            self._journal.end(record)
            self._ended += 1
            self._tell()
        self._hear(record)

    def _tell(self) -> None:
        signals.tell(
            f"interrupted; {self._ended} of {self._total} models have ended, the same command goes on from there"
        )


def _in_the_way(job: Task, journal: Journal, outputs: Destination) -> Record | None:
    if journal.past.owns(job.name):
        return None
    there = next((name for name in job.targets if outputs.exists(name)), None)
    if there is None:
        return None
    error = f"{shown_path(there)}: exists and no batch wrote it; move it away, or replace it with --overwrite"
    return Record(name=job.name, source=job.source, exit_code=UsageError.exit_code, error=error)


def _finished(running: dict[Future[Record], Task]) -> Iterator[Record]:
    if not running:
        return
    for future in wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
        job = running.pop(future)
        try:
            yield future.result()
        except (Exception, CancelledError) as error:
            text = f"{shown_path(job.source)}: the worker failed: {type(error).__name__}: {error}"
            yield Record(name=job.name, source=job.source, exit_code=INTERNAL_ERROR, error=one_line(text))
