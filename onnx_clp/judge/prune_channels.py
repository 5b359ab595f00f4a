"""Zero the channels whose score stands out in their layer.

    score(k) = |s_k|·sigma(W_k)          prune k where score(k) > mean + u·std          (ECCV 2022, equation 7)

or beyond the limit of another rule (`numerics.outliers`); the rule `gain` multiplies the scores by how strongly the
channel is read (`downstream_gain`).

`s` is the scale of the normalisation after the layer, folded or not; with several, each judges on its own. A
pruned channel's weight becomes 0 and its bias what it is on average (its fill); where a normalisation stayed in the
graph its factor becomes 0 and its offset the fill, and the weight only if every branch agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import is_part
from onnx_clp.config import CleanConfig
from onnx_clp.fold.channel_views import carry, layer_view
from onnx_clp.fold.normalisations import Normalisation, Sight, of_layer
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.downstream_gain import Gains
from onnx_clp.judge.eligibility import size_taken_out, why_ineligible
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.numerics.lipschitz import exact_norm, sigma, upper_bound
from onnx_clp.numerics.outliers import Outliers, find_outliers, too_few, why_too_few
from onnx_clp.operators.nodes import is_op
from onnx_clp.verdicts import LayerStatus

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Raw = tuple[Float64, Float64]
"""A layer's scores and upper bounds, one entry a channel, before any normalisation that stayed in the graph."""


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One layer's scores seen through one normalisation (None: folded away, or there is none).

    `scores`, `bounds` and `outliers` cover channels `first` … `first + len(scores) - 1` of the layer, which are
    channels `offset` … of the normalisation.
    """

    normalisation: Normalisation | None
    first: int
    offset: int
    scores: Float64
    bounds: Float64
    outliers: Outliers

    def over_layer(self, channels: int, mask: Mask) -> Mask:
        """A mask over this branch's channels, spread over the layer's."""
        out = np.zeros(channels, dtype=bool)
        out[self.first : self.first + len(mask)] = mask
        return out

    @property
    def value(self) -> str:
        """The value whose channels these are; "" where it is the layer's own output."""
        return "" if self.normalisation is None else self.normalisation.value

    @property
    def start(self) -> int:
        """The first of these channels among those of the value."""
        return self.first if self.normalisation is None else self.offset


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What becomes of one branch: which of its channels are switched off, and what each gives from then on.

    Both have one entry a channel of the branch.
    """

    off: Mask
    fill: Float64


_LARGEST_SPECTRUM: Final = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class LayerVerdict:
    """What became of a layer: its status, why, its branches where it was scored, and what they were made from."""

    rewrite: LayerRewrite
    status: LayerStatus
    reason: str
    branches: tuple[Branch, ...] = ()
    raw: Raw | None = None

    def outlying(self, u: float) -> tuple[Mask, ...]:
        """What stands out of each branch at the threshold `u`; nothing where the layer cannot be judged there."""
        if all(too_few(len(b.scores), u, b.outliers.rule) for b in self.branches):
            return ()
        return tuple(find_outliers(b.scores, u, b.outliers.rule).outlying for b in self.branches)


def matches(name: str, identity_name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a layer's name or its identity fits one of the shell patterns."""
    return any(fnmatchcase(name, p) or fnmatchcase(identity_name, p) for p in patterns)


def examine(
    index: ModelIndex,
    rewrite: LayerRewrite,
    sight: Sight,
    config: CleanConfig,
    known: Raw | None = None,
    gains: Gains | None = None,
) -> LayerVerdict:
    """Decide whether a layer is judged, and judge it; `known` scores of the same layer are not computed again.

    `gains` weight the scores, for the rule `gain`.
    """
    layer = rewrite.layer
    status, reason = _standing(index, rewrite, sight, config)
    if status is not LayerStatus.JUDGED:
        return LayerVerdict(rewrite, status, reason)
    if rewrite.bias is None:
        return LayerVerdict(rewrite, LayerStatus.UNJUDGEABLE, "its bias is not a constant")
    if 0 in layer.weight_shape:
        return LayerVerdict(rewrite, LayerStatus.UNJUDGEABLE, "its weight is empty")
    if config.bound == "exact" and _spectrum(layer) > _LARGEST_SPECTRUM:
        reason = "its strides or dilations ask for too fine a grid; --bound reshaped needs none"
        return LayerVerdict(rewrite, LayerStatus.UNJUDGEABLE, reason)
    raw = scores, bounds = known or _raw_scores(rewrite, config)
    if not (np.isfinite(scores).all() and np.isfinite(bounds).all()):
        return LayerVerdict(rewrite, LayerStatus.UNJUDGEABLE, "a weight or its norm is not a finite number")
    branches, remark = _branches(rewrite, sight, raw, config, gains)
    if not branches:
        return LayerVerdict(rewrite, LayerStatus.UNJUDGEABLE, "its normalisation gives a score that is not finite")
    if all(too_few(len(b.scores), config.u, config.rule) for b in branches):
        few = why_too_few(max(len(b.scores) for b in branches), config.rule)
        return LayerVerdict(rewrite, LayerStatus.TOO_SMALL, few, branches, raw)
    return LayerVerdict(rewrite, LayerStatus.JUDGED, remark, branches, raw)


def _standing(index: ModelIndex, rewrite: LayerRewrite, sight: Sight, config: CleanConfig) -> tuple[LayerStatus, str]:
    layer = rewrite.layer
    names = (layer.name, layer.output)
    if is_part(layer.scope, layer.node):
        return LayerStatus.EXCLUDED, "it is part of a cap on a direction"
    if matches(*names, config.exclude):
        return LayerStatus.EXCLUDED, "excluded by --exclude"
    if config.include:
        asked = matches(*names, config.include)
        return (LayerStatus.JUDGED, "") if asked else (LayerStatus.EXCLUDED, "not among --include")
    if not layer.is_convolution and config.layers == "conv":
        return LayerStatus.NOT_CONVOLUTION, "only convolutions are judged (--layers all judges it too)"
    if rewrite.normalised or of_layer(sight):
        meaningless = None if of_layer(sight) else size_taken_out(layer.scope, layer.output)
        return (LayerStatus.JUDGED, "") if meaningless is None else (meaningless.status, meaningless.sentence)
    trouble = why_ineligible(index, layer, rewrite.offset)
    return (LayerStatus.JUDGED, "") if trouble is None else (trouble.status, trouble.sentence)


def _spectrum(layer: LinearLayer) -> int:
    """Entries of the transform of one channel's kernel, which the exact norm holds at once."""
    if layer.geometry is None:
        return 0
    return layer.inputs // layer.layout.groups * math.prod(layer.geometry.grid)


def _raw_scores(rewrite: LayerRewrite, config: CleanConfig) -> tuple[Float64, Float64]:
    """Scores and upper bounds before any normalisation that stayed in the graph."""
    layer = rewrite.layer
    matrices = rewrite.kernels()
    with np.errstate(all="ignore"):
        gain = np.abs(rewrite.out_scale * layer.gain)
        plain = sigma(matrices)
        bounds = upper_bound(plain, matrices.shape[2]) * gain
        if config.bound == "exact" and layer.geometry is not None:
            return exact_norm(matrices, layer.geometry) * gain, bounds
        return plain * gain, bounds


def _branches(
    rewrite: LayerRewrite, sight: Sight, raw: Raw, config: CleanConfig, gains: Gains | None
) -> tuple[tuple[Branch, ...], str]:
    """The layer through each of its normalisations, and what is missing from the weights of its scores."""
    branches, remarks = [], []
    for run, offset, first, scores, bounds in _seen(rewrite, sight, raw):
        if gains is not None:
            value = rewrite.layer.output if run is None else run.steps[-1][0].output[0]
            gain, remark = gains.of(value, offset, len(scores))
            scores = scores if gain is None else _product(scores, gain)
            remarks.append(remark)
        if np.isfinite(scores).all() and np.isfinite(bounds).all():
            found = find_outliers(scores, config.u, config.rule)
            branches.append(Branch(run, first, offset, scores, bounds, found))
    return tuple(branches), next(filter(None, remarks), "")


def _seen(
    rewrite: LayerRewrite, sight: Sight, raw: Raw
) -> Iterator[tuple[Normalisation | None, int, int, Float64, Float64]]:
    """Each normalisation with its first channel, the layer's first, and scores and bounds behind it."""
    places = of_layer(sight)
    for first, count in () if places else _whole_parts(rewrite):
        here = slice(first, first + count)
        yield None, 0, first, raw[0][here], raw[1][here]
    for run, offset, first, count in places:
        scale, here = np.abs(run.affine.scale[offset : offset + count]), slice(first, first + count)
        yield run, offset, first, _product(raw[0][here], scale), _product(raw[1][here], scale)


def _whole_parts(rewrite: LayerRewrite) -> list[tuple[int, int]]:
    """First channel and count of the parts whose size says something: all, but parts of a Split that are normalised.

    An IBN block splits a convolution's channels: half of them go into an InstanceNormalization (Pan et al., ECCV 2018).
    """
    layer = rewrite.layer
    use = layer.scope.only_use(layer.output)
    node = None if use is None or use.scope is not layer.scope else use.node
    views = {layer.output: layer_view(rewrite)}
    if node is None or not is_op(node, "Split") or not carry(layer.scope, node, views):
        return [(0, layer.channels)]
    parts = []
    for name in node.output:
        segment = views[name].segments[0] if name in views else None
        if segment is None or segment.count is None:
            return [(0, layer.channels)]
        if size_taken_out(layer.scope, name) is None:
            parts.append((segment.start, segment.count))
    return [(0, layer.channels)] if sum(count for _, count in parts) == layer.channels else parts


def _product(one: Float64, other: Float64) -> Float64:
    with np.errstate(over="ignore"):
        return np.asarray(one * other)


def prune(edit: GraphEdit, verdict: LayerVerdict, sight: Sight, cuts: Sequence[Cut]) -> None:
    """Switch channels of a judged layer off, as `cuts` say branch by branch."""
    rewrite = verdict.rewrite
    channels = rewrite.layer.channels
    agreed, covered = np.ones(channels, dtype=bool), np.zeros(channels, dtype=bool)
    fill = np.zeros(channels)
    for branch, cut in zip(verdict.branches, cuts, strict=True):
        marked = branch.over_layer(channels, cut.off)
        here = branch.over_layer(channels, np.ones(len(cut.off), dtype=bool))
        agreed &= marked | ~here
        covered |= here
        if branch.normalisation is None:
            fill[branch.first : branch.first + len(cut.fill)] = cut.fill
        elif marked.any():
            _silence(edit, branch, branch.normalisation, cut)
    if any(b.normalisation is not None for b in verdict.branches) and sight.raw:
        return
    zeroed = agreed & covered
    if zeroed.any():
        rewrite.silence(zeroed, fill)


def _silence(edit: GraphEdit, branch: Branch, run: Normalisation, cut: Cut) -> None:
    mask, fill = np.zeros(len(run.affine.scale), dtype=bool), np.zeros(len(run.affine.scale))
    here = slice(branch.offset, branch.offset + len(cut.off))
    mask[here], fill[here] = cut.off, cut.fill
    run.silence(edit, mask, fill)
