"""All scopes of a model: its main graph, the bodies nested in it, and its local functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto

from onnx_clp.file.store import TensorStore
from onnx_clp.graph.functions import FunctionKey, called_function, key_of
from onnx_clp.graph.index import GraphIndex, Revision
from onnx_clp.operators.nodes import STANDARD_DOMAINS, identity, subgraphs


class ModelIndex:
    """Every scope of a model, parents before their nested graphs."""

    def __init__(self, model: ModelProto, store: TensorStore) -> None:
        self.model, self.store = model, store
        self.scopes: list[GraphIndex] = []
        self._revision = Revision()
        self._remembered: tuple[int, dict[str, dict[Any, Any]]] = (0, {})
        self.main = self._add_tree(model.graph, "", _opset(model.opset_import))
        for function in model.functions:
            place = f"function {function.domain}::{'/'.join(filter(None, (function.name, function.overload)))}"
            self._add_tree(function, place, _opset(function.opset_import))
        self._calls = self._find_calls()
        for scope in self.scopes:
            scope.link()
        for scope in self.scopes:
            scope.find_constants()

    def _add_tree(self, root: GraphProto | FunctionProto, place: str, opset: int) -> GraphIndex:
        first = GraphIndex(root, None, place, opset, self.model.ir_version, self.store, None, self._revision)
        stack = [first]
        while stack:
            scope = stack.pop()
            self.scopes.append(scope)
            for node in scope.nodes:
                for attr, graph in subgraphs(node):
                    inner = f"{scope.place}/{node.name or identity(node)}.{attr}".lstrip("/")
                    given = (opset, self.model.ir_version, self.store, node, self._revision)
                    stack.append(GraphIndex(graph, scope, inner, *given))
        return first

    def _find_calls(self) -> dict[FunctionKey, list[tuple[GraphIndex, str]]]:
        """The identities of the nodes that call each local function, with the scope each is in."""
        calls: dict[FunctionKey, list[tuple[GraphIndex, str]]] = {key_of(f): [] for f in self.model.functions}
        for scope in self.scopes if calls else ():
            for node in scope.nodes:
                if (key := called_function(node)) in calls:
                    calls[key].append((scope, identity(node)))
        return calls

    def remembered(self, what: str) -> dict[Any, Any]:
        """What was found out about the uses of values as they are now; empty again after any change to them."""
        number = self._revision.number
        if self._remembered[0] != number:
            self._remembered = (number, {})
        return self._remembered[1].setdefault(what, {})

    def names(self) -> Iterator[str]:
        """Every value and initializer name of every scope."""
        for scope in self.scopes:
            yield from scope.inputs
            yield from scope.initializers
            yield from scope.sparse
            yield from scope.producers

    def exits(self, scope: GraphIndex, slot: int) -> list[tuple[GraphIndex, str]]:
        """Where the value at a graph output goes on: the owner's outputs, or those of a function's calls."""
        if scope.owner is not None and scope.parent is not None:
            shift = 1 if scope.owner.op_type == "Loop" else 0
            outputs = scope.owner.output
            return [(scope.parent, outputs[slot - shift])] if 0 <= slot - shift < len(outputs) else []
        if not isinstance(scope.proto, FunctionProto):
            return []
        return [
            (caller, node.output[slot])
            for caller, name in self._calls.get(key_of(scope.proto), ())
            if (node := caller.producer(name)) is not None and slot < len(node.output)
        ]

    def nodes_within(self, scope: GraphIndex, node: NodeProto) -> Iterator[tuple[GraphIndex, NodeProto]]:
        """A node of `scope`, then every node of the graphs nested in it, each with its own scope."""
        yield scope, node
        if not subgraphs(node):
            return
        within = {id(node)}
        for body in self.scopes:
            if id(body.owner) in within:
                for inner in body.nodes:
                    within.add(id(inner))
                    yield body, inner

    def node_count(self) -> int:
        """Nodes of all scopes."""
        return sum(len(scope.nodes) for scope in self.scopes)


def _opset(imports: Iterable[OperatorSetIdProto]) -> int:
    """The standard domain's version; 1 where it is not imported (IR 3 files before opset_import)."""
    return max((item.version for item in imports if item.domain in STANDARD_DOMAINS), default=1)
