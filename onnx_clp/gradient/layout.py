"""Operators that move values and compute none: shapes, joins, parts, borders."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnx_clp.gradient.broadcast import reduce_to
from onnx_clp.gradient.tape import BackStep, Gradients, Rules
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read, windows


def _reshaped(step: BackStep) -> Gradients:
    """Reshape and the like: the gradient in the input's shape."""
    step.only(0)
    dims = step.dims()
    open_axes = [a for a, d in enumerate(dims or ()) if not isinstance(d, int)]
    if dims is not None and len(open_axes) <= 1 and 0 not in dims:
        return {0: step.gradient.reshape([d if isinstance(d, int) else -1 for d in dims])}
    return {0: step.gradient.reshape(step.writer.shape(step.input()))}


def _transpose(step: BackStep) -> Gradients:
    perm = read.perm(step.node, None)
    if perm is None:
        return {0: step.gradient.op("Transpose")}
    return {0: step.gradient.transpose([int(a) for a in np.argsort(perm)])}


def _concat(step: BackStep) -> Gradients:
    axis = read.axis(step.node)
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


def _length(step: BackStep, slot: int, axis: int) -> Term:
    """The size of an input along an axis, int64 vector of one."""
    known = step.writer.values.static(step.node.input[slot], [axis])
    if known is not None:
        return step.writer.ints(known)
    end = axis + 1 if axis != -1 else int(np.iinfo(np.int64).max)
    return step.writer.shape(step.input(slot)).slice([axis], [end], [0], [1])


def _split(step: BackStep) -> Gradients:
    """The parts' gradients joined, zeros for a part that nothing depends on."""
    step.only(0)
    parts = [_part(step, slot) for slot in range(len(step.node.output))]
    return {0: step.writer.op("Concat", *parts, axis=read.axis(step.node))}


def _part(step: BackStep, slot: int) -> Term:
    gradient = step.gradient_of(slot)
    if gradient is not None:
        return gradient
    node = step.node
    if not node.output[slot]:
        node.output[slot] = step.writer.fresh(f"{node.output[0]}/part")
    part = step.writer.term(node.output[slot], step.input().data_type)
    return part.like(0.0).expand(step.writer.shape(part))


def _expand(step: BackStep) -> Gradients:
    step.only(0)
    source, result = step.node.input[0], step.node.output[0]
    return {0: reduce_to(step.writer, step.gradient, source, [result], result)}


def _tile(step: BackStep) -> Gradients:
    """The gradient as (repeats, size) for every axis, summed over the repeats."""
    step.only(0)
    writer, rank = step.writer, step.rank()
    pairs = writer.op("Concat", step.input(1), writer.shape(step.input()), axis=0)
    shape = pairs.reshape([2, rank]).transpose([1, 0]).reshape([-1])
    return {0: step.gradient.reshape(shape).sum(range(0, 2 * rank, 2))}


def _depth_to_space(step: BackStep) -> Gradients:
    block = windows.block_edge(step.node)
    if not windows.column_first(step.node):
        return {0: step.gradient.op("SpaceToDepth", blocksize=block)}
    writer = step.writer
    outside = writer.shape(step.result).slice([0], [2], [0], [1])
    height, width = (writer.shape(step.input()).slice([a], [a + 1], [0], [1]) for a in (2, 3))
    one = writer.ints([block])
    blocks = step.gradient.reshape(writer.op("Concat", outside, height, one, width, one, axis=0))
    return {0: blocks.transpose([0, 1, 3, 5, 2, 4]).reshape(writer.shape(step.input()))}


def _space_to_depth(step: BackStep) -> Gradients:
    return {0: step.gradient.op("DepthToSpace", blocksize=windows.block_edge(step.node))}


GRADIENTS: Final[Rules] = {
    "Reshape": _reshaped,
    "Flatten": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
