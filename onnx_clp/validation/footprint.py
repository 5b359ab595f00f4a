"""What a run needs at least: every value a node makes, beside the one it makes it of, is in memory as a whole.

Read from the shapes that ONNX's inference finds, so that a file of a kilobyte that asks for gigabytes is refused before
they are taken.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from onnx import ModelProto, NodeProto, TypeProto
from onnx.helper import tensor_dtype_to_np_dtype


class LargestValue(NamedTuple):
    """The node that holds most at once: the name and shape of its largest result, and the bytes of it all."""

    value: str
    shape: tuple[int, ...]
    nbytes: int


def largest(model: ModelProto) -> LargestValue | None:
    """The largest footprint of the nodes of a model's main graph, whose shapes were inferred; None where none is known.

    A lower bound: an input counts only where the result cannot be put in its place, for it is of another size.
    """
    known = dict(_known(model))
    found = [one for node in model.graph.node if (one := _of(node, known)) is not None]
    return max(found, key=lambda one: one.nbytes, default=None)


def _of(node: NodeProto, known: dict[str, tuple[tuple[int, ...], int]]) -> LargestValue | None:
    made = [name for name in node.output if name in known]
    if not made:
        return None
    widest = max(made, key=lambda name: known[name][1])
    results = sum(known[name][1] for name in made)
    taken = max((known[name][1] for name in node.input if name in known), default=0)
    return LargestValue(widest, known[widest][0], results + (taken if taken != results else 0))


def _known(model: ModelProto) -> list[tuple[str, tuple[tuple[int, ...], int]]]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return [(value.name, size) for value in values if (size := _size(value.type)) is not None]


def _size(kind: TypeProto) -> tuple[tuple[int, ...], int] | None:
    """A tensor's shape and bytes, where both are known."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    shape = tuple(d.dim_value for d in tensor.shape.dim)
    try:
        width = tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    except KeyError:
        return None
    return shape, math.prod(shape) * width
