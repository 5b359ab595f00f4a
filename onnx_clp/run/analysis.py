"""Fold and score one model: everything the run decides before anything is proven or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from onnx import ModelProto

from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.cleanup import cleaning
from onnx_clp.config import CleanConfig
from onnx_clp.document.changes import Cleanup, Compaction
from onnx_clp.document.decisions import Decision
from onnx_clp.document.evidence import Outlook
from onnx_clp.document.layers import AffineLeft, CapLeft, CappedValue, Caps
from onnx_clp.document.readings import Readings
from onnx_clp.errors import NotValidated, UnsupportedModelError, UsageError
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import head_check
from onnx_clp.judge.calibrated import Calibrated, Probe
from onnx_clp.judge.expected import Expectations
from onnx_clp.judge.head_check import Head
from onnx_clp.judge.prune_channels import LayerVerdict, Raw
from onnx_clp.modelfile.census import take
from onnx_clp.modelfile.reader import ModelFile
from onnx_clp.process.progress import Tick
from onnx_clp.run import capping, effort
from onnx_clp.run.capping import Reaches, calibrate
from onnx_clp.run.dose import NO_WAY_OUT, Dose, Measure, undosed
from onnx_clp.run.effort import Searched
from onnx_clp.run.folding import Folded, Place, fold, snapshot
from onnx_clp.run.outlying import standing_out
from onnx_clp.run.pruning import judge, prune
from onnx_clp.text import one_line
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx_clp.gauge.request import Landmark
    from onnx_clp.run.auditor import Auditing
    from onnx_clp.run.remedies import Remedy


@dataclass(slots=True, eq=False)
class Analysis:
    """What was found and changed.

    Attributes:
        folded: the model after folding; None when nothing was folded (or frozen).
        final: the model after pruning; None when nothing was pruned.
        compacted: the model after channels were taken out; None when none was.
        places: what was found, scope by scope.
        frozen: inputs taken out by `freeze_inputs`.
        caps: values that were to be capped, whose limits they have, and why one was not; None where none were to be.
        affines_left: the affines that could not be folded, and why.
        readings: what was measured on the user's inputs; None where nothing was.
        compaction: what became of each layer with channels that do nothing; None when it was not asked for.
        findings: what is in the graph that pruning cannot touch.
        dose: how far the run went.
        nodes_before: nodes of the input in all scopes.
        cleanup: what cleaning up took out, before folding and at the end.
        cleaned: the model after the cleaning at the end; None when that found nothing.
        classes_judged: rows of the last linear layers that were compared.
        outlook: what further steps would find in the file as it came.
        decisions: how far the run went by itself, and why.
        landmark: what tells in which pixel values the folded model takes images; None where nothing does.
    """

    index: ModelIndex
    folded: ModelProto | None
    final: ModelProto | None
    places: list[Place]
    frozen: list[str]
    nodes_before: int
    caps: Caps | None
    affines_left: tuple[AffineLeft, ...]
    findings: tuple[Finding, ...]
    dose: Dose
    readings: Readings | None = None
    compacted: ModelProto | None = None
    compaction: Compaction | None = None
    cleanup: Cleanup = field(default_factory=Cleanup)
    cleaned: ModelProto | None = None
    classes_judged: int = 0
    outlook: Outlook = field(default_factory=Outlook)
    decisions: tuple[Decision, ...] = ()
    landmark: Landmark | None = None

    @classmethod
    def of(
        cls, folded: Folded, final: ModelProto | None, caps: Caps | None, findings: tuple[Finding, ...], dose: Dose
    ) -> Analysis:
        """What became of a folded model."""
        return cls(
            index=folded.index,
            folded=folded.snapshot,
            final=final,
            places=folded.places,
            frozen=folded.frozen,
            nodes_before=folded.nodes_before,
            caps=caps,
            affines_left=folded.affines_left,
            findings=findings,
            dose=dose,
            cleanup=folded.first,
            outlook=folded.outlook,
        )

    @property
    def changed(self) -> ModelProto | None:
        """The model before the cleaning at the end; None when it is the input as it came."""
        return self.compacted or self.final or self.folded

    @property
    def written(self) -> ModelProto | None:
        """The model to write; None when it is the input as it came."""
        return self.cleaned or self.changed

    @property
    def nodes_after(self) -> int:
        """Nodes of the model to write, in all scopes."""
        return self.index.node_count() if self.cleaned is None else take(self.cleaned).nodes

    def clean(self, file: ModelFile) -> None:
        """Take out what is dead, does nothing or is stored twice, keeping what the model was before for the proof."""
        copy = snapshot(self.changed or file.model)
        last = cleaning.clean(copy, file.store)
        if last:
            self.cleaned, self.cleanup = copy, self.cleanup + last

    @property
    def verdicts(self) -> list[LayerVerdict]:
        """Every layer's, in the order they were judged."""
        return [verdict for place in self.places for verdict in place.verdicts]


Search = Callable[[GraphEdit, "ModelProto | None", list[Place], Sequence[Head], "Landmark | None"], Searched]
"""Gets the model after folding (None: that changed nothing), what was found in it, its heads, and what tells its pixel
values; may change layers."""


def analyse(
    file: ModelFile,
    config: CleanConfig,
    tick: Tick,
    known: Sequence[Raw | None] = (),
    probe: Probe | None = None,
    search: Search | None = None,
    gauge: Measure | None = None,
    auditing: Auditing | None = None,
) -> Analysis:
    """Fold every affine that folds exactly, judge every layer and prune the channels that stand out.

    The skeleton in `file` is copied, never changed. `tick` is called with a stage, what is done of it, and the total.
    `known` are the raw scores of an earlier analysis of the same file, in the order of its verdicts: they are not
    computed again. `probe` measures what no normalisation tells of, before caps go in. `search` looks for triggers
    in the folded model and may change what its layers do; where it undid one, no caps on channels go in as well.
    `gauge` measures how far pruning and caps may go; without it they go as far as asked. `auditing` looks for a path
    of dormant channels, which goes before anything else does.

    Raises:
        UnsupportedModelError: the model's weights lie in a layout only one machine's runtime reads.
    """
    folded = fold(file, config)
    places = folded.places
    heads = head_check.examined(folded.index, places[0].layers)
    judge(folded.index, places, config, tick, known or [None] * sum(len(place.layers.by_node) for place in places))
    measured = _calibrated(folded, config, probe)
    statistics = [*folded.statistics, *measured.statistics]
    searched, skipped = _searched(search, folded, heads, config, statistics)
    evidence = head_check.evidence(heads) or searched.named
    evident = None if searched.named else head_check.evident(heads)
    decided = _decided(folded, config, statistics, (evidence, evident), searched, gauge, auditing)
    final, caps = _changed(folded, config, decided, statistics, searched)
    findings = (*folded.findings, *head_check.findings(heads), *skipped, *decided.audited, *measured.findings)
    listed = capping.listed([*caps, *measured.left], decided.dose.caps, config.bound_activations)
    found = Analysis.of(folded, final, listed, findings, decided.dose)
    found.landmark = decided.landmark
    found.readings, found.classes_judged = measured.readings, head_check.classes_judged(heads)
    capped = 0 if listed is None else listed.capped
    reason = decided.dose.evidence or evidence
    found.decisions = effort.decisions(config, reason, searched, decided.dose.cuts_path, capped, folded.outlook)
    _tidy(found, folded.edit, file, config)
    return found


class _Decided(NamedTuple):
    """How far the run goes; what would take a dormant path out; where caps can be measured; what an audit found."""

    dose: Dose
    cuts: tuple[Remedy, ...] = ()
    reaches: Reaches | None = None
    audited: tuple[Finding, ...] = ()
    landmark: Landmark | None = None


def _decided(
    folded: Folded,
    config: CleanConfig,
    statistics: list[Statistic],
    told: tuple[str, int | None],
    searched: Searched,
    gauge: Measure | None,
    auditing: Auditing | None,
) -> _Decided:
    """The same; `told` is what makes a backdoor likely, and the class that alone it names."""
    evidence, evident = told
    verdicts = [verdict for place in folded.places for verdict in place.verdicts]
    if gauge is None and auditing is None:
        return _Decided(undosed(standing_out(verdicts, Expectations(statistics), config), config))
    from onnx_clp.run.dosing import Dosing

    dosing = Dosing(folded.index, config, statistics)
    landmark = dosing.landmark(verdicts)
    cuts, audited = _audit(folded, landmark, auditing)
    way_out = NO_WAY_OUT if auditing is None else auditing.way_out(evident)
    dose = dosing.decide(verdicts, gauge, evidence, way_out, searched)
    return _Decided(dose, cuts, None if gauge is None or config.budget == 1 else dosing.reaches, audited, landmark)


def _calibrated(folded: Folded, config: CleanConfig, probe: Probe | None) -> Calibrated:
    places = folded.places
    layers = [(v.rewrite, place.sights[id(v.rewrite.layer.node)]) for place in places for v in place.verdicts]
    return calibrate(folded.index, layers, folded.statistics, config.bound_activations, probe)


def _changed(
    folded: Folded,
    config: CleanConfig,
    decided: _Decided,
    statistics: list[Statistic],
    searched: Searched,
) -> tuple[ModelProto | None, list[CappedValue | CapLeft]]:
    """The model after pruning and caps, None where the search and they changed nothing; and what became of the caps."""
    dose = decided.dose
    _carry_out(folded.edit, decided, kernels=True)
    prune(folded.edit, folded.places, dose.cuts)
    _carry_out(folded.edit, decided, kernels=False)
    wanted = statistics if dose.caps is not None or config.bound_activations else []
    caps = capping.bound(folded.edit, wanted, dose.caps, decided.reaches, searched.undone)
    return folded.index.model if folded.edit.changed else None, caps


def _carry_out(edit: GraphEdit, decided: _Decided, *, kernels: bool) -> None:
    if decided.dose.path:
        from onnx_clp.run.remedies import carry_out

        carry_out(edit, decided.cuts, decided.dose.path, kernels=kernels)


def _tidy(found: Analysis, edit: GraphEdit, file: ModelFile, config: CleanConfig) -> None:
    """Take out of the changed model what does nothing."""
    if config.compact:
        _compact(edit, found, config.compact_multiple)
    found.cleanup = replace(found.cleanup, level=config.cleanup, orphans=edit.orphans)
    if config.cleanup == "all":
        found.clean(file)


def _searched(
    search: Search | None, folded: Folded, heads: Sequence[Head], config: CleanConfig, statistics: list[Statistic]
) -> tuple[Searched, tuple[Finding, ...]]:
    """What a search came to; a lenient run says in a finding that none could be done."""
    if search is None:
        return Searched(), ()
    from onnx_clp.run.dosing import Dosing

    verdicts = [verdict for place in folded.places for verdict in place.verdicts]
    landmark = Dosing(folded.index, config, statistics).landmark(verdicts)
    try:
        return search(folded.edit, folded.snapshot, folded.places, heads, landmark), ()
    except (UsageError, UnsupportedModelError, NotValidated) as error:
        if not effort.lenient(config):
            raise
        trouble = one_line(str(error))
        return Searched(trouble=trouble), (Finding("search not done", "", trouble),)


def _audit(
    folded: Folded, landmark: Landmark | None, auditing: Auditing | None
) -> tuple[tuple[Remedy, ...], tuple[Finding, ...]]:
    """What would take a path and gates out, and what was found; nothing where none was found or looked for."""
    if auditing is None or auditing.step is None:
        return (), ()
    auditing.step(folded.index, folded.places[0].layers, landmark, folded.statistics)
    return auditing.cuts, auditing.findings


def _compact(edit: GraphEdit, found: Analysis, multiple: int) -> None:
    """Take channels out of the model, keeping what it was before for the proof."""
    from onnx_clp.compaction.compact import compact

    if found.final is not None:
        found.final = snapshot(found.final)
    edit.changed = False
    found.compaction = compact(edit, found.index.scopes, multiple)
    found.compacted = found.index.model if edit.changed else None
