"""Fold and score one model: everything the run decides before anything is proven or written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnx import ModelProto

from onnx_clp.cap import bound_activations
from onnx_clp.cap.bound_activations import Cap, Statistic
from onnx_clp.cleanup import cleaning
from onnx_clp.cleanup.cleaning import Tally
from onnx_clp.config import CleanConfig
from onnx_clp.document.evidence import Outlook
from onnx_clp.document.readings import Readings
from onnx_clp.errors import NotValidated, UnsupportedModelError, UsageError
from onnx_clp.file.messages import freeze_inputs
from onnx_clp.fold import backward, forward, normalisations
from onnx_clp.fold.backward import Left
from onnx_clp.fold.normalisations import Sight
from onnx_clp.gauge.request import Landmark
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import head_check, prune_channels, triggers
from onnx_clp.judge.calibrated import Probe
from onnx_clp.judge.downstream_gain import Gains
from onnx_clp.judge.prune_channels import LayerVerdict, Raw
from onnx_clp.layers.find import is_blocked
from onnx_clp.layers.rewrite import Layers, find_layers
from onnx_clp.modelfile.reader import ModelFile
from onnx_clp.run import auditor, outlook
from onnx_clp.run.auditor import Auditing
from onnx_clp.run.capping import bound, calibrate
from onnx_clp.run.dose import Cuts, Dose, Dosing, Measure
from onnx_clp.text import one_line
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx_clp.compaction.compact import Compacted

Tick = Callable[[str, int, int], None]


@dataclass(slots=True, eq=False)
class Place:
    """One scope with what was found in it; `sights` and `left` go by the id of a node."""

    scope: GraphIndex
    layers: Layers
    left: Left
    sights: dict[int, Sight]
    verdicts: list[LayerVerdict]


@dataclass(slots=True, eq=False)
class Analysis:
    """What was found and changed.

    Attributes:
        folded: the model after folding; None when nothing was folded (or frozen).
        final: the model after pruning; None when nothing was pruned.
        compacted: the model after channels were taken out; None when none was.
        places: what was found, scope by scope.
        frozen: inputs taken out by `freeze_inputs`.
        caps: values that were to be capped, who told their limits, and why one was not.
        readings: what was measured on the user's inputs; None where nothing was.
        compaction: what became of each layer with channels that do nothing; None when it was not asked for.
        findings: what is in the graph that pruning cannot touch.
        dose: how far the run went.
        nodes_before: nodes of the input in all scopes.
        orphans: constants deleted because folding or pruning took their last use.
        tally: what cleaning up took out, before folding and at the end.
        cleaned: the model after the cleaning at the end; None when that found nothing.
        classes_judged: rows of the last linear layers that were compared.
        outlook: what further steps would find in the file as it came.
    """

    index: ModelIndex
    folded: ModelProto | None
    final: ModelProto | None
    places: list[Place]
    frozen: list[str]
    nodes_before: int
    caps: list[Cap]
    findings: tuple[Finding, ...]
    dose: Dose
    readings: Readings | None = None
    compacted: ModelProto | None = None
    compaction: list[Compacted] | None = None
    orphans: int = 0
    tally: Tally = field(default_factory=Tally)
    cleaned: ModelProto | None = None
    classes_judged: int = 0
    outlook: Outlook = field(default_factory=Outlook)
    _last: Tally = field(default_factory=Tally)

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
        return self.index.node_count() - self._last.nodes

    def clean(self, file: ModelFile) -> None:
        """Take out what is dead, does nothing or is stored twice, keeping what the model was before for the proof."""
        copy = _snapshot(self.changed or file.model)
        self._last = cleaning.clean(copy, file.store)
        if self._last:
            self.cleaned, self.tally = copy, self.tally + self._last

    @property
    def verdicts(self) -> list[LayerVerdict]:
        """Every layer's, in the order they were judged."""
        return [verdict for place in self.places for verdict in place.verdicts]


_FIRST = {"none": lambda *_: Tally(), "own": cleaning.drop_dead_readers, "all": cleaning.simplify}
"""What goes before folding, by the level of cleaning up: a dead reader keeps a normalisation from being folded."""

Search = Callable[[GraphEdit, "ModelProto | None", list[Place]], bool]
"""Gets the model after folding, None where that changed nothing, and what was found in it. True: it undid a trigger."""


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

    The skeleton in `file` is copied, never changed. `tick` hears of progress: stage, done, total.
    `known` are the raw scores of an earlier analysis of the same file, in the order of its verdicts: they are not
    computed again. `probe` measures what no normalisation tells of, before caps go in. `search` looks for triggers
    in the folded model and may change what its layers do; where it undid one, no caps on channels go in as well.
    `gauge` measures how far pruning and caps may go; without it they go as far as asked. `auditing` looks for a path
    of dormant channels, which goes before anything else does.

    Raises:
        UnsupportedModelError: the model's weights lie in a layout only one machine's runtime reads.
    """
    model = _snapshot(file.model)
    # Before IR 4 initializers are constants already, and have to be listed as inputs.
    frozen = freeze_inputs(model.graph) if config.freeze_inputs and model.ir_version >= 4 else []
    # Dead readers keep a normalisation from being folded, so they go first.
    first = _FIRST[config.cleanup](model, file.store)
    index = ModelIndex(model, file.store)
    _refuse_blocked(index)
    before, findings = index.node_count() + first.nodes, triggers.look(index)
    edit = GraphEdit(index, keep_orphans=config.cleanup == "none")
    statistics = _record(index)
    ahead = outlook.look(index, statistics, config)
    places = _fold_all(edit, index)
    folded = _snapshot(model) if edit.changed or frozen or first else None
    edit.changed = False
    heads = head_check.examined(index, places[0].layers)
    findings += head_check.findings(heads)
    _judge(index, places, config, tick, known or [None] * sum(len(place.layers.by_node) for place in places))
    layers = [(v.rewrite, place.sights[id(v.rewrite.layer.node)]) for place in places for v in place.verdicts]
    measured = calibrate(index, layers, statistics, config.bound_activations, probe)
    undone, skipped = _searched(search, edit, folded, places, config.skip_unsearchable)
    findings += skipped
    verdicts = [verdict for place in places for verdict in place.verdicts]
    known_of = [*statistics, *measured.statistics]
    dosing = Dosing(index, config, known_of)
    cuts = _audit(index, places[0].layers, dosing.landmark(verdicts), auditing, statistics)
    findings += () if auditing is None else auditing.findings
    still = None if auditing is None else auditing.pixels
    dose = dosing.decide(verdicts, gauge, head_check.evidence(heads), [cut.switch for cut in cuts], still)
    if dose.path:
        auditor.silence(cuts, dose)
    _prune(edit, places, dose.cuts)
    reaches = None if gauge is None or config.budget == 1 else dosing.reaches
    wanted = known_of if dose.caps is not None or config.bound_activations else []
    caps = bound(edit, wanted, dose.caps, reaches, undone)
    final = model if edit.changed else None
    caps, findings = [*caps, *measured.left], findings + measured.findings
    found = Analysis(index, folded, final, places, frozen, before, caps, findings, dose, measured.readings)
    found.tally = first
    found.classes_judged = sum(head.classes for head in heads if not head.trouble)
    found.outlook = ahead
    if config.compact:
        _compact(edit, found, config.compact_multiple)
    found.orphans = edit.orphans
    if config.cleanup == "all":
        found.clean(file)
    return found


def _searched(
    search: Search | None, edit: GraphEdit, folded: ModelProto | None, places: list[Place], lenient: bool
) -> tuple[bool, tuple[Finding, ...]]:
    """Whether a trigger was undone; a `lenient` run says in a finding that none could be looked for."""
    if search is None:
        return False, ()
    try:
        return search(edit, folded, places), ()
    except (UsageError, UnsupportedModelError, NotValidated) as error:
        if not lenient:
            raise
        return False, (Finding("search not done", "", one_line(str(error))),)


def _audit(
    index: ModelIndex,
    layers: Layers,
    landmark: Landmark | None,
    auditing: Auditing | None,
    statistics: Sequence[Statistic],
) -> tuple[auditor.Cut, ...]:
    """What would take a dormant path out; nothing where none was found or looked for."""
    if auditing is None or auditing.step is None:
        return ()
    auditing.step(index, layers, landmark, statistics)
    return auditing.cuts


def _compact(edit: GraphEdit, found: Analysis, multiple: int) -> None:
    """Take channels out of the model, keeping what it was before for the proof."""
    from onnx_clp.compaction.compact import compact

    if found.final is not None:
        found.final = _snapshot(found.final)
    edit.changed = False
    found.compaction = compact(edit, found.index.scopes, multiple)
    found.compacted = found.index.model if edit.changed else None


def _snapshot(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _refuse_blocked(index: ModelIndex) -> None:
    if any(is_blocked(node) for scope in index.scopes for node in scope.nodes):
        raise UnsupportedModelError(
            "it was saved by ONNX Runtime for one machine's blocked memory layout (com.microsoft.nchwc); "
            "give the model as it was before that optimisation"
        )


def _record(index: ModelIndex) -> list[Statistic]:
    return [statistic for scope in index.scopes for statistic in bound_activations.record(scope)]


def _fold_all(edit: GraphEdit, index: ModelIndex) -> list[Place]:
    places = [_fold(edit, scope) for scope in index.scopes]
    for place in places:
        for rewrite in place.layers.by_node.values():
            rewrite.commit(edit)
    edit.finish()
    return places


def _fold(edit: GraphEdit, scope: GraphIndex) -> Place:
    layers = find_layers(scope)
    left = backward.fold_scope(edit, scope, layers)
    left = forward.fold_scope(edit, scope, layers, left)
    return Place(scope, layers, left, {}, [])


def _judge(
    index: ModelIndex, places: list[Place], config: CleanConfig, tick: Tick, known: Sequence[Raw | None]
) -> None:
    done = 0
    for place in places:
        place.sights = normalisations.look(place.scope, place.layers)
        gains = Gains(place.scope, place.layers) if config.rule == "gain" else None
        for key, rewrite in place.layers.by_node.items():
            sight = place.sights[key]
            place.verdicts.append(prune_channels.examine(index, rewrite, sight, config, known[done], gains))
            rewrite.layer.weight.release()
            done += 1
            tick("score", done, len(known))


def _prune(edit: GraphEdit, places: list[Place], cuts: Cuts) -> None:
    numbered = iter(range(sum(len(place.verdicts) for place in places)))
    for place in places:
        for verdict in place.verdicts:
            at = next(numbered)
            if at in cuts:
                prune_channels.prune(edit, verdict, place.sights[id(verdict.rewrite.layer.node)], cuts[at])
        for verdict in place.verdicts:
            if verdict.rewrite.zeroed.any():
                verdict.rewrite.commit(edit)
    edit.finish()
