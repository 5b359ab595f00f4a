"""Take out of a model what cannot change its outputs, whoever left it there.

Nodes that lead to no output (`dead_nodes`), nodes that hand their input on (`no_ops`), Transposes that others undo
(`transposes`), initializers that nothing reads, initializers stored twice (`duplicate_initializers`), and records of
values that are no more. What stays computes what it did; only a runtime may round a smaller graph otherwise. Names of
graph inputs and outputs, metadata and opsets are never touched, no local function is deleted, and what the training
information or a quantisation annotation names stays. Cleaning a cleaned model changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from onnx import GraphProto, ModelProto

from onnx_clp.cleanup import dead_nodes, duplicate_initializers, no_ops, transposes
from onnx_clp.file.store import TensorStore
from onnx_clp.fold.affine_forms import RECOGNISERS
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import is_op, subgraphs


@dataclass(frozen=True, slots=True)
class Tally:
    """How many things were taken out; `nodes` counts all nodes that went, those of nested graphs included.

    `no_ops` counts by operator. `dead_nodes` counts those inside dead nodes too. `transposes` counts how many fewer
    there are once they were pushed together.
    """

    dead_nodes: int = 0
    no_ops: Mapping[str, int] = field(default_factory=dict)
    unused_initializers: int = 0
    duplicate_initializers: int = 0
    stale_records: int = 0
    nodes: int = 0
    transposes: int = 0

    def __bool__(self) -> bool:
        return any((self.dead_nodes, self.no_ops, self.unused_initializers, self.transposes)) or any(
            (self.duplicate_initializers, self.stale_records)
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.dead_nodes + other.dead_nodes,
            dict(sorted((Counter(self.no_ops) + Counter(other.no_ops)).items())),
            self.unused_initializers + other.unused_initializers,
            self.duplicate_initializers + other.duplicate_initializers,
            self.stale_records + other.stale_records,
            self.nodes + other.nodes,
            self.transposes + other.transposes,
        )


def simplify(model: ModelProto, store: TensorStore) -> Tally:
    """Take out no-ops and dead nodes, again until there are none, in place."""
    total = Tally()
    while found := _simplify_once(model, store):
        total += found
    return total


def drop_dead_readers(model: ModelProto, store: TensorStore) -> Tally:
    """Take out dead nodes that read what a normalisation reads, and what reads them, in place.

    They change nothing, and the value before a normalisation may vanish only where nothing else reads it.
    """
    index = ModelIndex(model, store)
    dead = dead_nodes.find(index, _kept(index))
    if not dead:
        return Tally()
    gone = {id(node) for _, node in dead}
    wanted = {
        (scope, name)
        for scope in index.scopes
        for node in scope.nodes
        if id(node) not in gone and is_op(node, *RECOGNISERS)
        for name in node.input
    }
    edit, before = GraphEdit(index, keep_orphans=True), index.node_count()
    for scope, node in dead:
        if any((scope, name) in wanted for name in node.input):
            edit.remove(scope, node)
            wanted.update((scope, name) for name in node.output)
    edit.finish()
    count = before - ModelIndex(model, store).node_count()
    return Tally(dead_nodes=count, nodes=count)


def clean(model: ModelProto, store: TensorStore) -> Tally:
    """Take out everything that the module's docstring lists, in place."""
    total = simplify(model, store)
    while joined := _join_transposes(model, store):
        total += joined + simplify(model, store)
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    kept = _kept(edit.index)
    merged = duplicate_initializers.apply(edit, edit.index, kept)
    total += Tally(
        duplicate_initializers=merged,
        unused_initializers=_drop_unused(edit, kept),
        stale_records=_drop_records(edit),
    )
    edit.finish()
    return total


def _join_transposes(model: ModelProto, store: TensorStore) -> Tally:
    index = ModelIndex(model, store)
    gone = transposes.apply(model, index, _kept(index))
    return Tally(transposes=gone, nodes=index.node_count() - ModelIndex(model, store).node_count()) if gone else Tally()


def _simplify_once(model: ModelProto, store: TensorStore) -> Tally:
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    before, kept = edit.index.node_count(), _kept(edit.index)
    gone = Counter(op for scope in edit.index.scopes for op in no_ops.apply(edit, scope, kept))
    if gone:
        edit.finish()
        edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    dead = dead_nodes.find(edit.index, kept)
    for scope, node in dead:
        edit.remove(scope, node)
    edit.finish()
    if not gone and not dead:
        return Tally()
    left = ModelIndex(model, store).node_count()
    return Tally(dead_nodes=before - left - gone.total(), no_ops=dict(sorted(gone.items())), nodes=before - left)


def _drop_unused(edit: GraphEdit, kept: Set[str]) -> int:
    count = 0
    for scope in edit.index.scopes:
        for name in (*scope.initializers, *scope.sparse):
            if not (scope.uses(name) or name in scope.inputs or name in scope.outputs or name in kept):
                edit.drop_initializer(scope, name)
                count += 1
    return count


def _drop_records(edit: GraphEdit) -> int:
    """Drop what is recorded of names that a scope does not define, or does no more."""
    count = 0
    for scope in edit.index.scopes:
        for record in scope.proto.value_info:
            if not scope.defines(record.name):
                edit.forget_value_info(scope, record.name)
                count += 1
    return count


def _kept(index: ModelIndex) -> frozenset[str]:
    """Names that something other than a node's input or a graph's output refers to."""
    names: set[str] = set()
    for scope in index.scopes:
        if isinstance(scope.proto, GraphProto):
            for note in scope.proto.quantization_annotation:
                names.add(note.tensor_name)
                names.update(entry.value for entry in note.quant_parameter_tensor_names)
    for info in index.model.training_info:
        names.update(_read_by([info.initialization, info.algorithm]))
        for binding in (*info.initialization_binding, *info.update_binding):
            names.update((binding.key, binding.value))
    return frozenset(names)


def _read_by(graphs: list[Any]) -> Iterator[str]:
    while graphs:
        graph = graphs.pop()
        yield from (value.name for value in graph.output)
        for node in graph.node:
            yield from node.input
            graphs += [inner for _, inner in subgraphs(node)]
