"""Local functions as callers of each other: no circle, and no doubling beyond reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx_clp.errors import InvalidModelError, UnsupportedModelError
from onnx_clp.graph.functions import FunctionKey, function_label

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
