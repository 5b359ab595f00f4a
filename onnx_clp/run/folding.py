"""The first step of a run: the model copied, its dead readers out, and every affine folded that folds exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto

from onnx_clp.cap import bound_activations
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.cleanup import cleaning
from onnx_clp.config import CleanConfig
from onnx_clp.document.changes import Cleanup
from onnx_clp.document.evidence import Outlook
from onnx_clp.document.layers import AffineLeft
from onnx_clp.errors import UnsupportedModelError
from onnx_clp.file.messages import freeze_inputs
from onnx_clp.fold import backward, forward
from onnx_clp.fold.backward import Left
from onnx_clp.fold.normalisations import Sight
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import triggers
from onnx_clp.judge.prune_channels import LayerVerdict
from onnx_clp.layers.find import is_blocked
from onnx_clp.layers.rewrite import Layers, find_layers
from onnx_clp.modelfile.census import take
from onnx_clp.modelfile.reader import ModelFile
from onnx_clp.operators.nodes import identity, operator
from onnx_clp.run import outlook
from onnx_clp.verdicts import Finding


@dataclass(slots=True, eq=False)
class Place:
    """One scope with what was found in it; `sights` and `left` go by the id of a node."""

    scope: GraphIndex
    layers: Layers
    left: Left
    sights: dict[int, Sight]
    verdicts: list[LayerVerdict]


@dataclass(slots=True, eq=False)
class Folded:
    """A model after folding, with what was read off it before.

    Attributes:
        index: the model, which further steps edit.
        edit: what edits it.
        places: what was found, scope by scope.
        snapshot: the model as it is after folding; None when that changed nothing.
        statistics: what its normalisations said before they were folded.
        outlook: what further steps would find in the file as it came.
        findings: what is in the graph that pruning cannot touch.
        frozen: inputs taken out by `freeze_inputs`.
        first: what cleaning up took out before folding.
        nodes_before: nodes of the input in all scopes.
        affines_left: the affines that could not be folded, and why.
    """

    index: ModelIndex
    edit: GraphEdit
    places: list[Place]
    snapshot: ModelProto | None
    statistics: list[Statistic]
    outlook: Outlook
    findings: tuple[Finding, ...]
    frozen: list[str]
    first: Cleanup
    nodes_before: int
    affines_left: tuple[AffineLeft, ...]


_FIRST = {"none": lambda *_: Cleanup(), "own": cleaning.drop_dead_readers, "all": cleaning.simplify}
"""What goes before folding, by the level of cleaning up: a dead reader keeps a normalisation from being folded."""


def fold(file: ModelFile, config: CleanConfig) -> Folded:
    """Fold a copy of the skeleton in `file`.

    Raises:
        UnsupportedModelError: the model's weights lie in a layout only one machine's runtime reads.
    """
    model = snapshot(file.model)
    # Before IR 4 initializers are constants already, and have to be listed as inputs.
    frozen = freeze_inputs(model.graph) if config.freeze_inputs and model.ir_version >= 4 else []
    # Dead readers keep a normalisation from being folded, so they go first.
    first = _FIRST[config.cleanup](model, file.store)
    index = ModelIndex(model, file.store)
    _refuse_blocked(index)
    before, findings = take(file.model).nodes, triggers.look(index)
    edit = GraphEdit(index, keep_orphans=config.cleanup == "none")
    statistics = _record(index)
    ahead = outlook.look(index, statistics, config)
    places = _fold_all(edit, index)
    folded = snapshot(model) if edit.changed or frozen or first else None
    edit.changed = False
    left = tuple(_affines_left(places))
    return Folded(index, edit, places, folded, statistics, ahead, findings, frozen, first, before, left)


def snapshot(model: ModelProto) -> ModelProto:
    """A copy that later edits leave as it is."""
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


def _affines_left(places: list[Place]) -> Iterator[AffineLeft]:
    for place in places:
        for node, skipped in place.left.values():
            name = node.name or identity(node)
            yield AffineLeft(name, place.scope.place, operator(node), skipped.reason.value, skipped.sentence)


def _fold(edit: GraphEdit, scope: GraphIndex) -> Place:
    layers = find_layers(scope)
    left = backward.fold_scope(edit, scope, layers)
    left = forward.fold_scope(edit, scope, layers, left)
    return Place(scope, layers, left, {}, [])
