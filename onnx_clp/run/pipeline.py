"""The order of things: read > fold > score > prune > validate > write.

`run` is the command line's call: from one path to another. `clean` is the library's: from a path or a
ModelProto to a `CleanResult` that can be looked at and saved. Both take the same steps, those of `job.Job`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onnx_clp.config import CleanConfig
from onnx_clp.errors import UsageError
from onnx_clp.modelfile.destination import check_destination, refuse_data_files
from onnx_clp.process.clock import Clock, Listener
from onnx_clp.process.standby import standing_by
from onnx_clp.text import shown_path

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.document.run import Report
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.analysis import Analysis
    from onnx_clp.run.job import BeforeWrite


def run(
    source: Path,
    destination: Path | None,
    config: CleanConfig,
    *,
    overwrite: bool = False,
    progress: Listener | None = None,
    before_write: BeforeWrite | None = None,
    beside: Sequence[Path] = (),
) -> Report:
    """Clean one file.

    Args:
        source: the model file; never changed.
        destination: where the result goes; None analyses and validates, and writes nothing.
        config: the options.
        overwrite: whether an existing destination may be replaced.
        progress: called as stages and layers are done.
        before_write: gets the report when everything is proven and nothing is in place yet; gives the context in which
            the model is put in place. From then on nothing can fail, and no signal stops the run.
        beside: further files the caller is going to write; none may be a data file of the input.

    Raises:
        ClpError: nothing was written; the class tells why.
    """
    if destination is not None:
        check_destination(source, destination, overwrite=overwrite)
    _require_data(config)
    clock = Clock(progress)
    with standing_by(config.validate), _read(source, config, clock) as file:
        from onnx_clp.run.job import Job

        for target in (*beside, *([] if destination is None else [destination])):
            refuse_data_files(file, target)
        return Job(file, source, destination, config, clock, before_write, overwrite).run().report


def _read(source: Path, config: CleanConfig, clock: Clock) -> ModelFile:
    from onnx_clp.modelfile import reader

    with clock.stage("read"):
        return reader.read(source, config.max_size)


def _require_data(config: CleanConfig) -> None:
    """Refuse a data file that is none before any work is done, whether or not that work would come to it."""
    for option, path in (("--eval", config.eval_data), ("--calibrate", config.calibrate), ("--images", config.images)):
        if path is not None and not path.is_file():
            raise UsageError(f"{option} {shown_path(path)}: {'is not a file' if path.exists() else 'does not exist'}")


def clean(
    source: Path | str | bytes | bytearray | ModelProto,
    config: CleanConfig | None = None,
    *,
    progress: Listener | None = None,
) -> CleanResult:
    """Clean a model and give the result without writing it.

    Args:
        source: a path, or a ModelProto or the bytes of one (never changed; its external data would need a path).
        config: the options; None takes the defaults.
        progress: called as stages and layers are done, each a `Progress`.

    Raises:
        ClpError: the class tells why.
    """
    from onnx_clp.run.job import Job

    chosen = config or CleanConfig()
    _require_data(chosen)
    clock = Clock(progress)
    with clock.stage("read"):
        file = _opened(source, chosen.max_size)
    try:
        with standing_by(chosen.validate):
            done = Job(file, file.path, None, chosen, clock).run()
    except BaseException:
        file.close()
        raise
    return CleanResult(done.report, file, done.analysis, chosen)


def _opened(source: object, max_size: int) -> ModelFile:
    from onnx import ModelProto

    from onnx_clp.modelfile import reader

    if isinstance(source, (bytes, bytearray, memoryview)):
        return reader.from_bytes(bytes(source), max_size)
    if isinstance(source, (str, os.PathLike)):
        return reader.read(Path(source), max_size)
    if isinstance(source, ModelProto):
        return reader.from_proto(source, max_size)
    raise UsageError(f"a model is a path, bytes or a ModelProto, not {type(source).__name__}")


class CleanResult:
    """A cleaned model that has not been written; a context manager.

    It keeps the input's files open, from which `model` and `save` take the weights, until it is closed, left as a
    context or dropped.

    Attributes:
        report: everything that was found and done.
    """

    def __init__(self, report: Report, file: ModelFile, analysis: Analysis, config: CleanConfig) -> None:
        self.report = report
        self._file, self._analysis, self._config = file, analysis, config
        self._model: ModelProto | None = None
        self._close = weakref.finalize(self, file.close)

    def __repr__(self) -> str:
        state = "open" if self._close.alive else "closed"
        return f"<CleanResult {self.report.summary.verdict.value}, {state}: {self.report!r}>"

    def _repr_html_(self) -> str:
        """The report's fragment for a notebook."""
        return self.report._repr_html_()

    def to_html(self) -> str:
        """`Report.to_html`."""
        return self.report.to_html()

    def to_frame(self) -> Any:
        """`Report.to_frame`."""
        return self.report.to_frame()

    def close(self) -> None:
        """Close the input's files; a `model` made before stays, and a second call does nothing."""
        self._close()

    def __enter__(self) -> CleanResult:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def model(self) -> ModelProto:
        """The cleaned model, complete in memory (external data taken in); made on first use.

        Raises:
            UsageError: the result was closed before.
        """
        if self._model is None:
            self._check_open()
            from onnx_clp.modelfile.staging import complete

            self._model = complete(self._file, self._analysis.written)
        return self._model

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the cleaned model; the file appears whole or not at all.

        Raises:
            UsageError: the path is the input, or exists and `overwrite` is False; or the result was closed.
            SaveError: it cannot be written.
        """
        self._check_open()
        destination = Path(path)
        check_destination(self._file.path or Path(), destination, overwrite=overwrite)
        from onnx_clp.modelfile.staging import staging

        with staging(destination) as stage:
            staged = stage(self._file, self._analysis.written, self._config.external_data)
            staged.commit(overwrite=overwrite)

    def _check_open(self) -> None:
        if not self._close.alive:
            raise UsageError("the result was closed: take its model, or save it, before that")
