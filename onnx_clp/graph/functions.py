"""The one key of a model's local functions: domain, name and overload (ONNX IR specification, "Model Local Functions").

A call's domain, op_type and overload make the same key. ONNX's own domain has two spellings, which are one here.
"""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto

from onnx_clp.errors import InvalidModelError
from onnx_clp.text import shown

FunctionKey = tuple[str, str, str]


def plain_domain(domain: str) -> str:
    """Return the domain under which `domain` is meant: ONNX's own has two spellings."""
    return "" if domain == "ai.onnx" else domain


def called_function(node: NodeProto) -> FunctionKey:
    """Return the key of the local function that `node` calls if there is one."""
    return plain_domain(node.domain), node.op_type, node.overload


def key_of(function: FunctionProto) -> FunctionKey:
    """Return the key of a local function."""
    return plain_domain(function.domain), function.name, function.overload


def function_label(key: FunctionKey) -> str:
    """Name a function in a message."""
    domain, name, overload = key
    return f"function '{shown('.'.join(part for part in (domain, name, overload) if part))}'"


def functions_of(model: ModelProto) -> dict[FunctionKey, FunctionProto]:
    """Return the model's local functions by key.

    Raises:
        InvalidModelError: one has no name, or two share domain, name and overload.
    """
    found: dict[FunctionKey, FunctionProto] = {}
    for function in model.functions:
        key = key_of(function)
        if not all(isinstance(part, str) for part in key) or not function.name:
            raise InvalidModelError("a local function has no name, or one that is not text; export the model again")
        if key in found:
            raise InvalidModelError(f"{function_label(key)} is defined twice; export the model again")
        found[key] = function
    return found
