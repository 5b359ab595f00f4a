"""Operators that move values and compute none: shapes, joins, parts, borders."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnx_clp.gradient.tape import Gradients, Rules, Step
from onnx_clp.gradient.writer import Term


def _reshaped(step: Step) -> Gradients:
    """Reshape and the like: the gradient in the input's shape."""
    step.only(0)
    dims = step.dims()
    open_axes = [a for a, d in enumerate(dims or ()) if not isinstance(d, int)]
    if dims is not None and len(open_axes) <= 1 and 0 not in dims:
        return {0: step.gradient.reshape([d if isinstance(d, int) else -1 for d in dims])}
    return {0: step.gradient.reshape(step.writer.shape(step.input()))}


def _transpose(step: Step) -> Gradients:
    perm = step.attribute("perm")
    if perm is None:
        return {0: step.gradient.op("Transpose")}
    return {0: step.gradient.transpose([int(a) for a in np.argsort(perm)])}


def _concat(step: Step) -> Gradients:
    axis = int(step.attribute("axis"))
    count = len(step.node.input)
    known = [step.writer.values.static(name, [axis]) for name in step.node.input]
    if None in known:
        split = step.writer.op("Concat", *(_length(step, slot, axis) for slot in range(count)), axis=0)
    else:
        split = step.writer.ints([k[0] for k in known if k is not None])
    parts = step.writer.node("Split", [step.gradient.name, split.name], count, axis=axis)
    return {
        slot: Term(step.writer, part, step.gradient.data_type) for slot, part in enumerate(parts) if step.wants(slot)
    }


def _length(step: Step, slot: int, axis: int) -> Term:
    """The size of an input along an axis, int64 vector of one."""
    known = step.writer.values.static(step.node.input[slot], [axis])
    if known is not None:
        return step.writer.ints(known)
    return step.writer.shape(step.input(slot)).slice([axis], [_end(axis)], [0], [1])


def _end(axis: int) -> int:
    """The end of a slice that holds `axis` alone."""
    return axis + 1 if axis != -1 else int(np.iinfo(np.int64).max)


RULES: Final[Rules] = {
    "Reshape": _reshaped,
    "Flatten": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Transpose": _transpose,
    "Concat": _concat,
}
