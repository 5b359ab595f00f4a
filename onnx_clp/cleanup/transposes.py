"""Transposes pushed through the operators between them, until they meet others that undo them.

Before: x > Transpose > Relu > Transpose back > y. After: x > Relu > y.

TensorFlow's exporters put a Transpose before and behind each layer. Two in a row become one, those of one value are
merged, those of a constant are carried out; then whole regions of operators that can run either way change the order of
their axes (`permutable`) where that leaves fewer Transposes (`flipping`). Names and shapes of a graph's outputs stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Final

from onnx import ModelProto, NodeProto, helper

from onnx_clp.cleanup import dead_nodes, no_ops
from onnx_clp.cleanup.flipping import Flip, choose
from onnx_clp.cleanup.permutable import Order, inverse, plan, put_constant
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.graph.ranks import Ranks
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, is_op, set_attribute

_MOST_ROUNDS: Final = 16
_MOST_ORDERS: Final = 8
_MOST_BYTES: Final = 1 << 26


def apply(model: ModelProto, index: ModelIndex, kept: Set[str]) -> int:
    """Take out every Transpose that can go, in place; how many fewer there are. Values that `kept` names stay."""
    store, before = index.store, count(index)
    left = before
    for _ in range(_MOST_ROUNDS if before else 0):
        trial = ModelProto()
        trial.CopyFrom(model)
        _join(trial, store, kept)
        _flip(trial, store, kept)
        _join(trial, store, kept)
        fewer = count(ModelIndex(trial, store))
        if fewer >= left:
            break
        left = fewer
        model.CopyFrom(trial)
    return before - left


def count(index: ModelIndex) -> int:
    """Transposes in all scopes."""
    return sum(is_op(node, "Transpose") for scope in index.scopes for node in scope.nodes)


def _transposes(scope: GraphIndex) -> list[tuple[NodeProto, Order]]:
    """The Transposes of a scope, each with its order."""
    ranks, found = Ranks(scope, recorded=False), []
    for node in scope.nodes:
        if is_op(node, "Transpose") and not has_reference(node):
            order = read.perm(node, ranks.of(node.input[0]))
            if order is not None:
                found.append((node, order))
    return found


# Those in a row


def _join(model: ModelProto, store: TensorStore, kept: Set[str]) -> None:
    """Join Transposes in a row, merge those of one value, carry out those of constants; then drop what is left over."""
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    for scope in edit.index.scopes:
        found = _transposes(scope)
        orders = {id(node): order for node, order in found}
        for node, _ in found:
            _follow(edit, scope, node, orders)
        _merge(edit, scope, orders, kept)
        _carry_out(edit, scope, orders, kept)
    edit.finish()
    _drop(model, store, kept)


def _follow(edit: GraphEdit, scope: GraphIndex, node: NodeProto, orders: dict[int, Order]) -> None:
    """Let a Transpose behind another read what that one reads; nodes stand in order, so one step is enough."""
    maker = scope.producer(node.input[0])
    first, second = orders.get(id(maker)), orders[id(node)]
    if maker is None or first is None or len(first) != len(second):
        return
    orders[id(node)] = tuple(first[axis] for axis in second)
    edit.set_input(scope, node, 0, maker.input[0])
    set_attribute(node, "perm", orders[id(node)])


def _merge(edit: GraphEdit, scope: GraphIndex, orders: dict[int, Order], kept: Set[str]) -> None:
    seen: dict[tuple[str, Order], NodeProto] = {}
    for node in scope.nodes:
        order = orders.get(id(node))
        first = node if order is None else seen.setdefault((node.input[0], order), node)
        if first is not node and node.output[0] not in kept:
            edit.redirect(scope, node.output[0], first.output[0])


def _carry_out(edit: GraphEdit, scope: GraphIndex, orders: dict[int, Order], kept: Set[str]) -> None:
    """Store a constant that is read through a Transpose alone as it is read."""
    for node in scope.nodes:
        order, name = orders.get(id(node)), node.input[0] if len(node.input) else ""
        if order is None or not scope.is_constant(name) or {name, node.output[0]} & kept:
            continue
        value = scope.constant(name) if len(scope.uses(name)) == 1 else None
        uses = scope.uses(node.output[0])
        if value is None or value.ndim != len(order) or value.nbytes > _MOST_BYTES:
            continue
        for use in uses:
            if use.node is not None and use.scope is scope:
                put_constant(edit, scope, use.node, use.slot, value.transpose(order))


def _drop(model: ModelProto, store: TensorStore, kept: Set[str]) -> None:
    """Drop Transposes that move nothing or that nothing reads; at an output the maker takes over the name."""
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    for scope in edit.index.scopes:
        for node, order in _transposes(scope):
            if order == tuple(range(len(order))):
                _hand_over(edit, scope, node, kept)
    edit.finish()
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    for scope in edit.index.scopes:
        no_ops.apply(edit, scope, kept)
    edit.finish()
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    for scope, node in dead_nodes.find(edit.index, kept):
        edit.remove(scope, node)
    edit.finish()


def _hand_over(edit: GraphEdit, scope: GraphIndex, node: NodeProto, kept: Set[str]) -> None:
    """Let what makes the input of a Transpose that moves nothing make the graph's output itself."""
    source, result = node.input[0], node.output[0]
    if (
        result not in scope.outputs
        or source in scope.outputs
        or {source, result} & kept
        or source not in scope.producers
    ):
        return
    others = [use for use in scope.uses(source) if use.node is not node]
    if any(use.node is None or use.scope is not scope for use in others):
        return
    for use in others:
        assert use.node is not None
        edit.set_input(scope, use.node, use.slot, result)
    edit.bypass(scope, node, 0)


# Regions


def _flip(model: ModelProto, store: TensorStore, kept: Set[str]) -> None:
    """Change the order of axes in each scope where that saves most, and wherever else that meets none of it."""
    edit = GraphEdit(ModelIndex(model, store), keep_orphans=True)
    for scope in edit.index.scopes:
        orders = {id(node): order for node, order in _transposes(scope)}
        ranks, taken = Ranks(scope, recorded=False), set[str]()
        choices = [_choice(scope, ranks, orders, one, kept) for one in _candidates(orders)]
        for choice in sorted(choices, key=lambda choice: -choice.saved):
            names = choice.names()
            if choice.saved and not names & taken:
                taken |= names
                _carry(edit, scope, choice)
    edit.finish()


def _candidates(orders: dict[int, Order]) -> list[Order]:
    """Orders in which Transposes bring data in or take it out, the most frequent first."""
    ranked = Counter(orders.values())
    ranked.update(inverse(order) for order in orders.values())
    return [order for order, _ in ranked.most_common(_MOST_ORDERS) if order != tuple(range(len(order)))]


def _choice(scope: GraphIndex, ranks: Ranks, orders: dict[int, Order], order: Order, kept: Set[str]) -> Flip:
    found = (plan(scope, ranks, node, order) for node in scope.nodes)
    return choose(scope, [one for one in found if one is not None and not kept & set(one.node.output)], order, orders)


def _carry(edit: GraphEdit, scope: GraphIndex, choice: Flip) -> None:
    """Run the chosen nodes in another order: a Transpose before and behind each, but for those between two of them."""
    held = dict(choice.ready)
    for one in choice.plans:
        for name in one.results:
            behind = edit.add_after(scope, name, "Transpose", name, None)
            set_attribute(behind, "perm", choice.order)
            held[name] = behind.input[0]
    for one in choice.plans:
        one.rewrite(edit, scope)
        for slot in one.data:
            edit.set_input(scope, one.node, slot, _held(edit, scope, one.node.input[slot], choice.order, held))


def _held(edit: GraphEdit, scope: GraphIndex, name: str, order: Order, held: dict[str, str]) -> str:
    """The name under which a value is there in another order."""
    if name not in held:
        held[name] = edit.names.fresh(f"{name}_transposed")
        edit.add_beside(scope, name, helper.make_node("Transpose", [name], [held[name]], perm=inverse(order)))
    return held[name]
