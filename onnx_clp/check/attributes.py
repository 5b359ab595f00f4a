"""Attributes of a node: named once, of one known type, and holding a value of that type alone.

Source: AttributeProto in onnx.proto. Models written by an encoder that leaves zeros out have a type and no
value for a number or text that is 0 or empty; that is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_clp.errors import InvalidModelError
from onnx_clp.file.storage import PayloadSize, check_sparse, check_tensor
from onnx_clp.text import shown

_FIELD_TYPES = {
    "f": AttributeProto.FLOAT,
    "i": AttributeProto.INT,
    "s": AttributeProto.STRING,
    "t": AttributeProto.TENSOR,
    "g": AttributeProto.GRAPH,
    "floats": AttributeProto.FLOATS,
    "ints": AttributeProto.INTS,
    "strings": AttributeProto.STRINGS,
    "tensors": AttributeProto.TENSORS,
    "graphs": AttributeProto.GRAPHS,
    "sparse_tensor": AttributeProto.SPARSE_TENSOR,
    "sparse_tensors": AttributeProto.SPARSE_TENSORS,
    "tp": AttributeProto.TYPE_PROTO,
    "type_protos": AttributeProto.TYPE_PROTOS,
}
_BY_NUMBER = {AttributeProto.DESCRIPTOR.fields_by_name[n].number: t for n, t in _FIELD_TYPES.items()}
_KNOWN = frozenset(_FIELD_TYPES.values())
_MESSAGES = frozenset(_FIELD_TYPES[name] for name in ("t", "g", "sparse_tensor", "tp"))
_HOLDERS = _MESSAGES | {_FIELD_TYPES[name] for name in ("tensors", "graphs", "sparse_tensors")}


def node_label(node: NodeProto) -> str:
    """Name a node in a message: its operator, and its own name or else its first output's."""
    name = node.name or next((output for output in node.output if output), "")
    return f"{shown(node.op_type) or 'node'} node '{shown(name)}'"


class NodeAttributes:
    """The attributes of one node, checked.

    Attributes:
        by_name: attribute name to attribute.
        graphs: the graphs among the values, in order.

    Raises:
        InvalidModelError: on construction, when an attribute is unsound.
    """

    __slots__ = ("by_name", "graphs")

    def __init__(
        self,
        attributes: Iterable[AttributeProto],
        where: Callable[[], str],
        payload_size: PayloadSize,
        *,
        in_function: bool,
    ) -> None:
        """Check `attributes` of what `where` names."""
        self.by_name: dict[str, AttributeProto] = {}
        self.graphs: list[GraphProto] = []
        for attribute in attributes:
            name = attribute.name
            if not name or not isinstance(name, str) or name in self.by_name:
                fault = "is given twice" if name in self.by_name else "has no readable name"
                raise _fault(where, attribute, fault)
            self.by_name[name] = attribute
            kind = _checked_type(where, attribute, in_function)
            if kind in _HOLDERS and not attribute.ref_attr_name:
                self._descend(attribute, kind, payload_size)

    def is_reference(self, name: str) -> bool:
        """Say whether the value comes from the function's caller."""
        return name in self.by_name and bool(self.by_name[name].ref_attr_name)

    def _descend(self, attribute: AttributeProto, kind: int, payload_size: PayloadSize) -> None:
        for tensor in dense_values(attribute, kind):
            check_tensor(tensor, payload_size)
        for sparse in sparse_values(attribute, kind):
            check_sparse(sparse, payload_size)
        if kind == AttributeProto.GRAPH:
            self.graphs.append(attribute.g)
        elif kind == AttributeProto.GRAPHS:
            self.graphs.extend(attribute.graphs)


def dense_values(attribute: AttributeProto, kind: int) -> list[TensorProto]:
    """Return the dense tensors an attribute of type `kind` holds."""
    if kind == AttributeProto.TENSOR:
        return [attribute.t]
    return list(attribute.tensors) if kind == AttributeProto.TENSORS else []


def sparse_values(attribute: AttributeProto, kind: int) -> list[SparseTensorProto]:
    """Return the sparse tensors an attribute of type `kind` holds."""
    if kind == AttributeProto.SPARSE_TENSOR:
        return [attribute.sparse_tensor]
    return list(attribute.sparse_tensors) if kind == AttributeProto.SPARSE_TENSORS else []


def _checked_type(where: Callable[[], str], attribute: AttributeProto, in_function: bool) -> int:
    kind = attribute.type
    stored = [_BY_NUMBER[field.number] for field, _ in attribute.ListFields() if field.number in _BY_NUMBER]
    if attribute.ref_attr_name:
        if not in_function or stored:
            fault = "and holds a value of its own" if in_function else "but is in no function"
            raise _fault(where, attribute, f"refers to a function's attribute {fault}")
        return kind
    if kind not in _KNOWN:
        raise _fault(where, attribute, f"has no known type ({kind})")
    if stored not in ([], [kind]):
        raise _fault(where, attribute, f"is {_type_name(kind)} but holds {', '.join(map(_type_name, stored))}")
    if not stored and kind in _MESSAGES:
        raise _fault(where, attribute, f"is {_type_name(kind)} but holds nothing")
    return kind


def _fault(where: Callable[[], str], attribute: AttributeProto, fault: str) -> InvalidModelError:
    return InvalidModelError(f"{where()}: attribute '{shown(attribute.name)}' {fault}; export the model again")


def _type_name(kind: int) -> str:
    return str(AttributeProto.AttributeType.Name(kind))
