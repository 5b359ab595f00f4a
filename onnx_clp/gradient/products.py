"""MatMul and Gemm."""

from __future__ import annotations

from typing import Final

from onnx_clp.gradient.broadcast import reduce_to
from onnx_clp.gradient.tape import BackStep, Gradients, Rules
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read


def _gemm(step: BackStep) -> Gradients:
    """Y = alpha·A'·B' + beta·C with A', B' transposed as asked."""
    out = {}
    gradient, a, b = step.gradient, step.input(0), step.input(1)
    alpha = read.alpha(step.node)
    turned_a, turned_b = (int(turned) for turned in read.transposed(step.node))
    if step.wants(0) and turned_a:
        out[0] = b.op("Gemm", gradient, alpha=alpha, transA=turned_b, transB=1)
    elif step.wants(0):
        out[0] = gradient.op("Gemm", b, alpha=alpha, transB=1 - turned_b)
    if step.wants(1) and turned_b:
        out[1] = gradient.op("Gemm", a, alpha=alpha, transA=1, transB=turned_a)
    elif step.wants(1):
        out[1] = a.op("Gemm", gradient, alpha=alpha, transA=1 - turned_a)
    if step.wants(2):
        share = gradient * read.beta(step.node)
        out[2] = reduce_to(step.writer, share, step.node.input[2], [step.node.output[0]], step.node.output[0])
    return out


def _matmul(step: BackStep) -> Gradients:
    """Y = A·B over the last two axes, the axes before broadcast; a vector operand counts as one row or column."""
    ranks = step.rank(0), step.rank(1)
    if 1 in ranks:
        return _with_a_vector(step, ranks)
    out = {}
    if step.wants(0):
        out[0] = _summed(step, step.gradient.op("MatMul", _turned(step.input(1), ranks[1])), 0)
    if step.wants(1):
        out[1] = _summed(step, _turned(step.input(0), ranks[0]).op("MatMul", step.gradient), 1)
    return out


def _turned(value: Term, rank: int) -> Term:
    return value.transpose([*range(rank - 2), rank - 1, rank - 2])


def _summed(step: BackStep, gradient: Term, slot: int) -> Term:
    """Sum over the axes in front that the operand was broadcast along."""
    mine, other = step.dims(slot), step.dims(1 - slot)
    assert mine is not None
    assert other is not None
    if len(other) == 2:
        return gradient
    batch = len(other) - 2
    if len(mine) == 2:
        return gradient.sum(list(range(batch)))
    if mine[:-2] == other[:-2] and None not in mine[:-2]:
        return gradient
    if not all(isinstance(d, int) for d in (*mine[:-2], *other[:-2])):
        raise step.refuse("its operands are stacks of matrices of which the number is not known")
    return _over_stack(gradient, mine, other)


def _over_stack(gradient: Term, mine: tuple[object, ...], other: tuple[object, ...]) -> Term:
    rank = max(len(mine), len(other))
    filled = (1,) * (rank - len(mine)) + mine
    axes = [axis for axis in range(rank - 2) if filled[axis] == 1]
    lead = list(range(rank - len(mine)))
    return gradient.sum(axes, keepdims=True).squeeze(lead) if axes else gradient


def _with_a_vector(step: BackStep, ranks: tuple[int, int]) -> Gradients:
    """Y = Σ_k A[..., k]·B[..., k, n]: products and sums, the vector given its missing axis."""
    rows = 1 if ranks[0] == 1 else 0
    columns = 1 if ranks[1] == 1 else 0
    a = step.input(0).unsqueeze([0]) if rows else step.input(0)
    b = step.input(1).unsqueeze([1]) if columns else step.input(1)
    gradient = step.gradient.unsqueeze([-2, -1] if rows and columns else [-2] if rows else [-1])
    out = {}
    rank_a, rank_b = ranks[0] + rows, ranks[1] + columns
    if step.wants(0):
        back = gradient.op("MatMul", _turned(b, rank_b))
        out[0] = back.sum(list(range(rank_b - 2))).squeeze([0]) if rows else back
    if step.wants(1):
        back = _turned(a, rank_a).op("MatMul", gradient)
        out[1] = back.sum(list(range(rank_a - 2))).squeeze([1]) if columns else back
    return out


GRADIENTS: Final[Rules] = {"Gemm": _gemm, "MatMul": _matmul}
