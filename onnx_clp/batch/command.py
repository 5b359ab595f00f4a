"""`onnx-clp batch`: options to jobs, records to what is printed, the worst outcome to an exit code.

Printing itself is the caller's: it knows the streams.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from onnx_clp.batch import executors, journal, page, runner, sources
from onnx_clp.batch.destinations import Destination, is_url, place
from onnx_clp.batch.options import BatchOptions, parse_batch
from onnx_clp.batch.record import Record, Task
from onnx_clp.batch.summary import Tally, table
from onnx_clp.errors import UsageError
from onnx_clp.text import shown, shown_path

Draw = Callable[[Tally], object]


@dataclass(frozen=True, slots=True)
class Sinks:
    """`result` writes text to stdout, `say` one line to stderr; `live` tells whether stderr is a terminal."""

    result: Callable[[str], None]
    say: Callable[[str], None]
    live: bool


def run(argv: Sequence[str], sinks: Sinks) -> int:
    """Run one batch and return its exit code.

    Raises:
        ClpError: the batch as a whole cannot be done, or was interrupted.
        SystemExit: --help was asked for and printed.
    """
    return perform(parse_batch(argv), sinks).exit_code


def perform(options: BatchOptions, sinks: Sinks) -> Tally:
    """Run the batch that `options` describe and give every model's record.

    Raises:
        ClpError: the batch as a whole cannot be done, or was interrupted.
    """
    for sentence in options.warnings:
        sinks.say(sentence)
    found = sources.find(options.where, options.out)
    for sentence in found.left_out:
        sinks.say(f"left out: {sentence}")
    jobs = [_job(name, source, options) for name, source in found.paths.items()]
    _check_targets(jobs)
    start, tally = time.monotonic(), Tally()
    outputs = place(options.out)
    with executors.opened(options.executor, options.address, options.jobs) as executor:
        outputs.prepare()
        with journal.opened(outputs) as log, _drawn(len(jobs), options, sinks) as draw:

            def hear(record: Record) -> None:
                tally.add(record)
                _tell(record, options, sinks)
                draw(tally)

            runner.run(jobs, executor, log, outputs, hear, overwrite=options.overwrite)
    _close(tally, time.monotonic() - start, options, outputs, sinks)
    return tally


def _job(name: str, source: str, options: BatchOptions) -> Task:
    return Task(
        name=name,
        source=source,
        out=options.out,
        options=options.words,
        salt=options.salt,
        views=options.views,
        write=options.write,
        retry=options.retry,
        max_size=options.max_size,
        seconds=options.seconds,
    )


def _check_targets(jobs: Sequence[Task]) -> None:
    """Refuse a batch in which two models, or a model and the batch's own files, would share an output."""
    taken = {journal.NAME: "the journal", page.NAME: "the index", journal.FOLDER: "the journal"}
    inputs = {os.path.realpath(job.source) for job in jobs if not is_url(job.source)}
    inputs |= {job.source for job in jobs if is_url(job.source)}
    for job in jobs:
        for target in job.targets:
            if target in taken:
                raise UsageError(f"{shown(target)}: would be written for {shown(job.name)} and for {taken[target]}")
            taken[target] = shown(job.name)
            where = f"{job.out.rstrip('/')}/{target}"
            if (where if is_url(job.out) else os.path.realpath(where)) in inputs:
                raise UsageError(f"{shown_path(where)}: is an input; name another folder for the outputs")


@contextlib.contextmanager
def _drawn(total: int, options: BatchOptions, sinks: Sinks) -> Iterator[Draw]:
    if options.quiet or not sinks.live:
        yield lambda _: None
        return
    from onnx_clp.batch.bar import BatchBar

    with BatchBar(total).shown() as bar:
        yield bar


def _tell(record: Record, options: BatchOptions, sinks: Sinks) -> None:
    if options.jsonl:
        sinks.result(json.dumps(record.to_dict()) + "\n")


def _close(tally: Tally, seconds: float, options: BatchOptions, outputs: Destination, sinks: Sinks) -> None:
    if page.available():
        outputs.write(page.NAME, page.render(tally, options.words, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())))
    if not options.quiet and not options.jsonl:
        sinks.result(table(tally, seconds))
        index = "index.html" if page.available() else journal.NAME
        sinks.result(f"\nnext: read {shown_path(f'{options.out.rstrip(os.sep)}/{index}')}\n")
