"""Give a model its own gradient: a new graph that also outputs d(scalar)/d(value), in standard ONNX operators.

    from onnx_clp.gradient.loss import LossBuilder
    from onnx_clp.gradient.differentiate import differentiate

    builder = LossBuilder(model)                        # works on a copy; `model` is never changed
    logits = builder.logits()                           # or builder.value("any/value/of/the/graph")
    loss = builder.cross_entropy(logits)                # adds an input "target": int64, (1,) or (batch,)
    x = builder.value("bn1/input")                      # formulas: + - * /, exp log sqrt abs square sum mean variance
    loss = loss + 0.1 * (x.variance((0, 2, 3)) - builder.constant(running_var)).square().sum()
    found = differentiate(builder.model, loss.name, ["images"])
    found.model                                         # outputs: the model's own, the loss, the gradients
    found.gradients["images"]                           # name of the output that holds d loss / d images

The result needs nothing but ONNX Runtime: no operator outside the standard domain is added, so every
provider that runs the model runs its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from onnx_clp.check.attributes import node_label
from onnx_clp.errors import UnsupportedModelError, UsageError
from onnx_clp.gradient.preparing import prepared
from onnx_clp.gradient.rules import FLAT, GRADIENTS
from onnx_clp.gradient.tape import BackStep, Tape
from onnx_clp.gradient.writer import FLOATS, GraphWriter, Term
from onnx_clp.operators import read
from onnx_clp.operators.nodes import STANDARD_DOMAINS, is_op, operator, subgraphs
from onnx_clp.text import shown


@dataclass(frozen=True, slots=True, eq=False)
class Differentiated:
    """A model with gradients among its outputs.

    Attributes:
        model: a new model; its opset is the input's, or 16 where that is older.
        scalar: the output that holds what was differentiated.
        gradients: for each value asked for, the output that holds its gradient, of the value's shape and type.
    """

    model: ModelProto
    scalar: str
    gradients: dict[str, str]


def differentiate(
    model: ModelProto,
    scalar: str,
    wanted: Sequence[str],
    outputs: Sequence[str] | None = None,
    *,
    guarded: bool = False,
    throughout: bool = False,
) -> Differentiated:
    """Append the gradient of `scalar` with respect to each of `wanted` to a copy of `model`.

    Args:
        model: weights in memory; a floating-point graph without If, Loop or Scan between the values named.
        scalar: a value of the main graph, of type float; if it has several elements, their sum is differentiated.
        wanted: values of the main graph, inputs or intermediate ones.
        outputs: further values that the new model outputs; by default what the model outputs now.
        guarded: take the subgradient 0 wherever an operator's own is infinite or no number, as that of Sqrt(x * x) is
            at 0; without it one such element blinds all that lies before it.
        throughout: also output every value on the way and its gradient.

    Raises:
        UsageError: a value is not there, or `scalar` does not depend on one of `wanted`.
        UnsupportedModelError: an operator between the two has no rule, or not for this form of it; the message names
            the operator and where it is. Or the model is of an opset that cannot be brought to 16.
    """
    ready = prepared(model)
    writer = GraphWriter(ready)
    nodes = list(writer.index.main.nodes)
    for name in (scalar, *wanted, *(outputs or ())):
        if not writer.index.main.defines(name):
            raise UsageError(f"the model has no value '{shown(name)}' to differentiate or to output")
    tape = Tape(writer, _active(nodes, scalar, wanted))
    _refuse_strangers(tape, nodes)
    tape.add(scalar, _seed(writer, scalar))
    _walk(tape, nodes, guarded)
    found = {name: _found(tape, name, scalar) for name in wanted}
    if throughout:
        collected = ((name, tape.gradient(name)) for name in sorted(tape.active))
        found |= {name: gradient for name, gradient in collected if gradient is not None}
        outputs = list(found)
    _set_outputs(writer, scalar, found, outputs)
    return Differentiated(ready, scalar, {name: gradient.name for name, gradient in found.items()})


def _active(nodes: list[NodeProto], scalar: str, wanted: Sequence[str]) -> set[str]:
    """The values that depend on a wanted one and that the scalar depends on."""
    reached = set(wanted)
    for node in nodes:
        if not is_flat(node) and not reached.isdisjoint(_reads(node)):
            reached.update(name for name in node.output if name)
    needed = {scalar}
    for node in reversed(nodes):
        if not is_flat(node) and not needed.isdisjoint(node.output):
            needed.update(_reads(node))
    return reached & needed


def _reads(node: NodeProto) -> set[str]:
    """The values a node reads, those that graphs nested in it take from around them included."""
    names: set[str] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        names.update(name for name in current.input if name)
        for _, body in subgraphs(current):
            names.update(output.name for output in body.output)
            stack.extend(body.node)
    return names


def is_flat(node: NodeProto) -> bool:
    """Whether no gradient passes the node: its result does not vary with its input, but for jumps."""
    if is_op(node, "Cast"):
        return read.cast_type(node) not in FLOATS
    return is_op(node, *FLAT)


def _refuse_strangers(tape: Tape, nodes: list[NodeProto]) -> None:
    """Name the operators without a rule that a gradient would have to pass."""
    for node in nodes:
        if _passes(tape, node) and (node.op_type not in GRADIENTS or node.domain not in STANDARD_DOMAINS):
            raise UnsupportedModelError(
                f"{node_label(node)}: there is no gradient rule for the operator {shown(operator(node))}"
            )


def _passes(tape: Tape, node: NodeProto) -> bool:
    """Whether a gradient goes from an output of the node to an input of it."""
    return not is_flat(node) and not tape.active.isdisjoint(node.output) and not tape.active.isdisjoint(_reads(node))


def _seed(writer: GraphWriter, scalar: str) -> Term:
    """d scalar / d scalar: ones of its shape."""
    term = writer.term(scalar)
    if term.data_type not in FLOATS:
        raise UsageError(f"'{shown(scalar)}' is not of a floating-point type, it cannot be differentiated")
    one = term.like(1.0)
    return one if writer.values.dims(scalar) == () else one.expand(writer.shape(term))


def _walk(tape: Tape, nodes: list[NodeProto], guarded: bool) -> None:
    for node in reversed(nodes):
        if not _passes(tape, node) or all(tape.gradient(name) is None for name in node.output if name):
            continue
        for slot, gradient in GRADIENTS[node.op_type](BackStep(tape, node)).items():
            if node.input[slot] in tape.active:
                tape.add(node.input[slot], gradient.finite() if guarded else gradient)


def _found(tape: Tape, name: str, scalar: str) -> Term:
    gradient = tape.gradient(name)
    if gradient is None:
        raise UsageError(f"'{shown(scalar)}' does not depend on '{shown(name)}' through anything that has a gradient")
    return gradient


def _set_outputs(writer: GraphWriter, scalar: str, found: dict[str, Term], outputs: Sequence[str] | None) -> None:
    if outputs is not None:
        del writer.model.graph.output[:]
        for name in outputs:
            writer.add_output(name, dims=writer.values.dims(name))
    writer.add_output(scalar, dims=writer.values.dims(scalar))
    for name, gradient in found.items():
        writer.add_output(gradient, dims=writer.values.dims(name))
