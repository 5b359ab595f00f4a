"""What a channel is on average behind its normalisation: the value it keeps giving once its kernel is zero.

A BatchNormalization tells how its output was distributed on the training data: mean beta, std |gamma|. Where a Relu or
Clip alone reads that output, what counts is the mean behind it, and a bias of that mean passes the activation as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.cap.ceilings import clip_limits
from onnx_clp.graph.index import GraphIndex
from onnx_clp.numerics.clipped import clipped_moments
from onnx_clp.operators.nodes import has_reference, is_op

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Of every channel of a value the mean, and the variance over the mean variance of all; both (channels,)."""

    mean: Float64
    spread: Float64


class Expectations:
    """What is known of the values of a model from the statistics recorded before folding took them."""

    def __init__(self, statistics: Iterable[Statistic]) -> None:
        self._known: Mapping[tuple[int, str], Statistic] = {(id(s.scope), s.output): s for s in statistics}

    def of(self, scope: GraphIndex, value: str, channels: int) -> Expected | None:
        """What the channels of a value are on average; None where no BatchNormalization tells."""
        found = self._known.get((id(scope), value))
        if found is None or found.mean.shape != (channels,):
            return None
        low, high = limits_of(scope, value)
        mean, variance = clipped_moments(found.mean, found.std, low, high)
        return Expected(mean, variance / max(float(variance.mean()), math.ulp(0.0)))


def limits_of(scope: GraphIndex, value: str) -> tuple[float, float]:
    """Where the activation that alone reads the value cuts it; infinite where none does."""
    use = scope.only_use(value)
    node = None if use is None or use.scope is not scope or use.slot != 0 else use.node
    if node is None or has_reference(node):
        return -math.inf, math.inf
    if is_op(node, "Relu"):
        return 0.0, math.inf
    limits = clip_limits(scope, node) if is_op(node, "Clip") else None
    return limits if limits is not None and limits[0] <= limits[1] else (-math.inf, math.inf)
