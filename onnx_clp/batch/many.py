"""A batch as a call: many models, one process each, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

from onnx_clp.batch.command import Sinks, perform
from onnx_clp.batch.options import parse_batch
from onnx_clp.batch.record import Record
from onnx_clp.config import CleanConfig
from onnx_clp.report.command import words_of


def clean_batch(
    where: Path | str,
    out: Path | str,
    config: CleanConfig | None = None,
    *,
    write: bool = True,
    overwrite: bool = False,
    html: bool = False,
    sarif: bool = False,
    jobs: int | None = None,
    heard: Callable[[str], None] | None = None,
) -> list[Record]:
    """Clean every model in a folder, a glob, a list file or behind a URL, as `onnx-clp batch` does.

    Args:
        where: a folder, a glob, a list file (one path a line) or a URL.
        out: the folder or URL for models, reports, journal and index.html; what lies there already is kept.
        config: the options of every single run; a registered rule is not known to the other processes.
        write: whether models are written, or reports alone.
        overwrite: whether outputs that no batch wrote may be replaced.
        html, sarif: further reports beside each output.
        jobs: models at a time; None takes one a processor.
        heard: gets a sentence for each model that is left out.

    Returns:
        How each model ended, the most suspicious first. A model that failed is one of them, not an error.

    Raises:
        ClpError: the batch as a whole cannot be done.
    """
    from onnx_clp.batch.summary import ranked

    words = [os.fspath(where), os.fspath(out), "-q", *_words(config)]
    wanted = ((not write, "--dry-run"), (overwrite, "--overwrite"), (html, "--html"), (sarif, "--sarif"))
    words += [option for asked, option in wanted if asked] + ([] if jobs is None else [f"--jobs={jobs}"])
    tally = perform(parse_batch(words), Sinks(lambda _: None, heard or (lambda _: None), live=False))
    return ranked(tally.records)


def _words(config: CleanConfig | None) -> Iterator[str]:
    chosen = config or CleanConfig()
    yield from words_of({field.name: getattr(chosen, field.name) for field in fields(chosen)})
