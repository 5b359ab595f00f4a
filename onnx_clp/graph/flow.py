"""Where the content of a model's inputs flows: through nodes, nested graphs and local functions.

Content is what the values are, not how many there are: `Shape` and its like end a flow. A value reached is
remembered with the value it was reached from, so that a finding can name the input it goes back to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import FunctionProto, NodeProto

from onnx_clp.graph.functions import FunctionKey, called_function, key_of
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators import read
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import keeps
from onnx_clp.operators.traits import Trait

Value = tuple[GraphIndex, str]
_Key = tuple[int, str]


class Flow:
    """The values that the content of a graph input reaches, in time linear in the model.

    `stops` tells which nodes end the flow on top of those that read shapes only.
    """

    def __init__(self, index: ModelIndex, stops: Callable[[NodeProto], bool] = lambda _: False) -> None:
        self._index, self._stops = index, stops
        self._bodies: dict[int, list[GraphIndex]] = {}
        self._functions: dict[FunctionKey, GraphIndex] = {}
        for scope in index.scopes:
            if scope.owner is not None:
                self._bodies.setdefault(id(scope.owner), []).append(scope)
            elif isinstance(scope.proto, FunctionProto):
                self._functions[key_of(scope.proto)] = scope
        self._from: dict[_Key, Value | None] = {}
        self._spread()

    def reaches(self, scope: GraphIndex, name: str) -> bool:
        """Whether the value, as `scope` sees the name, holds content of a graph input."""
        home = scope.home(name) if name else None
        return home is not None and (id(home), name) in self._from

    def origin(self, scope: GraphIndex, name: str) -> str:
        """The name of a graph input whose content the value holds."""
        home = scope.home(name)
        while home is not None and (before := self._from[id(home), name]) is not None:
            home, name = before
        return name

    def body(self, node: NodeProto) -> list[GraphIndex]:
        """The nested graphs of a node."""
        return self._bodies.get(id(node), [])

    def function(self, node: NodeProto) -> GraphIndex | None:
        """The local function a node calls."""
        return self._functions.get(called_function(node))

    def _spread(self) -> None:
        main = self._index.main
        held = {*main.initializers, *main.sparse}
        waiting: list[Value] = [(main, name) for name in sorted(main.inputs - held)]
        self._from = {(id(main), name): None for _, name in waiting}
        while waiting:
            scope, name = waiting.pop()
            for home, reached in self._next(scope, name):
                key = (id(home), reached)
                if reached and key not in self._from:
                    self._from[key] = (scope, name)
                    waiting.append((home, reached))

    def _next(self, scope: GraphIndex, name: str) -> Iterator[Value]:
        for use in scope.uses(name):
            if use.node is None:
                yield from self._index.exits(use.scope, use.slot)
                yield from _fed_back(use.scope, use.slot)
            elif not self._ends(use.node, use.slot):
                yield from self._through(use.scope, use.node, use.slot)

    def _ends(self, node: NodeProto, slot: int) -> bool:
        if self.function(node) is not None:  # whatever operator it is called after
            return False
        return keeps(node, Trait.READS_SHAPE) or (is_op(node, "CastLike") and slot == 1) or self._stops(node)

    def _through(self, scope: GraphIndex, node: NodeProto, slot: int) -> Iterator[Value]:
        function = self.function(node)
        if function is not None:
            yield from _input_at(function, slot)
            return
        bodies = self.body(node)
        for body in bodies:
            yield from _input_at(body, slot)
        # What a Loop or Scan carries comes out by way of its body; all else an operator mixes.
        if not (bodies and is_op(node, "Loop", "Scan") and slot >= 2):
            yield from ((scope, name) for name in node.output)


def _input_at(body: GraphIndex, slot: int) -> Iterator[Value]:
    """The body's own input for an operand: Loop and Scan pass theirs on by position; If has no inputs."""
    proto = body.proto
    names = list(proto.input) if isinstance(proto, FunctionProto) else [value.name for value in proto.input]
    if slot < len(names):
        yield body, names[slot]


def _fed_back(body: GraphIndex, slot: int) -> Iterator[Value]:
    """A carried value goes back in: Loop's output k to its input k + 1, Scan's state k to input k."""
    owner = body.owner
    if owner is None:
        return
    if is_op(owner, "Loop") and 1 <= slot < len(owner.input) - 1:
        yield from _input_at(body, slot + 1)
    elif is_op(owner, "Scan") and slot < len(owner.input) - read.scan_inputs(owner):
        yield from _input_at(body, slot)
