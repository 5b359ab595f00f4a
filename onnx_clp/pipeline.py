"""The order of things: read > fold > score > prune > validate > write.

`run` is the command line's call: from one path to another. `clean` is the library's: from a path or a
ModelProto to a `CleanResult` that can be looked at and saved. Both take the same steps, those of `job.Job`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.clock import Clock, Listener
from onnx_clp.config import CleanConfig
from onnx_clp.destination import check_destination, refuse_data_files

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.analysis import Analysis
    from onnx_clp.onnxfile import ModelFile
    from onnx_clp.report.document import Report


def run(
    source: Path,
    destination: Path | None,
    config: CleanConfig,
    *,
    overwrite: bool = False,
    progress: Listener | None = None,
    before_write: Callable[[Report], None] | None = None,
    beside: Sequence[Path] = (),
) -> Report:
    """Clean one file.

    Args:
        source: the model file; never changed.
        destination: where the result goes; None analyses and validates, and writes nothing.
        config: the options.
        overwrite: whether an existing destination may be replaced.
        progress: hears of stages and layers as they are done.
        before_write: gets the report when everything is proven and nothing is in place yet.
        beside: further files the caller is going to write; none may be a data file of the input.

    Raises:
        ClpError: nothing was written; the class tells why.
    """
    from onnx_clp import onnxfile
    from onnx_clp.job import Job

    if destination is not None:
        check_destination(source, destination, overwrite=overwrite)
    clock = Clock(progress)
    with clock.stage("read"):
        file = onnxfile.read(source, config.max_size)
    with file:
        for target in (*beside, *([] if destination is None else [destination])):
            refuse_data_files(file, target)
        return Job(file, source, destination, config, clock, before_write).run().report


def clean(source: Path | str | ModelProto, config: CleanConfig | None = None) -> CleanResult:
    """Clean a model and give the result without writing it.

    Args:
        source: a path, or a ModelProto (never changed; its external data would need a path).
        config: the options; None takes the defaults.

    Raises:
        ClpError: the class tells why.
    """
    from onnx_clp import onnxfile
    from onnx_clp.job import Job

    chosen = config or CleanConfig()
    clock = Clock()
    with clock.stage("read"):
        if isinstance(source, (str, Path)):
            file = onnxfile.read(Path(source), chosen.max_size)
        else:
            file = onnxfile.from_proto(source, chosen.max_size)
    done = Job(file, file.path, None, chosen, clock).run()
    return CleanResult(done.report, file, done.analysis, chosen)


class CleanResult:
    """A cleaned model that has not been written.

    Attributes:
        report: everything that was found and done.
    """

    def __init__(self, report: Report, file: ModelFile, analysis: Analysis, config: CleanConfig) -> None:
        self.report = report
        self._file, self._analysis, self._config = file, analysis, config
        self._model: ModelProto | None = None

    @property
    def model(self) -> ModelProto:
        """The cleaned model, complete in memory (external data taken in); made on first use."""
        if self._model is None:
            from onnx_clp.staging import complete

            self._model = complete(self._file, self._analysis.written)
        return self._model

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the cleaned model; the file appears whole or not at all.

        Raises:
            UsageError: the path is the input, or exists and `overwrite` is False.
            SaveError: it cannot be written.
        """

        destination = Path(path)
        check_destination(self._file.path or Path(), destination, overwrite=overwrite)
        from onnx_clp.staging import staging

        with staging(destination) as stage:
            stage(self._file, self._analysis.written, self._config.external_data).commit()
