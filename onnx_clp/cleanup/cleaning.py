"""Take out of a model what cannot change its outputs, whoever left it there.

Nodes that lead to no output (`dead_nodes`), nodes that hand their input on (`no_ops`), Transposes that others undo
(`transposes`), initializers that nothing reads, initializers stored twice (`duplicate_initializers`), and records of
values that are no more. What stays computes what it did; only a runtime may round a smaller graph otherwise. Names of
graph inputs and outputs, metadata and opsets are never touched, no local function is deleted, and what the training
information or a quantisation annotation names stays. Cleaning a cleaned model changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from typing import Any

from onnx import GraphProto, ModelProto

from onnx_clp.cleanup import dead_nodes, duplicate_initializers, no_ops, transposes
from onnx_clp.document.changes import Cleanup
from onnx_clp.file.store import TensorStore
from onnx_clp.fold.affine_forms import RECOGNISERS
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import is_op, subgraphs


def simplify(model: ModelProto, store: TensorStore) -> Cleanup:
    """Take out no-ops and dead nodes, again until there are none, in place."""
    total = Cleanup()
    while found := _simplify_once(model, store):
        total += found
    return total


def drop_dead_readers(model: ModelProto, store: TensorStore) -> Cleanup:
    """Take out dead nodes that read what a normalisation reads, and what reads them, in place.

    They change nothing, and the value before a normalisation may vanish only where nothing else reads it.
    """
    index = ModelIndex(model, store)
    dead = dead_nodes.find(index, _kept(index))
    if not dead:
        return Cleanup()
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
    return Cleanup(dead_nodes=before - ModelIndex(model, store).node_count())


def clean(model: ModelProto, store: TensorStore) -> Cleanup:
    """Take out everything that the module's docstring lists, in place."""
    total = simplify(model, store)
    while joined := _join_transposes(model, store):
        total += joined + simplify(model, store)
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    kept = _kept(edit.index)
    merged = duplicate_initializers.apply(edit, edit.index, kept)
    total += Cleanup(
        duplicate_initializers=merged,
        unused_initializers=_drop_unused(edit, kept),
        stale_records=_drop_records(edit),
    )
    edit.finish()
    return total


def _join_transposes(model: ModelProto, store: TensorStore) -> Cleanup:
    index = ModelIndex(model, store)
    return Cleanup(transposes=transposes.apply(model, index, _kept(index)))


def _simplify_once(model: ModelProto, store: TensorStore) -> Cleanup:
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
        return Cleanup()
    left = ModelIndex(model, store).node_count()
    return Cleanup(dead_nodes=before - left - gone.total(), no_ops=dict(sorted(gone.items())))


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
