"""Read-only questions about a model's nodes that the judge and the deliberately wrong folders share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

AFFINE = {"BatchNormalization", "Mul", "Add", "Sub", "Div"}
DEFAULT = {"", "ai.onnx"}

Body = GraphProto | FunctionProto


def bodies(model: ModelProto) -> Iterator[Body]:
    """The main graph, every nested graph and every function body."""
    tops: list[Body] = [model.graph, *model.functions]
    for body in tops:
        yield body
        for node in body.node:
            yield from _nested(node)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    one = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    return one + [g for a in node.attribute if a.type == AttributeProto.GRAPHS for g in a.graphs]


def _nested(node: NodeProto) -> Iterator[GraphProto]:
    for graph in subgraphs(node):
        yield graph
        for inner in graph.node:
            yield from _nested(inner)


def captured(node: NodeProto) -> set[str]:
    """Every name read inside the node's graphs (those defined inside included)."""
    inner = [n for g in _nested(node) for n in g.node]
    names = {i for n in inner for i in n.input} | {o.name for g in _nested(node) for o in g.output}
    return names - {""}


def affines(model: ModelProto) -> list[tuple[NodeProto, int]]:
    """Nodes that combine run-time data with constants as an affine does, each with its data input's place."""
    known = {i.name for i in model.graph.initializer}
    known |= {s.values.name for s in model.graph.sparse_initializer}
    live = {i.name for i in model.graph.input} - known
    found = list(_affines(model.graph, live))
    for function in model.functions:
        found += _affines(function, set(function.input))
    return found


def _affines(body: Body, live: set[str]) -> Iterator[tuple[NodeProto, int]]:
    live = set(live)
    for node in body.node:
        for graph in subgraphs(node):
            yield from _affines(graph, live | {i.name for i in graph.input})
        place = _data_input(node, live)
        if place is not None:
            yield node, place
        if _is_live(node, live):
            live.update(o for o in node.output if o)


def _is_live(node: NodeProto, live: set[str]) -> bool:
    if node.op_type == "Shape":
        return False
    read = set(node.input[:1]) if node.op_type == "CastLike" else set(node.input)
    return bool((read | captured(node)) & live)


def _data_input(node: NodeProto, live: set[str]) -> int | None:
    if node.op_type not in AFFINE or node.domain not in DEFAULT:
        return None
    runtime = [i for i, name in enumerate(node.input) if name in live]
    if runtime == [0]:
        return 0
    return 1 if runtime == [1] and len(node.input) == 2 else None


def counts(model: ModelProto) -> Counter[str]:
    """How many affines of each operator the model holds."""
    return Counter(n.op_type for n, _ in affines(model))


def labels(node: NodeProto) -> set[str]:
    """Names a report may call a node by."""
    return {node.name, *node.output} - {""}
