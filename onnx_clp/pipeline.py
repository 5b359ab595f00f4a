"""The order of things: read > fold > score > prune > validate > write.

`run` is the command line's call: from one path to another. `clean` is the library's: from a path or a
ModelProto to a `CleanResult` that can be looked at and saved. Both take the same steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp import signals
from onnx_clp.config import CleanConfig
from onnx_clp.door import cause, is_same_file
from onnx_clp.errors import UnsupportedModelError, UsageError
from onnx_clp.names import shown_path
from onnx_clp.progress import Progress

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.analysis import Analysis
    from onnx_clp.onnxfile import ModelFile
    from onnx_clp.report.document import EvaluationReport, Report
    from onnx_clp.staging import Stage, Staged
    from onnx_clp.sweep import Sweep
    from onnx_clp.validation import Outcome

Listener = Callable[[Progress], None]
_DRY_NAME = "model.onnx"


@dataclass(slots=True)
class _Clock:
    """Seconds a stage took, and word of it to whoever listens."""

    listener: Listener | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        self.tick(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def tick(self, name: str, done: int, total: int) -> None:
        """Tell of progress inside a stage."""
        signals.check()
        if self.listener is not None:
            self.listener(Progress(name, done, total))


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

    if destination is not None:
        check_destination(source, destination, overwrite=overwrite)
    clock = _Clock(progress)
    with clock.stage("read"):
        file = onnxfile.read(source, config.max_size)
    with file:
        for target in (*beside, *([] if destination is None else [destination])):
            refuse_data_files(file, target)
        return _process(file, source, destination, config, clock, before_write)[0]


def check_destination(source: Path, destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that is the input, a folder, in no folder, or exists without `overwrite`."""
    name = shown_path(destination)
    try:
        trouble = _destination_trouble(source, destination, overwrite=overwrite)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: {cause(error, destination)}") from error
    if trouble:
        raise UsageError(f"{name}: {trouble}")


def _destination_trouble(source: Path, destination: Path, *, overwrite: bool) -> str:
    if source.exists() and is_same_file(source, destination):
        return "is the input itself; name another file for the output"
    if destination.is_dir():
        return "is a folder; name a file for the output"
    if destination.exists() and not destination.is_file():
        return "is a device, a FIFO or a socket; name a file for the output"
    if not destination.absolute().parent.is_dir():
        return "its folder does not exist; create it first"
    if (destination.exists() or destination.is_symlink()) and not overwrite:
        return "exists already; name another file or use --overwrite"
    return ""


def refuse_data_files(file: ModelFile, target: Path) -> None:
    """Raise UsageError where a file to be written is one that the input keeps its tensors in."""
    if any(is_same_file(data, target) for data in file.external.files()):
        raise UsageError(f"{shown_path(target)}: holds the input's external data; name another file")


def clean(source: Path | str | ModelProto, config: CleanConfig | None = None) -> CleanResult:
    """Clean a model and give the result without writing it.

    Args:
        source: a path, or a ModelProto (never changed; its external data would need a path).
        config: the options; None takes the defaults.

    Raises:
        ClpError: the class tells why.
    """
    from onnx_clp import onnxfile

    chosen = config or CleanConfig()
    clock = _Clock()
    with clock.stage("read"):
        if isinstance(source, (str, Path)):
            file = onnxfile.read(Path(source), chosen.max_size)
        else:
            file = onnxfile.from_proto(source, chosen.max_size)
    report, analysis = _process(file, file.path, None, chosen, clock, None)
    return CleanResult(report, file, analysis, chosen)


def _process(
    file: ModelFile,
    source: Path | None,
    destination: Path | None,
    config: CleanConfig,
    clock: _Clock,
    before_write: Callable[[Report], None] | None,
) -> tuple[Report, Analysis]:
    from onnx_clp import calibration, onnxfile
    from onnx_clp.analysis import analyse
    from onnx_clp.staging import scratch

    with clock.stage("analyse"):
        try:
            analysis = analyse(file, config, clock.tick, probe=calibration.probe(file, source, config))
        except UnsupportedModelError as error:
            named = str(error) if source is None else onnxfile.about(source, str(error))
            raise UnsupportedModelError(named) from error
    with contextlib.ExitStack() as cleanup:
        place = destination or Path(_DRY_NAME)
        if destination is None and config.validate:
            place = cleanup.enter_context(scratch()) / _DRY_NAME
        return _prove_and_write(
            file, source, place, destination, analysis, config, clock, before_write, cleanup
        ), analysis


def _prove_and_write(
    file: ModelFile,
    source: Path | None,
    place: Path,
    destination: Path | None,
    analysis: Analysis,
    config: CleanConfig,
    clock: _Clock,
    before_write: Callable[[Report], None] | None,
    cleanup: contextlib.ExitStack,
) -> Report:

    from onnx_clp.staging import staging
    from onnx_clp.sweep import Sweep

    stage = cleanup.enter_context(staging(place))
    staged = None
    if destination is not None or config.validate:
        with clock.stage("write"):
            staged = stage(file, analysis.written, config.external_data)
    outcome, sweep = None, Sweep(analysis, config)
    if config.validate:
        assert staged is not None
        with clock.stage("write"):
            sweep.stage(file, cleanup)
        outcome = _validate(file, source, analysis, staged, stage, config, clock, sweep.candidates)
    report = _report(file, source, destination, analysis, config, staged, outcome, clock, sweep)
    if before_write is not None:
        before_write(report)
    if destination is not None and staged is not None:
        staged.commit()
    return report


def _validate(
    file: ModelFile,
    source: Path | None,
    analysis: Analysis,
    staged: Staged,
    stage: Stage,
    config: CleanConfig,
    clock: _Clock,
    candidates: tuple[Path, ...],
) -> Outcome:
    from onnx_clp.validation import Request, validate

    with clock.stage("validate"):
        original = source or stage(file, None, "auto").checkable()
        both = analysis.folded is not None and analysis.final is not None
        folded = stage(file, analysis.folded, config.external_data).checkable() if both else None
        if analysis.final is None and analysis.folded is not None:
            folded = staged.checkable()
        return validate(
            Request(
                original=original,
                folded=folded,
                final=staged.checkable() if analysis.final is not None else None,
                provider=config.provider,
                tolerance=config.tolerance,
                seed=config.seed,
                shapes=config.shapes,
                eval_data=config.eval_data,
                output_name=config.output_name,
                timeout=config.timeout,
                memory=config.memory,
                model_bytes=file.size,
                candidates=candidates,
            )
        )


def _report(
    file: ModelFile,
    source: Path | None,
    destination: Path | None,
    analysis: Analysis,
    config: CleanConfig,
    staged: Staged | None,
    outcome: Outcome | None,
    clock: _Clock,
    sweep: Sweep,
) -> Report:
    from onnx_clp.report.assemble import assemble
    from onnx_clp.report.document import FileFacts, ValidationReport

    unasked = ValidationReport("not asked for", config.provider, "", "", None, None, None, ())
    output = None
    if destination is not None and staged is not None:
        output = FileFacts(str(destination), staged.sha256, staged.size)
    return assemble(
        analysis,
        file,
        config,
        input_facts=None if source is None else FileFacts(str(source), file.sha256(), file.size),
        output_facts=output,
        validation=unasked if outcome is None else outcome.validation,
        evaluation=_as_asked(outcome, config),
        findings=() if outcome is None else outcome.findings,
        seconds=clock.seconds,
        sweep=sweep.report(outcome),
    )


def _as_asked(outcome: Outcome | None, config: CleanConfig) -> EvaluationReport | None:
    """The evaluation with its file named as the user named it; the child process knows it by its full path."""
    if outcome is None or outcome.evaluation is None:
        return None
    return replace(outcome.evaluation, data=str(config.eval_data))


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
