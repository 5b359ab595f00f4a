"""Operators as ONNX defines them: how many inputs, outputs and which attributes a node must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from onnx import AttributeProto, NodeProto, defs

from onnx_clp.check.attributes import NodeAttributes, node_label
from onnx_clp.errors import InvalidModelError
from onnx_clp.text import shown

EXPERIMENTAL: Final = frozenset(
    (
        *("ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler"),
        *("ParametricSoftplus", "Scale", "ScaledTanh"),
    )
)
"""Operators of ONNX's own domain without a definition, which onnx's checker lets pass (onnx/checker.cc of 1.23:
`check_is_experimental_op`); converters from CoreML and Caffe2 wrote them, and ONNX Runtime runs most."""

_TYPE_NUMBERS = dict(AttributeProto.AttributeType.items())


@dataclass(frozen=True, slots=True)
class Signature:
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
def operator(domain: str, op_type: str, version: int) -> Signature | None:
    """Return the newest definition up to opset `version`; None where onnx knows none (a custom operator)."""
    try:
        schema = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None
    single = defs.OpSchema.FormalParameterOption.Single
    return Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(i for i, formal in enumerate(schema.inputs) if formal.option == single),
        {name: _TYPE_NUMBERS[str(a.type).rpartition(".")[2]] for name, a in schema.attributes.items()},
        frozenset(name for name, a in schema.attributes.items() if a.required),
    )


def is_experimental(domain: str, op_type: str) -> bool:
    """Whether this is an operator that ONNX names and never defined: it is left alone like a custom one."""
    return not domain and op_type in EXPERIMENTAL


def unknown(domain: str, op_type: str, version: int) -> str:
    """Say that opset `version` has no such operator, and what to do."""
    known = [s.since_version for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, op_type)]
    later = min((since for since in known if since > version), default=None)
    cure = (
        "a custom operator needs a domain of its own, and a misspelt one another export"
        if later is None
        else f"it came with opset {later}; export the model with that one or a later one"
    )
    return f"opset {version} of '{domain or 'ai.onnx'}' has no such operator; {cure}"


def check_node(
    node: NodeProto, inputs: list[str], outputs: list[str], attributes: NodeAttributes, known: Signature
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
