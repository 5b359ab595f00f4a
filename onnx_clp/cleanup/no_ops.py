"""Nodes that hand their input on unchanged.

Before: x > Identity > y > Relu. After: x > Relu.

Such a node is, in ONNX's own operator set: Identity; Dropout where it is sure to run as inference and nothing reads
its mask (opset 7 to 11: always; 12 on: `training_mode` absent or constantly false; before 7: `is_test` set); Cast and
CastLike to the type the value has; Transpose that moves no axis; Reshape to the shape the value is proven to have. It
stays where it makes an output of its graph, because an output keeps its name. Where only what is recorded of its output
tells how many dimensions the value has, or of which type it is, the record goes over to its input; it stays where that
is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Final

from onnx import GraphProto, NodeProto

from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, input_name, is_op
from onnx_clp.operators.table import keeps
from onnx_clp.operators.traits import Trait

Shape = tuple[int | None, ...]

_MOST_STEPS: Final = 1000


def find(scope: GraphIndex) -> Iterator[NodeProto]:
    """The nodes of a scope that hand on their first input as it is."""
    for node in scope.nodes:
        rule = _RULES.get(node.op_type)
        if rule is not None and is_op(node, node.op_type) and _replaceable(scope, node) and rule(scope, node):
            yield node


def _replaceable(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether only the first output is read, and by nodes alone."""
    source, results = input_name(node, 0), list(node.output)
    if not source or not results or not results[0] or has_reference(node):
        return False
    if any(scope.uses(n) for n in results[1:] if n) or set(results) & set(scope.outputs):
        return False
    return scope.producer(source) is not None or not _tells_more(scope, results[0], source)


def _tells_more(scope: GraphIndex, result: str, source: str) -> bool:
    """Whether the rank or the type of `result` is known, and under its name `source` the same value's is not."""
    return any(known(result) is not None and known(source) is None for known in (scope.ranks.of, scope.element_type))


def apply(edit: GraphEdit, scope: GraphIndex, kept: Set[str]) -> list[str]:
    """Take out every such node of a scope; the operators taken out. Values that `kept` names stay."""
    done, told = [], dict[str, str]()
    for node in list(find(scope)):
        result, source = node.output[0], node.input[0]
        if set(node.output) & kept or not edit.redirect(scope, result, source):
            continue
        if _tells_more(scope, result, source):
            told[result] = source
        edit.remove(scope, node)
        done.append(node.op_type)
    edit.rename_records(scope, told)
    return done


def _identity(_scope: GraphIndex, _node: NodeProto) -> bool:
    return True


def _dropout(scope: GraphIndex, node: NodeProto) -> bool:
    if scope.opset < 7:
        return read.marked_as_test(node)
    mode = input_name(node, 2)
    if scope.opset < 12 or not mode:
        return True
    value = scope.constant(mode)
    return value is not None and not value.any()


def _cast(scope: GraphIndex, node: NodeProto) -> bool:
    to, has = read.cast_type(node), scope.element_type(node.input[0])
    return bool(has) and to == has


def _cast_like(scope: GraphIndex, node: NodeProto) -> bool:
    has = scope.element_type(node.input[0])
    return bool(has) and has == scope.element_type(input_name(node, 1))


def _transpose(_scope: GraphIndex, node: NodeProto) -> bool:
    perm = read.perm(node, None)
    return perm is not None and perm == tuple(range(len(perm)))


def _reshape(scope: GraphIndex, node: NodeProto) -> bool:
    wanted, shape = _target(scope, node), known_shape(scope, node.input[0])
    if wanted is None or shape is None or len(wanted) != len(shape):
        return False
    open_places = [w for w, s in zip(wanted, shape, strict=True) if w != 0 and w != s]
    return open_places in ([], [-1])


def _target(scope: GraphIndex, node: NodeProto) -> list[int] | None:
    """What a Reshape asks for, 0 standing for a size that is kept; None where that is not known."""
    wanted = read.SHAPE.of(node, scope.constant)
    return None if wanted is None or (read.zero_is_a_size(node) and 0 in wanted) else list(wanted)


def known_shape(scope: GraphIndex, name: str) -> Shape | None:
    """A value's shape as far as it is certain, None for an open size.

    Only graph inputs (whose sizes a runtime enforces), constants and Reshape are believed; what the file records of
    values in between is a claim.
    """
    for _ in range(_MOST_STEPS):
        home = scope.home(name)
        if home is None:
            return None
        if name in home.initializers and not home.is_overridable(name):
            return tuple(home.initializers[name].dims)
        node, scope = home.producer(name), home
        if node is None:
            return _input_shape(home, name)
        if is_op(node, "Reshape") and not has_reference(node):
            wanted = _target(home, node)
            return None if wanted is None else tuple(d if d > 0 else None for d in wanted)
        if not keeps(node, Trait.SHAPE, name):
            return None
        name = input_name(node, 0)
    return None


def _input_shape(home: GraphIndex, name: str) -> Shape | None:
    if home.parent is not None or not isinstance(home.proto, GraphProto):
        return None
    for value in home.proto.input:
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)
    return None


_RULES: Final[dict[str, Callable[[GraphIndex, NodeProto], bool]]] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _reshape,
}
