"""Cap each normalised channel at what the training data reached.

    before:  BatchNormalization [> Relu]
    after:   … [> Relu] > Min(·, max(0, beta + C·|gamma|))

A BatchNormalization tells how its output was distributed on the training data: mean beta, standard deviation
|gamma|. A patch trigger drives a few channels far beyond that; clean images do not. Off unless asked for. The
cap is never below 0, so a channel that was switched off stays off. The statistics are recorded before folding
takes them; the Min goes in after pruning, behind a Relu that is the only
consumer, because runtimes fuse Conv and Relu.

Conditions: inference mode, constant gamma and beta, opset 8 or later (Min broadcasts from there), known rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.edit import GraphEdit
from onnx_clp.graph import GraphIndex
from onnx_clp.nodes import has_reference, input_name, is_op
from onnx_clp.passes.affine_forms import is_training
from onnx_clp.skipped import Skipped, SkipReason
from onnx_clp.tensors import numpy_dtype
from onnx_clp.weights import FLOAT_TYPES

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """What one BatchNormalization says of its output: float64 mean and std of shape (channels,)."""

    scope: GraphIndex
    output: str
    mean: Float64
    std: Float64
    data_type: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A value to cap: `maker` gives it, `ceiling` is the cap of shape (channels, 1, …)."""

    scope: GraphIndex
    maker: NodeProto
    ceiling: Float64
    data_type: int


def record(scope: GraphIndex) -> list[Statistic]:
    """The statistics of every BatchNormalization of a scope, to be taken before any is folded."""
    return [found for node in scope.nodes if (found := _statistic(scope, node)) is not None]


def _statistic(scope: GraphIndex, node: NodeProto) -> Statistic | None:
    if not is_op(node, "BatchNormalization") or has_reference(node) or is_training(scope, node):
        return None
    gamma, beta = scope.constant(input_name(node, 1)), scope.constant(input_name(node, 2))
    if gamma is None or beta is None or gamma.ndim != 1 or gamma.shape != beta.shape:
        return None
    mean, std = beta.astype(np.float64), np.abs(gamma.astype(np.float64))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return None
    return Statistic(scope, node.output[0], mean, std, scope.element_type(node.input[0]))


def examine(statistic: Statistic, times: float) -> Match | Skipped:
    """Where the cap at mean + `times`·std goes, or why it cannot go in."""
    scope, maker = statistic.scope, statistic.scope.producer(statistic.output)
    if maker is None:
        return Skipped(SkipReason.NOT_AFFINE, "further affines were folded in behind it")
    if scope.opset < 8:
        return Skipped(SkipReason.UNSUPPORTED_OPERATOR, "Min does not broadcast below opset 8")
    rank, data_type = scope.ranks.of(statistic.output), statistic.data_type
    if rank is None or rank < 2:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "the number of dimensions of its output is not known")
    if data_type not in FLOAT_TYPES:
        return Skipped(SkipReason.UNSUPPORTED_OPERATOR, "the element type of its output is not known")
    assert data_type is not None
    ceiling = statistic.mean + times * statistic.std
    use = scope.only_use(statistic.output)
    if use is not None and use.node is not None and use.scope is scope and is_op(use.node, "Relu"):
        maker = use.node
    return Match(scope, maker, np.maximum(ceiling, 0.0).reshape(-1, *[1] * (rank - 2)), data_type)


def apply(edit: GraphEdit, match: Match) -> None:
    """Put the Min in; what used the value gets the capped one."""
    limit = float(_largest(match.data_type))
    values = np.minimum(match.ceiling, limit)
    make = partial(edit.store.make, values=values, data_type=match.data_type)
    edit.add_after(match.scope, match.maker, "Min", f"{match.maker.output[0]}_ceiling", make)


def _largest(data_type: int) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(numpy_dtype(data_type)).max)  # type: ignore[no-untyped-call]
