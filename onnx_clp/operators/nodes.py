"""A node's attributes as Python values, and what operator a node is."""

from __future__ import annotations

from typing import Any, Final

from onnx import AttributeProto, NodeProto, helper

STANDARD_DOMAINS: Final = ("", "ai.onnx")
MICROSOFT: Final = "com.microsoft"


def is_op(node: NodeProto, *op_types: str) -> bool:
    """Whether the node is one of the standard operators named."""
    return node.op_type in op_types and node.domain in STANDARD_DOMAINS


def is_quantizer(node: NodeProto) -> bool:
    """Whether the node is QuantizeLinear, ONNX's own or ONNX Runtime's of the same meaning."""
    return node.op_type == "QuantizeLinear" and node.domain in (*STANDARD_DOMAINS, MICROSOFT)


def is_dequantizer(node: NodeProto) -> bool:
    """Whether the node is DequantizeLinear, ONNX's own or ONNX Runtime's of the same meaning."""
    return node.op_type == "DequantizeLinear" and node.domain in (*STANDARD_DOMAINS, MICROSOFT)


def operator(node: NodeProto) -> str:
    """The operator as people write it: the domain in front unless it is the standard one."""
    return node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The attribute's value (int, float, bytes, list or message), `default` where it is absent.

    In a local function it may refer to the call's instead: `default` then too, so ask `has_reference` before.
    """
    for item in node.attribute:
        if item.name == name and not item.ref_attr_name:
            return helper.get_attribute_value(item)
    return default


def text_attribute(node: NodeProto, name: str, default: str) -> str:
    """A string attribute; undecodable bytes are replaced."""
    value = attribute(node, name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else default


def has_reference(node: NodeProto) -> bool:
    """Whether an attribute takes its value from the call of the local function the node is in."""
    return any(item.ref_attr_name for item in node.attribute)


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Set or add an attribute, leaving the others and their order."""
    new = helper.make_attribute(name, value)
    for item in node.attribute:
        if item.name == name:
            item.CopyFrom(new)
            return
    node.attribute.append(new)


def drop_attribute(node: NodeProto, name: str) -> None:
    """Take an attribute away, where it is there."""
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def input_name(node: NodeProto, slot: int) -> str:
    """The name at an input slot; "" where the input is left out."""
    return node.input[slot] if slot < len(node.input) else ""


def identity(node: NodeProto) -> str:
    """The node's identity: its first non-empty output name, unique in its graph ("" for a node without)."""
    return next((name for name in node.output if name), "")


def subgraphs(node: NodeProto) -> list[tuple[str, Any]]:
    """The node's nested graphs with the attribute that holds each."""
    found: list[tuple[str, Any]] = []
    for item in node.attribute:
        if item.type == AttributeProto.GRAPH:
            found.append((item.name, item.g))
        elif item.type == AttributeProto.GRAPHS:
            found.extend((f"{item.name}[{i}]", g) for i, g in enumerate(item.graphs))
    return found
