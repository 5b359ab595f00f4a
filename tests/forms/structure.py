"""What a fold may change: the affine, its linear node and their constants; the rest compares equal.

`changes(before, after)` lists every difference outside those in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from tests.forms.graphs import AFFINE, Body, bodies, captured, subgraphs

LINEAR = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "FusedConv",
    "QLinearConv",
    "ConvInteger",
    "MatMulInteger",
}
# Nodes on the way from the linear node to the affine: they may be rewired or go.
ROUTE = {"Identity", "Cast", "CastLike", "Dropout", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Concat"}
ROUTE |= {"Split", "DequantizeLinear", "Flatten", "Expand"}
NEW = {"Add", "Mul", "Constant"}  # a MatMul has no bias input; functions hold constants as nodes
LISTS = ("attribute_proto", "opset_import", "metadata_props")
WHOLE = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")


def changes(before: ModelProto, after: ModelProto, freed: frozenset[str] = frozenset()) -> list[str]:
    """Differences a fold must not make; `freed` names the inputs that `freeze_inputs` takes out."""
    found = [f"model {f}" for f in WHOLE if getattr(before, f) != getattr(after, f)]
    for name in ("opset_import", "metadata_props", "training_info", "configuration"):
        if list(getattr(before, name)) != list(getattr(after, name)):
            found.append(f"model {name}")
    found += _graph(before.graph, after.graph, freed, before.ir_version)
    if len(before.functions) != len(after.functions):
        return [*found, "the list of functions"]
    for b, a in zip(before.functions, after.functions, strict=True):
        for name in ("name", "domain", "overload", "doc_string", "input", "output", "attribute", *LISTS):
            if getattr(b, name) != getattr(a, name):
                found.append(f"function {b.name} {name}")
        found += _nodes(b, a)
    return found + _unread(after, before)


def _graph(before: GraphProto, after: GraphProto, freed: frozenset[str], ir: int = 4) -> list[str]:
    found = [f"graph {f}" for f in ("name", "doc_string") if getattr(before, f) != getattr(after, f)]
    if _inputs(before, freed, ir) != _inputs(after, frozenset(), ir):
        found.append("graph inputs")
    for name in ("output", "metadata_props"):
        if list(getattr(before, name)) != list(getattr(after, name)):
            found.append(f"graph {name}")
    return found + _nodes(before, after) + _initializers(before, after) + _annotations(before, after)


def _inputs(graph: GraphProto, freed: frozenset[str], ir: int) -> list[ValueInfoProto]:
    # Before IR 4 every initializer is an input, so a fold's new and dropped constants come and go there too.
    own = {i.name for i in graph.initializer} if ir < 4 else set()
    return [i for i in graph.input if i.name not in freed | own]


def _nodes(before: Body, after: Body) -> list[str]:
    """Surviving nodes keep order, names, docs and attributes; only the fold's own nodes may change."""
    found: list[str] = []
    place = 0
    gone: list[NodeProto] = []
    for node in after.node:
        at = _partner(node, before.node, place)
        if at is None:
            if node.op_type not in NEW | {"DequantizeLinear"}:  # which gets an axis with one scale a channel
                found.append(f"a new node {node.op_type} {list(node.output)}")
            continue
        gone += before.node[place:at]
        place = at + 1
        found += _inside(before.node[at], node)
    gone += before.node[place:]
    return found + _vanished(gone, before, after) + _rewired(before, after, gone)


def _partner(node: NodeProto, before: Sequence[NodeProto], start: int) -> int | None:
    same = [i for i in range(start, len(before)) if before[i] == node]
    if same:
        return same[0]
    alike = (i for i in range(start, len(before)) if _shell(before[i]) == _shell(node))
    return next(alike, None)


def _shell(node: NodeProto) -> bytes:
    """The node without its inputs, outputs and graphs."""
    shell = NodeProto()
    shell.CopyFrom(node)
    del shell.input[:]
    del shell.output[:]
    for attribute in [a for a in shell.attribute if node.op_type == "Gemm" and a.name == "beta"]:
        shell.attribute.remove(attribute)  # a C that was switched off may be switched on for the shift
    for attribute in shell.attribute:
        attribute.ClearField("g")
        del attribute.graphs[:]
    return bytes(shell.SerializeToString(deterministic=True))


def _inside(before: NodeProto, after: NodeProto) -> list[str]:
    pairs = zip(subgraphs(before), subgraphs(after), strict=True)
    return [words for b, a in pairs for words in _graph(b, a, frozenset())]


def _vanished(gone: Sequence[NodeProto], before: Body, after: Body) -> list[str]:
    read = _reads(after)
    found = []
    for node in gone:
        dead = not any(o in read for o in node.output) and any(o in _reads(before) for o in node.output)
        replaced = node.op_type == "Constant" and _changeable(_users(after, node.output[0]))
        if node.op_type not in AFFINE | ROUTE | LINEAR and not dead and not replaced:
            found.append(f"{node.op_type} {list(node.output)} is gone")
    return found


def _rewired(before: Body, after: Body, gone: Sequence[NodeProto]) -> list[str]:
    """Nodes of other kinds may only change by reading past a node that went."""
    lost = {o for n in gone for o in n.output}
    old = {n.output[0]: n for n in before.node if n.output}
    found = []
    for node in after.node:
        was = old.get(node.output[0]) if node.output else None
        if was is None or was.op_type != node.op_type or node.op_type in LINEAR | ROUTE | AFFINE:
            continue
        for a, b in zip(was.input, node.input, strict=False):
            if a != b and a not in lost:
                found.append(f"{node.op_type} {node.output[0]!r} reads {b!r} instead of {a!r}")
    return found


def _reads(body: Body) -> set[str]:
    names = {i for n in body.node for i in n.input} | {c for n in body.node for c in captured(n)}
    outs = {o.name for o in body.output} if isinstance(body, GraphProto) else set(body.output)
    return (names | outs) - {""}


def _initializers(before: GraphProto, after: GraphProto) -> list[str]:
    found = []
    new = {i.name: i for i in after.initializer}
    if len(new) != len(after.initializer):
        found.append("an initializer's name is used twice")
    common = [i.name for i in before.initializer if i.name in new]
    if common != [i.name for i in after.initializer if i.name in set(common)]:
        found.append("the order of initializers")
    for init in before.initializer:
        if init.name not in new:
            if not _users(before, init.name):
                found.append(f"the unused initializer {init.name!r} is gone")
        elif new[init.name] != init and not _changeable(_users(after, init.name)):
            found.append(f"the initializer {init.name!r} changed under another user")
    return found


def _users(body: Body, name: str) -> list[NodeProto]:
    return [n for n in body.node if name in {*n.input, *captured(n)}]


def _changeable(users: Sequence[NodeProto]) -> bool:
    return len(users) == 1 and users[0].op_type in LINEAR | AFFINE | ROUTE | {
        "Transpose",
        "If",
        "Loop",
        "Scan",
    }


def _annotations(before: GraphProto, after: GraphProto) -> list[str]:
    old, new = ({v.name: v for v in g.value_info} for g in (before, after))
    was, now = _present(before), _present(after)
    stale = [n for n in new if n not in now and (n in was or n not in old)]
    found = [f"value_info of {n!r}, which is not there" for n in stale]
    made = {o: n.op_type for n in after.node for o in n.output}
    # a product of scales may get one entry a channel: what was recorded of it is true no more
    changed = [n for n, v in old.items() if n in made and new.get(n) != v]
    found += [f"value_info of {n!r}" for n in changed if n in new or made[n] != "Mul"]
    old_q, new_q = ([q.tensor_name for q in g.quantization_annotation] for g in (before, after))
    if [q for q in old_q if q in now] != new_q:
        found.append("quantization annotations")
    return found


def _present(graph: GraphProto) -> set[str]:
    made = {o for n in graph.node for o in n.output}
    sparse = {s.values.name for s in graph.sparse_initializer}
    return made | {i.name for i in graph.initializer} | {i.name for i in graph.input} | sparse


def _unread(after: ModelProto, before: ModelProto) -> list[str]:
    """New initializers that nothing reads, and empty or repeated output names."""
    known = {i.name for b in _graphs(before) for i in b.initializer}
    found = []
    for graph in _graphs(after):
        read = {i for b in bodies(after) for i in _reads(b)}
        found += [
            f"the new initializer {i.name!r} is unused"
            for i in graph.initializer
            if i.name not in known and i.name not in read
        ]
    return found


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    return (b for b in bodies(model) if isinstance(b, GraphProto))
