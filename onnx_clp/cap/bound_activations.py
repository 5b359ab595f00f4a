"""Cap each normalised channel at what the training data reached.

    before:  BatchNormalization [> Relu, LeakyRelu or Clip]
    after:   … [> Relu, LeakyRelu or Clip] > Min(·, max(0, beta + C·|gamma|))

A BatchNormalization tells how its output was distributed on the training data: mean beta, standard deviation
|gamma|. A patch trigger drives a few channels far beyond that; clean images do not. Off unless asked for. The
cap is never below 0, so a channel that was switched off stays off. The statistics are recorded before folding
takes them; the Min goes in after pruning, behind an activation that is the only consumer and that it commutes
with, because runtimes fuse it with the convolution. Where no BatchNormalization tells, `calibrated` measures.

Conditions: inference mode, constant gamma and beta, known rank; below opset 8, where Min does not broadcast, a
known shape. `ceilings` has the forms a cap takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.cap.ceilings import Ceiling, clip_limits, expansion
from onnx_clp.cap.rank import rank_of
from onnx_clp.fold.affine_forms import is_training
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import FLOAT_TYPES, float_type
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import has_reference, identity, input_name, is_op
from onnx_clp.verdicts import Skipped, SkipReason

Float64 = NDArray[np.float64]

NORMALISATION = "normalisation"


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """How one value is distributed: float64 mean and std of shape (channels,), channels on axis 1.

    `source` says who tells: its BatchNormalization, which `name` names, or a calibration.
    """

    scope: GraphIndex
    output: str
    mean: Float64
    std: Float64
    data_type: int | None
    name: str
    source: str = NORMALISATION
    rank: int | None = None


def record(scope: GraphIndex) -> list[Statistic]:
    """The statistics of every BatchNormalization of a scope, to be taken before any is folded."""
    return [found for node in scope.nodes if (found := _statistic(scope, node)) is not None]


def _statistic(scope: GraphIndex, node: NodeProto) -> Statistic | None:
    if not is_op(node, "BatchNormalization") or has_reference(node) or is_training(scope, node):
        return None
    gamma, beta = scope.constant(input_name(node, 1)), scope.constant(input_name(node, 2))
    if gamma is None or beta is None or gamma.ndim != 1 or gamma.shape != beta.shape:
        return None
    if float_type(gamma.dtype) is None or float_type(beta.dtype) is None:
        return None
    mean, std = as_float64(beta), np.abs(as_float64(gamma))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return None
    name = node.name or identity(node)
    return Statistic(scope, node.output[0], mean, std, scope.element_type(node.input[0]), name)


def examine(statistic: Statistic, times: float) -> Ceiling | Skipped:
    """Where the cap at mean + `times`·std goes, or why it cannot go in."""
    scope, maker = statistic.scope, statistic.scope.producer(statistic.output)
    if maker is None:
        return Skipped(SkipReason.NOT_AFFINE, "it is folded together with what follows it")
    rank = statistic.rank or rank_of(scope, maker, statistic.output)
    data_type = statistic.data_type
    if rank is None or rank < 2:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "the number of dimensions of its output is not known")
    if data_type not in FLOAT_TYPES:
        return Skipped(SkipReason.UNSUPPORTED_OPERATOR, "the element type of its output is not known")
    assert data_type is not None
    limits = np.maximum(statistic.mean + times * statistic.std, 0.0)
    place = _commuting(statistic)
    if place is not None and is_op(place, "Clip"):
        found = clip_limits(scope, place)
        if found is not None and found[1] <= limits.min(initial=np.inf):
            return Skipped(SkipReason.NO_EFFECT, f"the Clip behind it cuts at {found[1]:g} already, which is no higher")
    value = statistic.output if place is None else place.output[0]
    ceiling = Ceiling(scope, value, place or maker, limits, rank, data_type, place is not None)
    if scope.opset < 8 and not ceiling.shared and expansion(ceiling) is None:
        return Skipped(
            SkipReason.UNSUPPORTED_OPERATOR, "Min does not broadcast below opset 8, and the size of its output is open"
        )
    return ceiling


def _commuting(statistic: Statistic) -> NodeProto | None:
    """The activation that alone uses the value, if capping behind it comes to the same as capping before it."""
    scope, use = statistic.scope, statistic.scope.only_use(statistic.output)
    node = None if use is None else use.node
    if node is None or use is None or use.scope is not scope or use.slot != 0 or has_reference(node):
        return None
    if is_op(node, "Relu"):
        return node
    if is_op(node, "LeakyRelu"):
        return node if read.alpha(node) >= 0 else None
    limits = clip_limits(scope, node) if is_op(node, "Clip") else None
    return node if limits is not None and limits[0] <= 0 else None
