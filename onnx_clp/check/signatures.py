"""Operators as ONNX defines them: how many inputs, outputs and which attributes a node must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from onnx import AttributeProto, NodeProto, defs

from onnx_clp.check.attributes import NodeAttributes, node_label
from onnx_clp.errors import InvalidModelError
from onnx_clp.text import shown

_TYPE_NUMBERS = dict(AttributeProto.AttributeType.items())


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator in one version.

    Attributes:
        inputs: least and largest number of inputs; outputs likewise.
        needed: positions of inputs that may not be left out.
        attributes: attribute name to its type, a number of `AttributeProto.AttributeType`.
        required: names of attributes without a default that must be there.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    needed: tuple[int, ...]
    attributes: Mapping[str, int]
    required: frozenset[str]


@lru_cache(maxsize=4096)
def operator(domain: str, op_type: str, version: int) -> Operator | None:
    """Return the newest definition up to opset `version`; None where onnx knows none (a custom operator)."""
    try:
        schema = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None
    single = defs.OpSchema.FormalParameterOption.Single
    return Operator(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(i for i, formal in enumerate(schema.inputs) if formal.option == single),
        {name: _TYPE_NUMBERS[str(a.type).rpartition(".")[2]] for name, a in schema.attributes.items()},
        frozenset(name for name, a in schema.attributes.items() if a.required),
    )


def check_node(
    node: NodeProto, inputs: list[str], outputs: list[str], attributes: NodeAttributes, known: Operator
) -> None:
    """Check a node against its operator's definition.

    Raises:
        InvalidModelError: it has too few or too many inputs or outputs, leaves out a needed one, or an
            attribute is missing or of another type.
    """
    _check_number(node, "inputs", len(inputs), known.inputs)
    _check_number(node, "outputs", len(outputs), known.outputs)
    for position in known.needed:
        if position < len(inputs) and not inputs[position]:
            raise InvalidModelError(f"{node_label(node)} leaves out input {position}, which it needs")
    found = attributes.by_name
    for name in known.required:
        if name not in found:
            raise InvalidModelError(f"{node_label(node)} lacks the attribute '{name}'")
    for name, attribute in found.items():
        kind = known.attributes.get(name)
        if kind is not None and attribute.type not in (kind, 0):
            raise InvalidModelError(f"{node_label(node)}: attribute '{shown(name)}' is of the wrong type")


def _check_number(node: NodeProto, what: str, number: int, limits: tuple[int, int]) -> None:
    least, most = limits
    if not least <= number <= most:
        expected = str(least) if least == most else f"{least} to {most}" if most < 2**31 - 1 else f"{least} or more"
        raise InvalidModelError(f"{node_label(node)} has {number:,} {what}, it takes {expected}")
