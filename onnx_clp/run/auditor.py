"""An audit as a step of a run: the folded model on dials, audited in a child process, the path's kernels named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from onnx_clp.check.attributes import node_label
from onnx_clp.document.audit import UNKNOWN, Audit, DormantPath, PathStart, QuietValue
from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.gauge.dials import LEAST_OPSET
from onnx_clp.gauge.request import Landmark
from onnx_clp.process.clock import Clock
from onnx_clp.run import remedies
from onnx_clp.run.dose import NO_WAY_OUT, WayOut
from onnx_clp.run.effort import audits, thoroughly
from onnx_clp.run.remedies import GateFix, PathCap, PathCut, Remedy
from onnx_clp.text import one_line, shown
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx import NodeProto

    from onnx_clp.audit.questions import Questions
    from onnx_clp.audit.sites import Read
    from onnx_clp.cap.bound_activations import Statistic
    from onnx_clp.config import CleanConfig
    from onnx_clp.graph.model import ModelIndex
    from onnx_clp.layers.rewrite import Layers
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.dose import Dose

PATH: Final = "path"
GATE: Final = "gate"
BLINDING: Final = "blinding"
"""The kinds of the findings."""

_NAME: Final = "audited.onnx"
_MOST_NAMED: Final = 4
_NO_SITES: Final = "the main graph has no layer of floats behind a first one"
_NOTHING_TO_RUN: Final = "no chain of thin kernels, and no value that comes to others past the layers: nothing to run"
_TOO_OLD: Final = f"its opset is below {LEAST_OPSET}"


class Auditing:
    """The audit of one run.

    Attributes:
        step: what the analysis calls once the model is folded; None where no audit was asked for.
        cuts: what would take the path and the gates out; empty before that, and where nothing was found.
        findings: what was found.
    """

    def __init__(self, file: ModelFile, source: Path | None, config: CleanConfig, clock: Clock) -> None:
        self._file, self._source, self._config, self._clock = file, source, config, clock
        self._audit: Audit | None = None
        self.cuts: tuple[Remedy, ...] = ()
        self.findings: tuple[Finding, ...] = ()
        self.step = self._step if audits(config) else None

    def report(self, dose: Dose) -> Audit | None:
        """What was found, and what of it was taken out; None where no audit was asked for."""
        if self._audit is None or not dose.cuts_path:
            return self._audit
        done = list(zip(self.cuts, dose.path, strict=True))
        replaced = {cut.switch.value for cut, setting in done if isinstance(cut, GateFix) and cut.is_whole(setting)}
        return replace(
            self._audit,
            removed=sum(len(setting.off) for cut, setting in done if isinstance(cut, PathCut)),
            capped=sum(len(setting.off) for cut, setting in done if isinstance(cut, PathCap)),
            quiet=tuple(replace(one, replaced=one.value in replaced) for one in self._audit.quiet),
            removal=None if dose.gauge is None else dose.gauge.prediction,
        )

    def _step(
        self, index: ModelIndex, layers: Layers, landmark: Landmark | None, statistics: Sequence[Statistic]
    ) -> None:
        from onnx_clp.audit.flatness import flat_cut
        from onnx_clp.audit.questions import questions
        from onnx_clp.audit.sites import reads

        found = reads(index, layers) if index.main.opset >= LEAST_OPSET else []
        cut = flat_cut(index, self._outputs[0]) if self._outputs else None
        plain = Audit(None, (), 0, None, blocked="" if cut is None else _cut_off(cut))
        if not found:
            note = _NO_SITES if index.main.opset >= LEAST_OPSET else _TOO_OLD
            return self._settle(replace(plain, note=f"{UNKNOWN}{note}"), index, found)
        asked = questions(index, layers, found, statistics)
        plain = replace(plain, left=asked.left)
        if not (asked if thoroughly(self._config) else asked.pressing):
            return self._settle(replace(plain, note=_NOTHING_TO_RUN), index, found)
        try:
            with self._clock.stage("audit"):
                audited = self._asked(index, found, landmark, asked)
        except (NotValidated, UsageError) as error:
            return self._settle(replace(plain, note=f"{UNKNOWN}{one_line(str(error))}"), index, found)
        left = asked.left + (0 if audited.path else len(asked.chains) - audited.driven)
        return self._settle(replace(audited, blocked=audited.blocked or plain.blocked, left=left), index, found)

    def _settle(self, audit: Audit, index: ModelIndex, found: Sequence[Read]) -> None:
        """What follows from an audit."""
        self._audit = audit
        self.findings = (*map(_gate, audit.quiet[:_MOST_NAMED]), *_blinding(audit))
        self.cuts = tuple(remedies.of_gates(audit.quiet, index.main))
        if audit.path is not None:
            # The end first: where the budget does not allow all, what is cut behind the rest stops a trigger as well.
            of_path = tuple(remedies.of_path(audit.path, found, zero=self._config.fill == "zero"))[::-1]
            self.cuts = (*of_path, *self.cuts)
            self.findings = (_finding(audit.path, found), *self.findings)

    def way_out(self, evident: int | None) -> WayOut:
        """What would take path and gates out; `evident` is the class that other evidence names, as a path may do."""
        if self._audit is None or not self.cuts:
            return NO_WAY_OUT
        switches, path = tuple(cut.switch for cut in self.cuts), self._audit.path
        if path is None:
            return WayOut(switches, None, next(one.pixels for one in self._audit.quiet if one.gives))
        return WayOut(switches, path.target, path.pixels, path.target == evident)

    @property
    def _outputs(self) -> tuple[str, ...]:
        named = self._config.output_name
        return tuple(value.name for value in self._file.model.graph.output) if named is None else (named,)

    def _asked(self, index: ModelIndex, found: Sequence[Read], landmark: Landmark | None, asked: Questions) -> Audit:
        from onnx_clp.audit.child import audit
        from onnx_clp.audit.dialling import dialled
        from onnx_clp.audit.request import AuditRequest
        from onnx_clp.audit.sites import scores_of
        from onnx_clp.modelfile.staging import scratch, staging

        config = self._config
        scores = scores_of(index.main, self._outputs[0])
        model, sites, joins = dialled(index, found, landmark, scores, asked)
        with scratch() as folder, staging(folder / _NAME) as stage:
            staged = stage(self._file, model, config.external_data).checkable()
            return audit(
                AuditRequest(
                    original=self._source or staged,
                    model=staged,
                    sites=sites,
                    joins=joins,
                    chains=asked.chains,
                    landmark=landmark,
                    outputs=self._outputs,
                    scores=scores,
                    steep=asked.steep,
                    images=config.images,
                    pixels=config.pixel_range,
                    limits=config.limits(self._file.size),
                ),
                self._clock.tick,
            )


def _finding(path: DormantPath, found: Sequence[Read]) -> Finding:
    makers = {read.value: read.makers for read in found}
    first = path.layers[0]
    names = [one.layer.name for one in makers[first.value]] or [first.value]
    return Finding(PATH, shown(names[0]), sentence(path), path.target)


def _gate(one: QuietValue) -> Finding:
    return Finding(
        GATE,
        shown(one.value),
        "this value is computed from the input and the same for every ordinary one, and goes into "
        f"{one.node} with values that are not: it may be a gate that waits for something rare",
    )


def _cut_off(node: NodeProto) -> str:
    return f"every way from the input to the scores leads through {node_label(node)} ({node.op_type}), which is flat"


def _blinding(audit: Audit) -> Iterator[Finding]:
    if audit.contradicted:
        few = ", ".join(shown(one, 24) for one in audit.contradicted[:_MOST_NAMED])
        more = f" and {len(audit.contradicted) - _MOST_NAMED} more" if len(audit.contradicted) > _MOST_NAMED else ""
        yield Finding(
            BLINDING,
            shown(audit.contradicted[0]),
            f"the statistics of {len(audit.contradicted)} normalisations claim spreads that ordinary inputs do not "
            f"come near ({few}{more}): they are not of this network's images, and mislead what goes by them",
        )
    if audit.blocked:
        yield Finding(BLINDING, "", f"no gradient of the class scores reaches the input: {audit.blocked}")


def sentence(path: DormantPath) -> str:
    """The path in words: what it is, where it leads, and why that is thought."""
    steps = [f"{shown(one.value, 24)} {_listed(one.channels)}" for one in path.layers]
    if len(steps) > _MOST_NAMED:
        steps = [*steps[: _MOST_NAMED - 1], f"... {len(steps) - _MOST_NAMED} more", steps[-1]]
    others = "" if path.others is None else f", other channels there {100 * path.others:.0f} %"
    shares = [one.share for one in path.layers if one.share is not None]
    mainly = f", each read with {100 * float(np.median(shares)):.0f} % of the next one's kernel" if shares else ""
    return (
        f"a path of few channels leads to class {path.target} ({' > '.join(steps)}{mainly}): its end, driven, turns "
        f"{100 * path.turned:.0f} % of ordinary images to it{others}; {100 * path.silent:.0f} % of its channels "
        f"fire on no ordinary input{_started(path.start)}"
    )


def _started(start: PathStart | None) -> str:
    """How small a patch drives it, as the end of a sentence."""
    if start is None:
        return ""
    far = "" if start.most is None else f" to at most {start.most:.3g}, ordinary ones to {start.ordinary:.3g}"
    return f"; {start.rows} by {start.columns} pixels drive its beginning{far}"


def _listed(channels: Sequence[int]) -> str:
    few = ", ".join(str(one) for one in channels[:_MOST_NAMED])
    return f"channel {few}" if len(channels) == 1 else f"channels {few}{', ...' if len(channels) > _MOST_NAMED else ''}"
