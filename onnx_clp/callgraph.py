"""Local functions as callers of each other: no circle, and no doubling beyond reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import FunctionProto, ModelProto, NodeProto

from onnx_clp.errors import InvalidModelError, UnsupportedModelError
from onnx_clp.names import shown

FunctionKey = tuple[str, str, str]

MAX_EXPANDED_NODES = 2_000_000


@dataclass(slots=True)
class Body:
    """What one body (a function's, or the main graph's, nested graphs counted in) holds.

    Attributes:
        nodes: number of nodes.
        calls: how often it calls each local function.
    """

    nodes: int = 0
    calls: dict[FunctionKey, int] = field(default_factory=dict)

    def count(self, called: FunctionKey | None) -> None:
        """Count one node, a call of `called` if that is given."""
        self.nodes += 1
        if called is not None:
            self.calls[called] = self.calls.get(called, 0) + 1


def plain_domain(domain: str) -> str:
    """Return the domain under which `domain` is meant: ONNX's own has two spellings."""
    return "" if domain == "ai.onnx" else domain


def called_function(node: NodeProto) -> FunctionKey:
    """Return the key of the local function that `node` calls if there is one."""
    return plain_domain(node.domain), node.op_type, node.overload


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
        key = (plain_domain(function.domain), function.name, function.overload)
        if not all(isinstance(part, str) for part in key) or not function.name:
            raise InvalidModelError("a local function has no name, or one that is not text; export the model again")
        if key in found:
            raise InvalidModelError(f"{function_label(key)} is defined twice; export the model again")
        found[key] = function
    return found


def check_calls(main: Body, bodies: Mapping[FunctionKey, Body]) -> None:
    """Check what the model would become with every call replaced by the function's nodes.

    Raises:
        InvalidModelError: functions call each other in a circle.
        UnsupportedModelError: the expanded model passes `MAX_EXPANDED_NODES`.
    """
    sizes: dict[FunctionKey, int] = {}
    for key in _callees_first(bodies):
        sizes[key] = _expanded(bodies[key], sizes)
    if _expanded(main, sizes) > MAX_EXPANDED_NODES:
        raise UnsupportedModelError(
            f"its functions expand to more than {MAX_EXPANDED_NODES:,} nodes; export it without functions"
        )


def _expanded(body: Body, sizes: Mapping[FunctionKey, int]) -> int:
    total = body.nodes + sum(times * sizes[key] for key, times in body.calls.items())
    return min(total, MAX_EXPANDED_NODES + 1)


def _callees_first(bodies: Mapping[FunctionKey, Body]) -> list[FunctionKey]:
    """Order functions so that each comes after those it calls (Kahn's algorithm)."""
    callers: dict[FunctionKey, list[FunctionKey]] = {key: [] for key in bodies}
    waiting = {key: len(body.calls) for key, body in bodies.items()}
    for key, body in bodies.items():
        for called in body.calls:
            callers[called].append(key)
    ready = [key for key, count in waiting.items() if count == 0]
    for key in ready:
        for caller in callers[key]:
            waiting[caller] -= 1
            if waiting[caller] == 0:
                ready.append(caller)
    if len(ready) < len(bodies):
        stuck = next(key for key, count in waiting.items() if count)
        raise InvalidModelError(f"{function_label(stuck)} calls itself, directly or through others; export it again")
    return ready
