"""BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization and RMSNormalization.

Those that take their statistics from x itself have, with u = g·scale and x̂ the normalised x,
dx = (u − mean(u) − x̂·mean(u·x̂)) / sqrt(var + eps), means over the axes the statistics are taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnx_clp.gradient.tape import BackStep, Gradients, Rules, shape_of
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read


def _batch(step: BackStep) -> Gradients:
    """y = scale·(x − mean)/sqrt(var + eps) + bias with stored statistics: dx = g·scale/sqrt(var + eps)."""
    step.only(0)
    if read.trains(step.node):
        raise step.refuse("it is in training mode, where its statistics are those of the batch")
    root = (step.input(4) + read.epsilon(step.node)).sqrt()
    factor = (step.input(1).cast(root.data_type) / root).cast(step.gradient.data_type)
    return {0: step.gradient * factor.unsqueeze(list(range(1, step.rank() - 1)))}


def _through(x: Term, scaled: Term, epsilon: float, axes: Sequence[int]) -> Term:
    """The gradient through (x − mean)/sqrt(var + eps), the statistics taken over `axes`."""
    centred = x - x.mean(axes, keepdims=True)
    inverse = 1.0 / (centred.square().mean(axes, keepdims=True) + epsilon).sqrt()
    normal = centred * inverse
    pull = scaled.mean(axes, keepdims=True) + normal * (scaled * normal).mean(axes, keepdims=True)
    return inverse * (scaled - pull)


def _layer(step: BackStep) -> Gradients:
    step.only(0)
    rank = step.rank()
    axes = range(read.axis(step.node) % rank, rank)
    return {0: _through(step.input(), step.gradient * step.input(1), read.epsilon(step.node), axes)}


def _root_mean_square(step: BackStep) -> Gradients:
    """y = scale·x/sqrt(mean(x²) + eps): the same without the means of x and of u."""
    step.only(0)
    x, rank = step.input(), step.rank()
    axes = range(read.axis(step.node) % rank, rank)
    scaled = step.gradient * step.input(1)
    inverse = 1.0 / (x.square().mean(axes, keepdims=True) + read.epsilon(step.node)).sqrt()
    normal = x * inverse
    return {0: inverse * (scaled - normal * (scaled * normal).mean(axes, keepdims=True))}


def _instance(step: BackStep) -> Gradients:
    step.only(0)
    rank = step.rank()
    scaled = step.gradient * _by_channel(step.input(1), rank)
    return {0: _through(step.input(), scaled, read.epsilon(step.node), range(2, rank))}


def _by_channel(scale: Term, rank: int) -> Term:
    return scale.unsqueeze(list(range(1, rank - 1)))


def _group(step: BackStep) -> Gradients:
    """Operator version 21, with one scale a channel; that of opset 18, one a group, was withdrawn."""
    step.only(0)
    if step.writer.opset < 21:
        raise step.refuse("it is of an opset below 21, where the operator was withdrawn")
    groups = read.normalised_groups(step.node)
    shape = step.writer.ints([0, groups, -1])
    scaled = (step.gradient * _by_channel(step.input(1), step.rank())).reshape(shape)
    return {0: _through(step.input().reshape(shape), scaled, read.epsilon(step.node), [2]).reshape(shape_of(step))}


GRADIENTS: Final[Rules] = {
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
    "GroupNormalization": _group,
    "RMSNormalization": _root_mean_square,
}
