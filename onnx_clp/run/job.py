"""One run on one file that has been read: analyse, stage, prove, report, put in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onnx_clp.config import CleanConfig
from onnx_clp.errors import UnsupportedModelError
from onnx_clp.process import signals
from onnx_clp.process.clock import Clock
from onnx_clp.text import quoted

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.document.run import EvaluationReport, FileFacts, PatchBound, Report
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.modelfile.staged import Staged
    from onnx_clp.modelfile.staging import Stage
    from onnx_clp.run.analysis import Analysis
    from onnx_clp.run.auditor import Auditing
    from onnx_clp.run.searcher import Searching
    from onnx_clp.run.sweep import Sweeping
    from onnx_clp.validation import Outcome

BeforeWrite = Callable[["Report"], contextlib.AbstractContextManager[object]]
_DRY_NAME = "model.onnx"


class Done(NamedTuple):
    """What a job gives."""

    report: Report
    analysis: Analysis


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        file: the input, read.
        source: where it came from; None for a model that was in memory.
        destination: where the result goes; None writes nothing.
        config: the options.
        clock: times the stages.
        before_write: gets the report when everything is proven and nothing is in place yet; gives the context in which
            the model is put in place.
        overwrite: whether a file that lies at the destination by then may be replaced.
    """

    file: ModelFile
    source: Path | None
    destination: Path | None
    config: CleanConfig
    clock: Clock
    before_write: BeforeWrite | None = None
    overwrite: bool = False

    @cached_property
    def searching(self) -> Searching:
        """The search for triggers; one that was not asked for does nothing."""
        from onnx_clp.run.searcher import Searching

        return Searching(self.file, self.source, self.config, self.clock)

    @cached_property
    def auditing(self) -> Auditing | None:
        """The audit; None where there is none."""
        from onnx_clp.run.effort import audits

        if not audits(self.config):
            return None
        from onnx_clp.run.auditor import Auditing

        return Auditing(self.file, self.source, self.config, self.clock)

    def run(self) -> Done:
        """Take every step.

        Raises:
            ClpError: nothing was written; the class tells why.
        """
        analysis = self._analyse()
        with contextlib.ExitStack() as cleanup:
            return Done(self._prove_and_write(analysis, cleanup), analysis)

    def _analyse(self) -> Analysis:
        from onnx_clp.run.analysis import analyse
        from onnx_clp.run.gauge import gauge
        from onnx_clp.run.probe import probe

        with self.clock.stage("analyse"):
            try:
                return analyse(
                    self.file,
                    self.config,
                    self.clock.tick,
                    probe=probe(self.file, self.source, self.config),
                    search=self.searching.step,
                    gauge=gauge(self.file, self.source, self.config, self.clock),
                    auditing=self.auditing,
                )
            except UnsupportedModelError as error:
                raise UnsupportedModelError(self._named(str(error))) from error

    def _named(self, text: str) -> str:
        """The words with the model's name before them once: a child process has put it there, as an absolute path."""
        from onnx_clp.modelfile import reader

        if self.source is None:
            return text
        return reader.about(self.source, text.removeprefix(f"{quoted(self.source.absolute())}: "))

    def _prove_and_write(self, analysis: Analysis, cleanup: contextlib.ExitStack) -> Report:
        from onnx_clp.modelfile.staging import staging
        from onnx_clp.run.sweep import Sweeping

        place = self._place(cleanup)
        stage = cleanup.enter_context(staging(place))
        staged, outcome, sweep = None, None, Sweeping(analysis, self.config)
        if self.destination is not None or self.config.validate:
            with self.clock.stage("write"):
                staged = stage(self.file, analysis.written, self.config.external_data)
        if self.config.validate:
            assert staged is not None
            with self.clock.stage("write"):
                sweep.stage(self.file, cleanup)
            # A cleaned model is compared bit by bit first, so both must be read in the same way.
            beside = None if analysis.cleaned is not None else staged
            passing = cleanup.enter_context(staging(place, lasting=False, beside=beside))
            outcome = self._validate(analysis, staged, passing, sweep)
        report = self._report(analysis, staged, outcome, sweep)
        placing = contextlib.nullcontext() if self.before_write is None else self.before_write(report)
        with signals.held():
            with placing:
                if self.destination is not None and staged is not None:
                    staged.commit(overwrite=self.overwrite)
            signals.settle()
        return report

    def _place(self, cleanup: contextlib.ExitStack) -> Path:
        """Where the result is staged: beside its destination, or in a folder of its own that is not kept."""
        from onnx_clp.modelfile.staging import scratch

        if self.destination is not None:
            return self.destination
        return cleanup.enter_context(scratch()) / _DRY_NAME if self.config.validate else Path(_DRY_NAME)

    def _validate(self, analysis: Analysis, staged: Staged, stage: Stage, sweep: Sweeping) -> Outcome:
        from onnx_clp.validation import Request, validate

        config = self.config
        with self.clock.stage("validate"):
            return validate(
                Request(
                    original=self.source or stage(self.file, None, "auto").checkable(),
                    folded=self._lying(analysis.folded, analysis, staged, stage),
                    final=self._lying(analysis.final, analysis, staged, stage),
                    compacted=self._lying(analysis.compacted, analysis, staged, stage),
                    cleaned=self._lying(analysis.cleaned, analysis, staged, stage),
                    limits=config.limits(self.file.size),
                    tolerance=config.tolerance,
                    eval_data=config.eval_data,
                    output_name=config.output_name,
                    candidates=sweep.candidates,
                    compare_providers=config.compare_providers,
                    latency=config.latency,
                )
            )

    def _lying(self, model: ModelProto | None, analysis: Analysis, staged: Staged, stage: Stage) -> Path | None:
        """Where the model after one step lies; what is staged already where nothing came after it."""
        if model is None:
            return None
        return (staged if model is analysis.written else stage(self.file, model, self.config.external_data)).checkable()

    def _report(self, analysis: Analysis, staged: Staged | None, outcome: Outcome | None, sweep: Sweeping) -> Report:
        from onnx_clp.document.run import ValidationReport
        from onnx_clp.run.assemble import assemble
        from onnx_clp.run.footprint import compare

        unasked = ValidationReport("not asked for", self.config.provider, "", "", None, None, None)
        return assemble(
            analysis,
            self.file,
            self.config,
            input_facts=self._input_facts(),
            output_facts=self._output_facts(staged),
            validation=unasked if outcome is None else outcome.validation,
            evaluation=self._as_asked(outcome),
            findings=() if outcome is None else outcome.findings,
            seconds=self.clock.seconds,
            sweep=sweep.report(outcome),
            change=compare(self.file, analysis.written, staged, outcome),
            inversion=self.searching.report(),
            audit=None if self.auditing is None else self.auditing.report(analysis.dose),
            patch_bound=self._patch_bound(analysis),
        )

    def _patch_bound(self, analysis: Analysis) -> PatchBound | None:
        if self.config.patch_bound is None:
            return None
        from onnx_clp.run.patches import bound_patches

        return bound_patches(self.file, self.source, analysis, self.config, self.clock)

    def _input_facts(self) -> FileFacts | None:
        from onnx_clp.document.run import FileFacts

        file = self.file
        return None if self.source is None else FileFacts(str(self.source), file.sha256(), file.size, file.has_external)

    def _output_facts(self, staged: Staged | None) -> FileFacts | None:
        from onnx_clp.document.run import FileFacts

        if self.destination is None or staged is None:
            return None
        return FileFacts(str(self.destination), staged.sha256, staged.size, staged.data is not None)

    def _as_asked(self, outcome: Outcome | None) -> EvaluationReport | None:
        """The evaluation with its file named as the user named it; the child process knows it by its full path."""
        if outcome is None or outcome.evaluation is None:
            return None
        return replace(outcome.evaluation, data=str(self.config.eval_data))
