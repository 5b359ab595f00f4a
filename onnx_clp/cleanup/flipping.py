"""Which nodes to run with their data in another order, so that the fewest Transposes are left.

Each node that can run either way is on one side or the other, and so is whatever makes or reads its values and cannot.
A value costs a Transpose where not all that make and read it are on one side. The sides that cost least are a minimum
cut, found by maximum flow (Dinic, SciPy).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.cleanup.permutable import Order, Permuted, inverse
from onnx_clp.graph.index import GraphIndex, Use

_FLIPPED, _AS_IT_IS, _NEITHER = 0, 1, -1
_NEVER: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Flip:
    """Nodes to run in another order.

    Attributes:
        order: axis i of a value is then axis order[i] of what is held in its place.
        plans: the nodes, the fewest that save the most.
        saved: how many Transposes fewer that leaves, at least.
        ready: values that are there in that order already, each with the name of what holds it.
    """

    order: Order
    plans: Sequence[Permuted]
    saved: int
    ready: dict[str, str]

    def names(self) -> set[str]:
        """Every value that carrying it out has to do with."""
        return {name for one in self.plans for name in (*one.node.input, *one.node.output)} | set(self.ready.values())


def choose(scope: GraphIndex, plans: Sequence[Permuted], order: Order, orders: Mapping[int, Order]) -> Flip:
    """What to run in another order, of the nodes that can; `orders` has that of each Transpose, by the node's id."""
    ends = _Ends(scope, plans, order, orders)
    values = [ends.of(name) for name in ends.values]
    now = sum(len(sides) > 1 and _FLIPPED in sides for sides in values)
    cost, flipped = _cut(len(plans) + 2, values) if now else (0, np.zeros(0, bool))
    if cost >= now:
        return Flip(order, (), 0, {})
    return Flip(order, [plan for at, plan in enumerate(plans) if flipped[at + 2]], now - cost, ends.ready)


class _Ends:
    """What makes and what reads each value: one of the nodes that can run either way, or one of the two sides.

    A Transpose of yet another order is on neither: it is one Transpose on either side.
    """

    def __init__(self, scope: GraphIndex, plans: Sequence[Permuted], order: Order, orders: Mapping[int, Order]) -> None:
        self._scope, self._order, self._orders = scope, order, orders
        self._vertices = {id(plan.node): at + 2 for at, plan in enumerate(plans)}
        self._results = {name for plan in plans for name in plan.results}
        data = (plan.node.input[slot] for plan in plans for slot in plan.data)
        self.values = list(dict.fromkeys((*data, *(name for plan in plans for name in plan.results))))
        self.ready: dict[str, str] = {}
        self._seconds = self._every_other() if order == inverse(order) else set()

    def of(self, name: str) -> set[int]:
        """The sides and the nodes that make and read a value."""
        found = {self._maker(name), *(self._reader(use) for use in self._scope.uses(name))}
        return {end for end in found if end != _NEITHER}

    def _maker(self, name: str) -> int:
        node = self._scope.producer(name)
        if node is None:
            return _AS_IT_IS
        if self._is_another(node):
            return _NEITHER
        if self._orders.get(id(node)) == self._order and not self._undoes(node):
            self.ready[name] = node.input[0]
            return _FLIPPED
        return self._vertices.get(id(node), _AS_IT_IS) if name in self._results else _AS_IT_IS

    def _reader(self, use: Use) -> int:
        if use.node is None or use.scope is not self._scope:
            return _AS_IT_IS
        if self._is_another(use.node):
            return _NEITHER
        if self._orders.get(id(use.node)) == inverse(self._order) and self._undoes(use.node):
            return _FLIPPED
        return self._vertices.get(id(use.node), _AS_IT_IS)

    def _is_another(self, node: NodeProto) -> bool:
        return self._orders.get(id(node), self._order) not in (self._order, inverse(self._order))

    def _undoes(self, node: NodeProto) -> bool:
        """Whether a Transpose takes data out of the order; of an order that undoes itself, every other one does."""
        own = self._orders[id(node)]
        return own == inverse(self._order) and (own != self._order or id(node) in self._seconds)

    def _every_other(self) -> set[int]:
        """The Transposes of this order whose data has passed an odd number of them, by the node's id."""
        found, odd = set[int](), dict[str, bool]()
        for node in self._scope.nodes:
            passed = any(odd.get(name, False) for name in node.input)
            if self._orders.get(id(node)) == self._order:
                found |= {id(node)} if passed else set()
                odd[node.output[0]] = not passed
            elif id(node) in self._vertices:
                odd.update((name, passed) for name in node.output)
        return found


def _cut(vertices: int, values: Sequence[set[int]]) -> tuple[int, NDArray[np.bool_]]:
    """The least cost, and which vertices are on the flipped side."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    edges = np.array([edge for at, ends in enumerate(values) for edge in _edges(vertices + 2 * at, ends)])
    size = vertices + 2 * len(values)
    capacity = csr_array((edges[:, 2].astype(np.int32), (edges[:, 0], edges[:, 1])), shape=(size, size))
    found = maximum_flow(capacity, _FLIPPED, _AS_IT_IS)
    left = csr_array((capacity - found.flow) > 0)
    reached = breadth_first_order(left, _FLIPPED, return_predecessors=False)
    flipped = np.zeros(size, bool)
    flipped[reached] = True
    return int(found.flow_value), flipped


def _edges(first: int, ends: set[int]) -> Iterator[tuple[int, int, int]]:
    """One value: its cost is 1 where one of its ends is on the flipped side and another is not."""
    some, every = first, first + 1
    yield some, every, 1
    for end in ends:
        yield end, some, _NEVER
        yield every, end, _NEVER
