"""Undo broadcasting: sum a gradient over the axes along which an operand was repeated."""

from __future__ import annotations

from onnx import TensorProto

from onnx_clp.gradient.tape import BackStep
from onnx_clp.gradient.values import Dim, Dims
from onnx_clp.gradient.writer import GraphWriter, Term
from onnx_clp.operators.nodes import input_name


def reduced(step: BackStep, gradient: Term, slot: int) -> Term:
    """`gradient`, of the broadcast shape of the node's inputs, summed to the shape of the input at `slot`."""
    others = [n for at in range(len(step.node.input)) if at != slot and (n := input_name(step.node, at))]
    return reduce_to(step.writer, gradient, step.node.input[slot], others, step.node.output[0])


def reduce_to(writer: GraphWriter, gradient: Term, source: str, others: list[str], result: str) -> Term:
    """`gradient`, of the shape of `result`, summed to the shape of `source`, which was broadcast with `others`."""
    dims = writer.values.dims(source)
    others_dims = [writer.values.dims(other) for other in others]
    known = [d for d in others_dims if d is not None]
    if dims is None or len(known) < len(others_dims):
        return _at_run_time(writer, gradient, source, result)
    axes = _axes(dims, known)
    if axes is None:
        return _at_run_time(writer, gradient, source, result)
    lead = max([len(dims), *map(len, known)]) - len(dims)
    if axes == list(range(lead)):
        return gradient.sum(axes) if axes else gradient
    return gradient.sum(axes, keepdims=True).squeeze(list(range(lead)))


def _axes(dims: Dims, others: list[Dims]) -> list[int] | None:
    """Axes of the result to sum over; None where it depends on sizes that are open."""
    rank = max([len(dims), *map(len, others)])
    axes = []
    for axis in range(rank):
        mine = _aligned(dims, axis, rank)
        met = [d for other in others if (d := _aligned(other, axis, rank)) != 1]
        if axis < rank - len(dims) or (mine == 1 and met):
            axes.append(axis)
        elif not isinstance(mine, int) and any(d != mine or d is None for d in met):
            return None
    return axes


def _aligned(dims: Dims, axis: int, rank: int) -> Dim:
    at = axis - (rank - len(dims))
    return dims[at] if at >= 0 else 1


def _at_run_time(writer: GraphWriter, gradient: Term, source: str, result: str) -> Term:
    """The same with shapes read while the model runs: sum where `source`'s shape, filled up with 1, is 1."""
    shape = writer.shape(source)
    missing = writer.shape(writer.shape(result)) - writer.shape(shape)
    ones = writer.ints([1]).expand(missing)
    filled = writer.op("Concat", ones, shape, axis=0)
    where = filled.equals(1).op("NonZero", data_type=TensorProto.INT64).squeeze([0])
    total = gradient.op("ReduceSum", where, keepdims=1, noop_with_empty_axes=1)
    return total.reshape(shape)
