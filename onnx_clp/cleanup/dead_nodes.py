"""Nodes from which no path leads to an output: found by marking backwards from what must stay.

Before: x > Relu > y (an output), x > Exp > e (read by nothing). After: x > Relu > y.

What must stay: what makes the outputs of the main graph and of every local function, and operators that may do more
than compute. ONNX's own operators have no effect besides their outputs; of a custom operator nobody knows, so it
stays, with the function or the control flow around it. A nested graph lives and dies with its node; what it reads from
around it lives with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from onnx import FunctionProto, NodeProto

from onnx_clp.graph.functions import FunctionKey, called_function, functions_of, key_of, plain_domain
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import identity

Place = tuple[GraphIndex, NodeProto]

_PURE_DOMAINS: Final = frozenset(("", "ai.onnx.ml"))


def find(index: ModelIndex, kept: Iterable[str]) -> list[Place]:
    """Every dead node with its scope, but those inside another dead node; makers of the values `kept` are not dead."""
    live = _Marks(index)
    for scope in index.scopes:
        for node in scope.nodes:
            if live.lasting(node):
                live.mark_with_owners(scope, node)
        if scope.owner is None:
            live.reach((scope, name) for name in scope.outputs)
        live.reach((scope, name) for name in kept if name in scope.producers)
    return [
        (scope, node)
        for scope in index.scopes
        if scope.owner is None or id(scope.owner) in live.marked
        for node in scope.nodes
        if id(node) not in live.marked
    ]


class _Marks:
    """The nodes known to be live, by id."""

    def __init__(self, index: ModelIndex) -> None:
        self.marked: set[int] = set()
        self._lasting = _lasting_functions(index)
        self._functions = frozenset(functions_of(index.model))
        self._bodies: dict[int, list[GraphIndex]] = {}
        for scope in index.scopes:
            if scope.owner is not None:
                self._bodies.setdefault(id(scope.owner), []).append(scope)

    def lasting(self, node: NodeProto) -> bool:
        """Whether a node may do more than compute its outputs, or has none that could be missed."""
        return not identity(node) or _is_lasting(node, self._functions, self._lasting)

    def mark_with_owners(self, scope: GraphIndex, node: NodeProto) -> None:
        """Mark a node, and the nodes whose nested graphs hold it."""
        place: Place | None = (scope, node)
        while place is not None:
            self._mark(*place)
            scope = place[0]
            place = None if scope.owner is None or scope.parent is None else (scope.parent, scope.owner)

    def _mark(self, scope: GraphIndex, node: NodeProto) -> None:
        if id(node) not in self.marked:
            self.marked.add(id(node))
            self.reach(self._read(scope, node))

    def _read(self, scope: GraphIndex, node: NodeProto) -> list[tuple[GraphIndex, str]]:
        """What a node reads: its inputs and the outputs of its nested graphs."""
        read = [(scope, name) for name in node.input if name]
        for body in self._bodies.get(id(node), ()):
            read += [(body, name) for name in body.outputs]
        return read

    def reach(self, values: Iterable[tuple[GraphIndex, str]]) -> None:
        """Mark what makes these values, and all that it needs."""
        stack = list(values)
        while stack:
            scope, name = stack.pop()
            home = scope.home(name)
            node = None if home is None else home.producers.get(name)
            if home is None or node is None or id(node) in self.marked:
                continue
            self.marked.add(id(node))
            stack += self._read(home, node)


def _lasting_functions(index: ModelIndex) -> frozenset[FunctionKey]:
    """Local functions that hold an operator which may do more than compute, directly or through others."""
    functions = frozenset(functions_of(index.model))
    calls: dict[FunctionKey, list[NodeProto]] = {}
    for scope in index.scopes:
        root = scope
        while root.parent is not None:
            root = root.parent
        if isinstance(root.proto, FunctionProto):
            key = key_of(root.proto)
            calls.setdefault(key, []).extend(scope.nodes)
    found: set[FunctionKey] = set()
    size = -1
    while size < len(found):
        size = len(found)
        found |= {key for key, nodes in calls.items() if any(_is_lasting(n, functions, found) for n in nodes)}
    return frozenset(found)


def _is_lasting(node: NodeProto, functions: frozenset[FunctionKey], lasting: Iterable[FunctionKey]) -> bool:
    key = called_function(node)
    return key in lasting if key in functions else plain_domain(node.domain) not in _PURE_DOMAINS
