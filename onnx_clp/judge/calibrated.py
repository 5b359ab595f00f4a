"""Statistics for convolutions whose normalisation an exporter folded away: measured, not recorded.

    mean, std = of the convolution's output, by channel, over a few dozen inputs and all positions

What a BatchNormalization would have said of the same value, estimated; caps then go in as they do after one. The
folded model is measured before anything is pruned. Left out, with the reason: heads and gates, whose output is no
feature; values inside nested graphs and functions, which cannot be read from outside; values that go straight into
a quantiser, which cuts at the range it was made for already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, ValueInfoProto

from onnx_clp.cap.bound_activations import Statistic, examine
from onnx_clp.document.layers import CapLeft
from onnx_clp.document.readings import Moments, Readings
from onnx_clp.fold.normalisations import Sight
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.eligibility import is_head, why_ineligible
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.layers.weights import FLOAT_TYPES
from onnx_clp.operators.nodes import is_op
from onnx_clp.verdicts import Finding, LayerStatus, Skipped, SkipReason

Probe = Callable[[ModelProto, Mapping[str, int]], Readings]
"""Runs a model on the user's inputs and measures some of its outputs, given with their channel axis from the last."""

_UNTOLD = Skipped(
    SkipReason.NO_STATISTIC,
    "no BatchNormalization says how it is distributed (its exporter may have folded it; --calibrate measures it)",
)
_NOT_FINITE = Skipped(SkipReason.NOT_FINITE, "it is not finite on all calibration inputs")


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """What was measured, the statistics made of it, and the layers left without one."""

    readings: Readings | None
    statistics: tuple[Statistic, ...]
    left: tuple[CapLeft, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """That the inputs look unlike those the model was made for, if they do."""
        if self.readings is None or not self.readings.narrow:
            return ()
        count, classes = self.readings.inputs, self.readings.classes
        sentence = (
            f"the model gives {max(classes):,} of {count:,} inputs the same one of {len(classes):,} classes: inputs "
            "unlike those it was made for, or of few classes, set limits that cost accuracy; measure with --eval"
        )
        return (Finding("calibration", "--calibrate", sentence),)


def calibrate(
    index: ModelIndex,
    layers: Iterable[tuple[LayerRewrite, Sight]],
    recorded: list[Statistic],
    times: float,
    probe: Probe | None,
) -> Calibrated:
    """Measure the convolutions no recorded statistic covers; without a `probe`, only name them."""
    covered = [s for s in recorded if not isinstance(examine(s, times), Skipped) or s.scope.producer(s.output)]
    bare = [rewrite for rewrite, sight in layers if _is_bare(rewrite, sight, covered)]
    if probe is None:
        return Calibrated(None, (), tuple(CapLeft(r.layer.name, _UNTOLD.sentence) for r in bare))
    reasons = {id(r): _unmeasurable(index, r) for r in bare}
    left = [CapLeft(r.layer.name, reason.sentence) for r in bare if (reason := reasons[id(r)]) is not None]
    wanted = [r for r in bare if reasons[id(r)] is None]
    if not wanted:
        return Calibrated(None, (), tuple(left))
    readings = probe(_with_outputs(index, wanted), {r.layer.output: r.layer.axis_from_end for r in wanted})
    found = [(r, _statistic(r, readings)) for r in wanted]
    left += [CapLeft(r.layer.name, _NOT_FINITE.sentence) for r, statistic in found if statistic is None]
    return Calibrated(readings, tuple(s for _, s in found if s is not None), tuple(left))


def _is_bare(rewrite: LayerRewrite, sight: Sight, covered: list[Statistic]) -> bool:
    """Whether no BatchNormalization gave statistics of this convolution, be it folded in or left behind it."""
    if not rewrite.layer.is_convolution:
        return False
    told = {s.output for s in covered}
    folded = {s.name for s in covered if s.scope is rewrite.layer.scope}
    behind = [node for run, *_ in sight.normalisations for node, _ in run.steps]
    return not (
        rewrite.layer.output in told
        or folded.intersection(rewrite.folded)
        or any(is_op(node, "BatchNormalization") and node.output[0] in told for node in behind)
    )


def _unmeasurable(index: ModelIndex, rewrite: LayerRewrite) -> Skipped | None:
    layer, scope = rewrite.layer, rewrite.layer.scope
    if scope is not index.main:
        return Skipped(SkipReason.NO_STATISTIC, "it is in a nested graph or function, which is not measured")
    if layer.fused:
        return Skipped(SkipReason.FUSED_ACTIVATION, "an activation is fused into it")
    if _data_type(rewrite) is None or layer.axis_from_end != (layer.rank or 0) - 1:
        return Skipped(SkipReason.QUANTIZED, "its output is not a float tensor with channels on axis 1")
    if _goes_into_quantiser(scope, layer.output):
        return Skipped(SkipReason.QUANTIZED, "its output is quantised, which cuts it at a range of its own")
    if is_head(index, scope, layer.output):
        return Skipped(SkipReason.NO_STATISTIC, "its channels reach a graph output one by one: they are the answer")
    trouble = why_ineligible(index, layer, rewrite.offset)
    if trouble is not None and trouble.status is LayerStatus.GATE:
        return Skipped(SkipReason.NO_STATISTIC, "its output scales other channels")
    return None


def _data_type(rewrite: LayerRewrite) -> int | None:
    layer = rewrite.layer
    known = layer.scope.element_type(layer.output)
    if known is None and is_op(layer.node, "Conv", "ConvTranspose"):
        known = layer.weight.data_type
    return known if known in FLOAT_TYPES else None


def _goes_into_quantiser(scope: GraphIndex, name: str) -> bool:
    """Whether a QuantizeLinear takes the value, at once or behind a Relu or Clip."""
    for use in scope.uses(name):
        if use.node is not None and is_op(use.node, "QuantizeLinear"):
            return True
        behind = use.node is not None and is_op(use.node, "Relu", "Clip", "LeakyRelu")
        if behind and use.node is not None and _goes_into_quantiser(scope, use.node.output[0]):
            return True
    return False


def _with_outputs(index: ModelIndex, wanted: list[LayerRewrite]) -> ModelProto:
    """A copy of the model that gives the layers' outputs too; the runtime works their types out."""
    model = ModelProto()
    model.CopyFrom(index.model)
    there = {value.name for value in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=r.layer.output) for r in wanted if r.layer.output not in there)
    return model


def _statistic(rewrite: LayerRewrite, readings: Readings) -> Statistic | None:
    layer = rewrite.layer
    moments = readings.moments.get(layer.output, Moments((), ()))
    mean, std = np.asarray(moments.mean, np.float64), np.asarray(moments.std, np.float64)
    if mean.shape != (layer.channels,) or mean.shape != std.shape:
        return None
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        return None
    source = f"calibration ({readings.inputs} input{'' if readings.inputs == 1 else 's'})"
    return Statistic(
        layer.scope, layer.output, mean, std, _data_type(rewrite), layer.name, source=source, rank=layer.rank
    )
