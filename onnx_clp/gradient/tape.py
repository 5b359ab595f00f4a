"""The backward walk: which values carry gradients, and what has been collected for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.check.attributes import node_label
from onnx_clp.errors import UnsupportedModelError
from onnx_clp.gradient.values import Dims
from onnx_clp.gradient.writer import GraphWriter, Term
from onnx_clp.operators.nodes import input_name


class Tape:
    """Gradients collected so far, by the value they belong to.

    The gradient of a value has the value's own shape and, but for what a DequantizeLinear reads, its element type.
    `active` holds the values that depend on a wanted one and that the scalar depends on.
    """

    def __init__(self, writer: GraphWriter, active: set[str]) -> None:
        self.writer, self.active = writer, active
        self._parts: dict[str, list[Term]] = {}

    def add(self, name: str, gradient: Term) -> None:
        """Collect what one user of a value contributes to its gradient."""
        self._parts.setdefault(name, []).append(gradient)

    def gradient(self, name: str) -> Term | None:
        """The gradient of a value, once all its users have been walked; None where there is none."""
        parts = self._parts.get(name)
        if not parts:
            return None
        if len(parts) > 1:
            total = reduce(lambda a, b: a + b, parts) if len(parts) == 2 else self.writer.op("Sum", *parts)
            self._parts[name] = parts = [total]
        return parts[0]


@dataclass(frozen=True, slots=True, eq=False)
class BackStep:
    """One node on the way back, and what its rule may ask.

    A rule is given the step and returns, by input slot, the gradients of the inputs that want one.
    """

    tape: Tape
    node: NodeProto

    @property
    def writer(self) -> GraphWriter:
        """Where new nodes go."""
        return self.tape.writer

    @property
    def gradient(self) -> Term:
        """The gradient of the first output."""
        found = self.tape.gradient(self.node.output[0])
        if found is None:
            raise self.refuse("what is differentiated depends on another output of it than the first")
        return found

    def gradient_of(self, slot: int) -> Term | None:
        """The gradient of an output; None where nothing depends on it."""
        return self.tape.gradient(self.node.output[slot]) if self.node.output[slot] else None

    @property
    def result(self) -> Term:
        """The first output."""
        return self.writer.term(self.node.output[0])

    def has(self, slot: int) -> bool:
        """Whether the node has an input at a slot."""
        return bool(input_name(self.node, slot))

    def input(self, slot: int = 0) -> Term:
        """An input."""
        return self.writer.term(self.node.input[slot])

    def wants(self, slot: int) -> bool:
        """Whether an input at a slot carries a gradient."""
        return input_name(self.node, slot) in self.tape.active

    def known(self, name: str) -> NDArray[Any] | None:
        """The value of a constant by its name; None where it is none."""
        return self.writer.index.main.constant(name)

    def constant(self, slot: int) -> NDArray[Any] | None:
        """The value of a constant input; None where it is left out or not constant."""
        name = input_name(self.node, slot)
        return self.known(name) if name else None

    def dims(self, slot: int = 0) -> Dims | None:
        """The sizes of an input as far as they are known."""
        return self.writer.values.dims(self.node.input[slot])

    def rank(self, slot: int = 0) -> int:
        """The number of dimensions of an input.

        Raises:
            UnsupportedModelError: it is not known.
        """
        rank = self.writer.values.rank(self.node.input[slot])
        if rank is None:
            raise self.refuse("the number of dimensions of its input is not known")
        return rank

    def refuse(self, why: str) -> UnsupportedModelError:
        """The error for a form of the operator that has no rule."""
        return UnsupportedModelError(f"{node_label(self.node)}: cannot be differentiated: {why}")

    def only(self, *slots: int) -> None:
        """Refuse the node if an input at another slot depends on what is differentiated by."""
        for slot in range(len(self.node.input)):
            if slot not in slots and self.wants(slot):
                raise self.refuse(f"its input {slot} depends on a value to differentiate with respect to")


Gradients = Mapping[int, Term]
Rule = Callable[[BackStep], Gradients]
Rules = Mapping[str, Rule]


def sizes(step: BackStep, slot: int = 0, axes: Sequence[int] | None = None) -> tuple[int, ...] | None:
    """The sizes of an input along `axes`; None unless all are known."""
    return step.writer.values.static(step.node.input[slot], axes)


def shape_of(step: BackStep, slot: int = 0) -> Term:
    """The sizes of an input, int64 vector: a constant where they are known."""
    known = sizes(step, slot)
    return step.writer.ints(known) if known is not None else step.writer.shape(step.node.input[slot])
