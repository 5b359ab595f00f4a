"""Scopes: which values a node may use, and whether each node, in its place, is sound.

A graph is walked node by node. A nested graph is asked for by yielding it: whoever drives the walk finishes
it first, so that the depth of nesting costs a list entry and not a Python frame.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import FunctionProto, GraphProto, NodeProto

from onnx_clp.check.attributes import NodeAttributes, node_label
from onnx_clp.check.callgraph import Body
from onnx_clp.check.signatures import check_node, is_experimental, operator, unknown
from onnx_clp.check.windows import Dims, check_window
from onnx_clp.errors import InvalidModelError, UnsupportedModelError
from onnx_clp.file.storage import PayloadSize, check_sparse, check_tensor
from onnx_clp.graph.functions import FunctionKey, called_function, function_label, plain_domain
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import is_op
from onnx_clp.text import shown

Walk = Generator[GraphProto, None, None]

MAX_DEPTH = 64
OWN_DOMAINS = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": 5}
_WINDOW_DOMAINS = frozenset(("", "com.microsoft"))


@dataclass(slots=True)
class _Own:
    """The names one graph defines, and what those of them hide that an outer graph defines too."""

    names: set[str] = field(default_factory=set)
    hidden: dict[str, Dims | None] = field(default_factory=dict)


@dataclass(slots=True)
class Visible:
    """All that one body sees: the main graph with its nested graphs, or one function with its own.

    Attributes:
        versions: operator set domain ("" for ONNX's own) to version.
        functions: the model's local functions.
        payload_size: as for `onnx_clp.check.structure.check`.
        body: counts the nodes and calls seen.
        in_function: attributes may refer to the caller's.
        visible: the values defined so far, with their dimensions where they are constants.
    """

    versions: Mapping[str, int]
    functions: Mapping[FunctionKey, FunctionProto]
    payload_size: PayloadSize
    body: Body = field(default_factory=Body)
    in_function: bool = False
    visible: dict[str, Dims | None] = field(default_factory=dict)

    def walk(self, graph: GraphProto, *, keep: bool = False) -> None:
        """Check a graph and those nested in it; `keep` leaves its values visible afterwards.

        Raises:
            InvalidModelError: something in it breaks the ONNX specification.
            UnsupportedModelError: graphs are nested deeper than `MAX_DEPTH`, or something in it is unknown.
        """
        self._drive(self._graph(graph, keep))

    def walk_function(self, key: FunctionKey, function: FunctionProto) -> None:
        """Check a local function; errors as `walk`."""
        self._drive(self._function(key, function))

    def _drive(self, root: Walk) -> None:
        walks = [root]
        while walks:
            nested = next(walks[-1], None)
            if nested is None:
                walks.pop()
            elif len(walks) > MAX_DEPTH:
                raise UnsupportedModelError(f"its graphs are nested deeper than {MAX_DEPTH}; flatten the model")
            else:
                walks.append(self._graph(nested, keep=False))

    def _graph(self, graph: GraphProto, keep: bool) -> Walk:
        mine = _Own()
        for value in graph.input:
            self._define(value.name, None, mine, "graph input")
        self._constants(graph, frozenset(mine.names), mine)
        yield from self._nodes(graph.node, mine)
        for value in graph.output:
            if value.name not in self.visible:
                raise InvalidModelError(
                    f"graph output {_quoted(value.name)} is made by nothing; export the model again"
                )
        if not keep:
            for name in mine.names:
                del self.visible[name]
            self.visible.update(mine.hidden)

    def _function(self, key: FunctionKey, function: FunctionProto) -> Walk:
        where = function_label(key)
        mine = _Own()
        for name in function.input:
            self._define(name, None, mine, f"input of {where}")
        defaults = NodeAttributes(function.attribute_proto, lambda: where, self.payload_size, in_function=False)
        parameters = [*function.attribute, *defaults.by_name]
        if len(set(parameters)) < len(parameters):
            raise InvalidModelError(f"{where} has two attributes of one name; export the model again")
        yield from defaults.graphs
        yield from self._nodes(function.node, mine)
        for name in function.output:
            if name not in self.visible:
                raise InvalidModelError(f"output {_quoted(name)} of {where} is made by nothing; export the model again")

    def _constants(self, graph: GraphProto, inputs: frozenset[str], mine: _Own) -> None:
        """Define the initializers, each of which may also be the default of an input of the same graph."""
        seen: set[str] = set()
        for tensor in graph.initializer:
            check_tensor(tensor, self.payload_size)
            self._constant(tensor.name, tuple(tensor.dims), inputs, mine, seen)
        for sparse in graph.sparse_initializer:
            check_sparse(sparse, self.payload_size)
            self._constant(sparse.values.name, tuple(sparse.dims), inputs, mine, seen)

    def _constant(self, name: str, dims: Dims, inputs: frozenset[str], mine: _Own, seen: set[str]) -> None:
        if name in inputs and name not in seen:
            self.visible[name] = dims
        else:
            self._define(name, dims, mine, "initializer")
        seen.add(name)

    def _nodes(self, nodes: Iterable[NodeProto], mine: _Own) -> Walk:
        for node in nodes:
            inputs, outputs = list(node.input), list(node.output)
            for name in inputs:
                if name and name not in self.visible:
                    raise self._undefined(node, name, nodes)
            attributes = self._checked(node, inputs, outputs)
            yield from attributes.graphs
            dims = _constant_dims(node)
            for name in outputs:
                if name:
                    self._define(name, dims, mine, node)

    def _checked(self, node: NodeProto, inputs: list[str], outputs: list[str]) -> NodeAttributes:
        op_type, domain = node.op_type, plain_domain(node.domain)
        if not op_type or not isinstance(op_type, str) or not isinstance(domain, str):
            raise InvalidModelError(f"{node_label(node)} has no readable operator; export the model again")
        attributes = NodeAttributes(
            node.attribute,
            lambda: node_label(node),
            self.payload_size,
            in_function=self.in_function,
        )
        key = called_function(node) if self.functions else None
        if key is not None and key in self.functions:
            self.body.count(key)
            _check_call(node, self.functions[key], inputs, outputs)
            return attributes
        self.body.count(None)
        self._check_operator(node, domain, inputs, outputs, attributes)
        return attributes

    def _check_operator(
        self, node: NodeProto, domain: str, inputs: list[str], outputs: list[str], attributes: NodeAttributes
    ) -> None:
        op_type = node.op_type
        if domain not in self.versions:
            raise InvalidModelError(f"{node_label(node)} is of '{shown(domain)}', an operator set not imported")
        if domain in OWN_DOMAINS and not is_experimental(domain, op_type):
            version = self.versions[domain]
            known = operator(domain, op_type, version)
            if known is None:
                raise UnsupportedModelError(f"{node_label(node)}: {unknown(domain, op_type, version)}")
            check_node(node, inputs, outputs, attributes, known)
        if op_type in windows.SLIDING and domain in _WINDOW_DOMAINS:
            at = windows.WEIGHT_INPUT.get(op_type)
            weight = self.visible.get(inputs[at]) if at is not None and at < len(inputs) else None
            check_window(node, attributes, weight)

    def _define(self, name: str, dims: Dims | None, mine: _Own, by: NodeProto | str) -> None:
        """Define a name; an input or an initializer may hide an outer one, a node's output may not."""
        if name in self.visible or not name or not isinstance(name, str):
            fault = self._misnamed(name, mine, by)
            if fault is not None:
                raise fault
            mine.hidden[name] = self.visible[name]
        self.visible[name] = dims
        mine.names.add(name)

    def _misnamed(self, name: str, mine: _Own, by: NodeProto | str) -> InvalidModelError | None:
        maker = by if isinstance(by, str) else f"output of {node_label(by)}"
        if not name or not isinstance(name, str):
            return InvalidModelError(f"{maker} has no name, or one that is not text: {_quoted(name)}")
        if name in mine.names:
            return InvalidModelError(f"{maker}: the value {_quoted(name)} is already defined; names must be unique")
        if isinstance(by, str):
            return None
        return InvalidModelError(f"{maker}: {_quoted(name)} is already defined in an outer graph; rename it")

    def _undefined(self, node: NodeProto, name: str, nodes: Iterable[NodeProto]) -> InvalidModelError:
        if not isinstance(name, str):
            return InvalidModelError(f"{node_label(node)} has an input whose name is not text: {_quoted(name)}")
        later = any(name in other.output for other in nodes)
        fault = "made only later: its nodes are out of order or form a cycle" if later else "defined nowhere"
        return InvalidModelError(f"{node_label(node)}: its input {_quoted(name)} is {fault}; export the model again")


def _check_call(node: NodeProto, function: FunctionProto, inputs: list[str], outputs: list[str]) -> None:
    for what, given, taken in (
        ("inputs", len(inputs), len(function.input)),
        ("outputs", len(outputs), len(function.output)),
    ):
        if given > taken:
            raise InvalidModelError(f"{node_label(node)} has {given} {what}, its function {taken}")


def _constant_dims(node: NodeProto) -> Dims | None:
    value = read.constant_tensor(node) if is_op(node, "Constant") else None
    return None if value is None else tuple(value.dims)


def _quoted(name: str | bytes) -> str:
    return f"'{shown(name)}'"
