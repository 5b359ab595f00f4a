"""What a rule is given: one node, the bounds before it, its constants and its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import input_name, operator

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node: its scope, the values before it, why others have no bound, and the sizes of one run.

    `shapes` are those of values as inferred, `sized` what the graph computes from sizes.
    """

    node: NodeProto
    scope: GraphIndex
    fields: Mapping[str, Field]
    stopped: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    sized: Mapping[str, Array]

    def value(self, name: str) -> Array | None:
        """A constant, or what is computed from sizes alone; None where it is neither."""
        return self.sized[name] if name in self.sized else self.scope.constant(name)

    def field(self, slot: int = 0) -> Field:
        """The value at an input slot.

        Raises:
            NoBoundError: it does not depend on the image in a way that is known.
        """
        name = input_name(self.node, slot)
        if name not in self.fields:
            raise NoBoundError(self.stopped.get(name, operator(self.node)))
        return self.fields[name]

    def constant(self, slot: int) -> Array | None:
        """The constant at an input slot; None where it is left out.

        Raises:
            NoBoundError: it is no constant.
        """
        name = input_name(self.node, slot)
        if not name:
            return None
        found = self.value(name)
        if found is None:
            raise NoBoundError(self.stopped.get(name, f"{operator(self.node)} with weights that are not constant"))
        return found

    def needed(self, slot: int) -> Array:
        """The constant at an input slot that must be there."""
        found = self.constant(slot)
        if found is None:
            raise NoBoundError(operator(self.node))
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what it gives."""
        found = self.shapes.get(self.node.output[0])
        if found is None:
            raise NoBoundError(f"{operator(self.node)} of unknown shape")
        return found

    @property
    def operands(self) -> list[Field | Array]:
        """Values and constants at all inputs."""
        names = [name for name in self.node.input if name]
        return [self.fields[n] if n in self.fields else self.needed(at) for at, n in enumerate(names)]


Rule = Callable[[Step], Field]
"""Sound for any input of the box and any patch; raises `NoBoundError` where the node does something else."""
