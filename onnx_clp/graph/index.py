"""Read-only questions about a model's graphs: who makes a value, who uses it, is it constant, where is it defined.

A `GraphIndex` covers one scope: the main graph, the body of an If, Loop or Scan, or a local function. Names
resolve outwards through the bodies' parents (ONNX IR specification, "Names Within a Graph"); functions see
nothing outside. `edit.GraphEdit` is the only caller of the methods below the line "for edit".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_clp.file.store import TensorStore
from onnx_clp.graph import constants
from onnx_clp.graph.ranks import Ranks
from onnx_clp.operators import compute, read
from onnx_clp.operators.nodes import has_reference, input_name, is_op
from onnx_clp.operators.table import keeps
from onnx_clp.operators.traits import Trait

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One place a value is used: an input slot of a node, or (node None) an output of its graph."""

    scope: GraphIndex
    node: NodeProto | None
    slot: int


@dataclass(slots=True)
class Revision:
    """A number that is another one after every change to who uses what."""

    number: int = 0


class GraphIndex:
    """One scope of a model.

    Attributes:
        proto: the GraphProto or FunctionProto itself.
        parent: the scope around a nested graph; None for the main graph and for functions.
        owner: the node (of `parent`) whose body this is.
        place: where the scope is, "" for the main graph.
        opset: version of the standard domain in force.
        constants_as_nodes: new constants must be Constant nodes (functions, and graphs before IR 4).
        revision: counts the changes to all scopes of the model.
    """

    def __init__(
        self,
        proto: GraphProto | FunctionProto,
        parent: GraphIndex | None,
        place: str,
        opset: int,
        ir_version: int,
        store: TensorStore,
        owner: NodeProto | None = None,
        revision: Revision | None = None,
    ) -> None:
        self.owner = owner
        self.revision = revision or Revision()
        self.proto, self.parent, self.place, self.opset = proto, parent, place, opset
        self.store, self.ir_version = store, ir_version
        self.nodes: list[NodeProto] = list(proto.node)
        self.is_function = isinstance(proto, FunctionProto)
        self.constants_as_nodes = self.is_function or ir_version < 4
        self.initializers: dict[str, TensorProto] = {}
        self.sparse: dict[str, SparseTensorProto] = {}
        self.types: dict[str, int] = {}
        self.inputs: set[str]
        self.outputs: list[str]
        if isinstance(proto, GraphProto):
            self.initializers = {t.name: t for t in proto.initializer}
            self.sparse = {s.values.name: s for s in proto.sparse_initializer}
            self.inputs = {v.name for v in proto.input}
            self.outputs = [v.name for v in proto.output]
            for values in (proto.input, proto.value_info, proto.output):
                self.types.update({v.name: v.type.tensor_type.elem_type for v in values})
        else:
            self.inputs, self.outputs = set(proto.input), list(proto.output)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self._uses: dict[str, dict[tuple[int, int], Use]] = {}
        self._constant: set[str] = set()
        self.known_values: dict[str, Array] = {}
        self._positions: dict[int, int] | None = None
        self._element_types: dict[str, int | None] = {}
        self.ranks = Ranks(self)

    def __repr__(self) -> str:
        return f"GraphIndex({self.place or 'main graph'!r}, {len(self.nodes)} nodes)"

    # Names

    def home(self, name: str) -> GraphIndex | None:
        """The scope that defines a name, this one or one around it."""
        scope: GraphIndex | None = self
        while scope is not None and not scope.defines(name):
            scope = scope.parent
        return scope

    def defines(self, name: str) -> bool:
        """Whether the name is an input, an initializer or a node's output of this very scope."""
        return name in self.producers or name in self.initializers or name in self.inputs or name in self.sparse

    def hides(self, name: str) -> bool:
        """Whether a scope around this one defines the name too."""
        return self.parent is not None and self.parent.home(name) is not None

    def producer(self, name: str) -> NodeProto | None:
        """The node of this scope that makes the value."""
        return self.producers.get(name)

    def uses(self, name: str) -> list[Use]:
        """Every use of a value that this scope defines, those inside nested graphs included."""
        return list(self._uses.get(name, {}).values())

    def only_use(self, name: str) -> Use | None:
        """The single use of a value, or None when it has none or several."""
        found = self._uses.get(name, {})
        return next(iter(found.values())) if len(found) == 1 else None

    def is_overridable(self, name: str) -> bool:
        """Whether a caller can replace the initializer at run time (IR ≥ 4: it is also a graph input)."""
        home = self.home(name)
        return (
            home is not None
            and home.ir_version >= 4
            and name in home.inputs
            and (name in home.initializers or name in home.sparse)
        )

    def positions(self) -> dict[int, int]:
        """Each node's place in the graph's order, by the id of the node."""
        if self._positions is None:
            self._positions = {id(node): at for at, node in enumerate(self.nodes)}
        return self._positions

    def outer_rank(self, name: str) -> int | None:
        """The rank of a value of the scope around this one."""
        return None if self.parent is None else self.parent.ranks.of(name)

    # Values

    def is_constant(self, name: str) -> bool:
        """Whether the value is known without running the model."""
        home = self.home(name)
        return home is not None and name in home._constant

    def stored(self, name: str) -> TensorProto | None:
        """The tensor that holds a constant directly: an initializer or a Constant node's `value`."""
        home = self.home(name)
        if home is None or name not in home._constant:
            return None
        if name in home.initializers:
            return home.initializers[name]
        node = home.producers.get(name)
        held = compute.constant_attribute(node) if node is not None and is_op(node, "Constant") else None
        return held if isinstance(held, TensorProto) else None

    def constant(self, name: str) -> Array | None:
        """The value of a constant, evaluated without recursion; None when it is none or cannot be evaluated."""
        home = self.home(name)
        if home is None or name not in home._constant:
            return None
        return constants.value_of(home, name)

    def element_type(self, name: str) -> int | None:
        """The TensorProto.DataType of a value, from what the file says or the operators that keep it.

        It is remembered: whatever edits do, a name keeps its type.
        """
        scope, passed, found = self, dict[tuple[int, str], GraphIndex](), None
        while (home := scope.home(name)) is not None and (id(home), name) not in passed:
            if name in home._element_types:
                found = home._element_types[name]
                break
            passed[id(home), name] = scope = home
            found, name = home._type_or_source(name)
            if not name:
                break
        for (_, one), home in passed.items():
            home._element_types[one] = found
        return found

    def _type_or_source(self, name: str) -> tuple[int | None, str]:
        """The type of a value that this scope defines, or the value that it has its type from."""
        if name in self.initializers:
            return int(self.initializers[name].data_type), ""
        if self.types.get(name):
            return self.types[name], ""
        node = self.producers.get(name)
        if node is not None and is_op(node, "Cast"):
            return read.cast_type(node), ""
        return None, "" if node is None or not keeps(node, Trait.TYPE, name) else input_name(node, 0)

    # For edit

    def link(self) -> None:
        """Record the uses of this scope's nodes and graph outputs in the scopes that define the names."""
        for node in self.nodes:
            self.link_node(node)
        for slot, name in enumerate(self.outputs):
            self.add_use(name, Use(self, None, slot))

    def link_node(self, node: NodeProto) -> None:
        """Record the uses one node makes."""
        for slot, name in enumerate(node.input):
            if name:
                self.add_use(name, Use(self, node, slot))

    def add_use(self, name: str, use: Use) -> None:
        """Record one use in the name's home."""
        self.revision.number += 1
        home = self.home(name)
        if home is not None:
            home._uses.setdefault(name, {})[id(use.scope if use.node is None else use.node), use.slot] = use

    def remove_use(self, name: str, node: NodeProto, slot: int) -> None:
        """Forget one use."""
        self.revision.number += 1
        home = self.home(name)
        if home is not None:
            home._uses.get(name, {}).pop((id(node), slot), None)

    def find_constants(self) -> None:
        """Mark the values known without running the model; nodes stand in topological order."""
        for name in (*self.initializers, *self.sparse):
            if self.ir_version < 4 or name not in self.inputs:
                self._constant.add(name)
        for node in self.nodes:
            self.mark_if_constant(node)

    def mark_if_constant(self, node: NodeProto) -> None:
        """Mark the node's output as constant where its operator has a rule and its inputs are constant."""
        if len(node.output) == 0 or has_reference(node):
            return
        if is_op(node, "Constant"):
            self._constant.add(node.output[0])
        elif compute.can_evaluate(node) and len(node.input):
            slots = node.input[:1] if is_op(node, "CastLike") else node.input
            if all(not n or self.is_constant(n) for n in slots):
                self._constant.add(node.output[0])

    def forget(self, name: str) -> None:
        """Drop what was cached of a value that changed."""
        self.known_values.pop(name, None)

    def replace_node(self, old: NodeProto, new: NodeProto) -> None:
        """Know a node by the copy that the graph keeps of it."""
        self.revision.number += 1
        for name in new.output:
            self.producers[name] = new
        for slot, name in enumerate(new.input):
            if name:
                self.remove_use(name, old, slot)
                self.add_use(name, Use(self, new, slot))

    def reload_nodes(self) -> None:
        """Read the node list anew after nodes were deleted or inserted."""
        self.nodes, self._positions = list(self.proto.node), None

    def add_constant(self, name: str) -> None:
        """Mark a new name as constant."""
        self._constant.add(name)
