"""The only code that changes a ModelProto: in place, one field at a time, so what is not touched is not lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import GraphProto, NodeProto, TensorProto, helper

from onnx_clp.file.messages import delete, replace_values
from onnx_clp.graph.fresh import NameScope
from onnx_clp.graph.index import GraphIndex, Use
from onnx_clp.graph.model import ModelIndex
from onnx_clp.graph.records import Records

MakeTensor = Callable[[str], TensorProto]


class GraphEdit:
    """Edits one model and keeps its `ModelIndex` true; `finish` carries out what was put off.

    What is to be deleted or inserted waits for `finish`, so that positions stay valid while passes run and
    each list of the message is walked once, however many names go.

    Attributes:
        changed: something was edited.
        orphans: constants deleted because this edit took their last use.
    """

    def __init__(self, index: ModelIndex, *, keep_orphans: bool = False) -> None:
        self.index, self.store = index, index.store
        self.names = NameScope(index.names())
        self.changed = False
        self.orphans = 0
        self._keep_orphans = keep_orphans
        self._dead: dict[GraphIndex, set[int]] = {}
        self._new_nodes: dict[GraphIndex, list[NodeProto]] = {}
        self._followers: dict[GraphIndex, dict[int, list[NodeProto]]] = {}
        self._loose: list[tuple[GraphIndex, str]] = []
        self._records = Records()

    # Constants

    def add_constant(self, scope: GraphIndex, base: str, make: MakeTensor) -> str:
        """A new constant in `scope`, under a fresh name made from `base`; the name."""
        name = self.names.fresh(base)
        tensor = make(name)
        self.changed = True
        scope.add_constant(name)
        if scope.constants_as_nodes or not isinstance(scope.proto, GraphProto):
            node = helper.make_node("Constant", [], [name])
            node.attribute.append(helper.make_attribute("value", tensor))
            self._new_nodes.setdefault(scope, []).append(node)
            scope.producers[name] = node
        else:
            scope.proto.initializer.append(tensor)
            scope.initializers[name] = scope.proto.initializer[-1]
        return name

    def put_constant(
        self, scope: GraphIndex, node: NodeProto, slot: int, base: str, make: MakeTensor, *, resize: bool = False
    ) -> None:
        """Give a node a constant at an input slot.

        A stored tensor of the same shape and type that nothing else uses is replaced where it stands; in every
        other case (shared, computed, sparse, absent) the node gets a new one and the old stays as it is. With
        `resize` the shape may be another; what is recorded of it goes.
        """
        old = node.input[slot] if slot < len(node.input) else ""
        stored, home = scope.stored(old), scope.home(old)
        if stored is not None and home is not None and home.only_use(old) is not None and not home.hides(old):
            new = make(old)
            alike = new.dims == stored.dims or (resize and old not in home.inputs)
            if alike and new.data_type == stored.data_type:
                if new.dims != stored.dims:
                    for axis, size in enumerate(new.dims):
                        self.resize_value_info(home, old, axis, size)
                replace_values(stored, new)
                home.forget(old)
                self.changed = True
                return
        self.set_input(scope, node, slot, self.add_constant(scope, base, make))

    def set_input(self, scope: GraphIndex, node: NodeProto, slot: int, name: str) -> None:
        """Point an input slot at another value, filling left-out slots before it with ""."""
        while len(node.input) <= slot:
            node.input.append("")
        old = node.input[slot]
        if old:
            scope.remove_use(old, node, slot)
            self._loosen(scope, old)
        node.input[slot] = name
        scope.add_use(name, Use(scope, node, slot))
        self.changed = True

    # Nodes

    def add_node(self, scope: GraphIndex, node: NodeProto) -> NodeProto:
        """Put a node at the front of its graph; all its inputs are constants. The node as it is kept."""
        self._new_nodes.setdefault(scope, []).append(node)
        scope.producers[node.output[0]] = node
        scope.link_node(node)
        scope.mark_if_constant(node)
        self.changed = True
        return node

    def add_after(
        self, scope: GraphIndex, value: str, op_type: str, base: str, make: MakeTensor | None, slot: int = 1
    ) -> NodeProto:
        """Put an operator right after a value, a new constant (if `make`) at its input `slot`; the operator.

        It takes over the value's name. Slots before the constant's are left out.
        """
        constant = [] if make is None else [""] * (slot - 1) + [self.add_constant(scope, base, make)]
        maker, between = self._rename(scope, value, f"{value}_before_{op_type.lower()}")
        node = helper.make_node(op_type, [between, *constant], [value])
        scope.producers[value] = node
        self._followers.setdefault(scope, {}).setdefault(id(maker), []).append(node)
        scope.link_node(node)
        self.changed = True
        return node

    def add_beside(self, scope: GraphIndex, value: str, node: NodeProto) -> None:
        """Put a node that reads a value alone right behind what makes it; the value's name and readers stay."""
        maker = scope.producers.get(value)
        if maker is None:
            self._new_nodes.setdefault(scope, []).append(node)
        else:
            self._followers.setdefault(scope, {}).setdefault(id(maker), []).append(node)
        scope.producers[node.output[0]] = node
        scope.link_node(node)
        self.changed = True

    def _rename(self, scope: GraphIndex, value: str, base: str) -> tuple[NodeProto, str]:
        """Give what a node makes another name, its readers left as they are; the node, and the fresh name."""
        maker, between = scope.producers[value], self.names.fresh(base)
        maker.output[list(maker.output).index(value)] = between
        scope.producers[between] = maker
        return maker, between

    def add_chain(self, scope: GraphIndex, value: str, base: str, make: Callable[[str, str], list[NodeProto]]) -> None:
        """Put nodes right after a value; the last takes over its name.

        `make` gets the name, made from `base`, that the value has from now on and the name the last node is to give;
        it returns the nodes in order, their constants already in the graph.
        """
        maker, between = self._rename(scope, value, base)
        nodes = make(between, value)
        for node in nodes:
            scope.producers.update((name, node) for name in node.output)
        for node in nodes:
            scope.link_node(node)
        self._followers.setdefault(scope, {}).setdefault(id(maker), []).extend(nodes)
        self.changed = True

    def bypass(self, scope: GraphIndex, node: NodeProto, slot: int) -> None:
        """Delete a node whose input at `slot` has no other use: what makes that input takes over its output name.

        Everything after the node stays untouched. The input must be made by a node of the same scope.
        """
        source, result = node.input[slot], node.output[0]
        maker = scope.producers[source]
        self.remove(scope, node, keep=result)
        maker.output[list(maker.output).index(source)] = result
        del scope.producers[source]
        scope.producers[result] = maker
        self.forget_value_info(scope, source)

    def skip(self, scope: GraphIndex, node: NodeProto, slot: int) -> None:
        """Delete a node whose output has one use, in this scope, and point that use at the node's input."""
        source, use = node.input[slot], scope.only_use(node.output[0])
        assert use is not None
        assert use.node is not None
        self.set_input(scope, use.node, use.slot, source)
        self.remove(scope, node)

    def redirect(self, scope: GraphIndex, name: str, other: str) -> bool:
        """Point every use of a value at another one of the same scope or of one around it.

        Returns:
            False, and nothing is changed, where a use is a graph output, or where `other` means another value there.
        """
        uses, home = scope.uses(name), scope.home(other)
        if any(use.node is None or use.scope.home(other) is not home for use in uses):
            return False
        for use in uses:
            assert use.node is not None
            self.set_input(use.scope, use.node, use.slot, other)
        return True

    def remove(self, scope: GraphIndex, node: NodeProto, keep: str = "") -> None:
        """Delete a node with the graphs nested in it; what they read loses a use.

        What is recorded of its outputs goes, but of `keep`.
        """
        within = list(self.index.nodes_within(scope, node))
        bodies = {reader for reader, _ in within[1:]}
        for reader, inner in within:
            for slot, name in enumerate(inner.input):
                if name and reader.home(name) not in bodies:
                    reader.remove_use(name, inner, slot)
                    self._loosen(reader, name)
        for name in node.output:
            if scope.producers.get(name) is node:
                del scope.producers[name]
            if name and name != keep:
                self.forget_value_info(scope, name)
        self._dead.setdefault(scope, set()).add(id(node))
        self.changed = True

    def turn_into(self, scope: GraphIndex, node: NodeProto, op_type: str, inputs: list[str]) -> None:
        """Make a node another standard operator without attributes, keeping its name, place and output."""
        for slot, name in enumerate(node.input):
            if name:
                scope.remove_use(name, node, slot)
                self._loosen(scope, name)
        node.op_type, node.domain = op_type, ""
        del node.attribute[:]
        node.input[:] = inputs
        del node.output[1:]
        scope.link_node(node)
        self.changed = True

    def resize_value_info(self, scope: GraphIndex, name: str, axis: int, size: int) -> None:
        """Record that a value has another size along an axis (counted from the last where negative)."""
        self._records.resized(scope, name, axis, size)
        self.changed = True

    def drop_initializer(self, scope: GraphIndex, name: str) -> None:
        """Delete a dense or sparse initializer that nothing uses."""
        self._records.gone(scope, name)
        scope.initializers.pop(name, None)
        scope.sparse.pop(name, None)
        self.forget_value_info(scope, name)
        self.changed = True

    def forget_value_info(self, scope: GraphIndex, name: str) -> None:
        """Drop what is recorded of a value that is no more, or has another shape now."""
        self._records.unrecorded(scope, name)

    def rename_records(self, scope: GraphIndex, names: Mapping[str, str]) -> None:
        """Let what is recorded of some values be recorded of others, of which nothing is."""
        taken = {value.name for value in scope.proto.value_info} if names else set()
        for value in scope.proto.value_info if names else ():
            other = names.get(value.name)
            if other is not None and other not in taken:
                value.name = other
                taken.add(other)

    # The end

    def _loosen(self, scope: GraphIndex, name: str) -> None:
        home = scope.home(name)
        if home is not None:
            self._loose.append((home, name))

    def finish(self) -> None:
        """Delete removed nodes and the constants this edit orphaned, insert new Constant nodes."""
        self._drop_orphans()
        self._records.write()
        for scope, dead in self._dead.items():
            delete(scope.proto.node, [at for at, node in enumerate(scope.nodes) if id(node) in dead])
            scope.reload_nodes()
        for scope, followers in self._followers.items():
            self._insert_followers(scope, followers)
        for scope, nodes in self._new_nodes.items():
            for at, node in enumerate(nodes):
                scope.proto.node.insert(at, node)
                scope.replace_node(node, scope.proto.node[at])
            scope.reload_nodes()
        self._dead.clear()
        self._new_nodes.clear()
        self._followers.clear()

    def _insert_followers(self, scope: GraphIndex, followers: dict[int, list[NodeProto]]) -> None:
        for at in reversed(range(len(scope.nodes))):
            for node in reversed(followers.get(id(scope.nodes[at]), [])):
                scope.proto.node.insert(at + 1, node)
                inserted = scope.proto.node[at + 1]
                scope.replace_node(node, inserted)
        scope.reload_nodes()

    def _drop_orphans(self) -> None:
        if self._keep_orphans:
            self._loose.clear()
        while self._loose:
            scope, name = self._loose.pop()
            if scope.uses(name) or not scope.is_constant(name) or name in scope.outputs:
                continue
            node = scope.producers.get(name)
            if node is not None and not any(scope.uses(n) for n in node.output):
                self.remove(scope, node)
                self.orphans += 1
            elif name in scope.inputs:
                continue  # before IR 4 an initializer is an input too, and inputs stay as they are
            elif name in scope.initializers or name in scope.sparse:
                self._records.gone(scope, name)
                scope.initializers.pop(name, None)
                scope.sparse.pop(name, None)
                self.orphans += 1
