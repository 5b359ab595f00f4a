"""The parts of the document that tell of layers: scores, channels that stand out, caps, and what was left alone."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.verdicts import LayerStatus


@dataclass(frozen=True, slots=True)
class PrunedChannel:
    """A channel that stands out: `z` is its distance by the rule (the paper's: stds from the mean), `rank` 1 the top.

    A negative z lies below the lower limit, which only the rule "two-sided" has. `fill` is what the channel gives once
    it is switched off; None where it was not. `kept`: pruning was asked for and it stays, as the gauge asks for that.
    """

    channel: int
    score: float
    upper_bound: float
    z: float
    rank: int
    fill: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of one layer seen through one normalisation (None: none is visible).

    `scores[c]` is the UCLC stand-in of channel `first` + c (times how strongly it is read, by the rule "gain");
    `upper_bounds[c]` a true bound of its l2 gain. `mean` and `std` are those of the scores; `centre` and `spread` are
    what `rule` measures from and in: mean and std, or the median and 1.4826 times the median absolute deviation. Scores
    above `threshold` stand out, and those below `lower` where that is not None. `max_z` is the largest z, by its size
    for those below. `pruned` are the channels that stand out, those included that stay.
    """

    normalisation: str | None
    n: int
    mean: float
    std: float
    threshold: float
    scores: tuple[float, ...]
    upper_bounds: tuple[float, ...]
    pruned: tuple[PrunedChannel, ...]
    rule: str
    centre: float
    spread: float
    lower: float | None
    max_z: float
    first: int = 0


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One linear layer: `folded` names the affines folded into it, `not_folded` says why others were not."""

    name: str
    place: str
    op: str
    weight_shape: tuple[int, ...]
    channels: int
    status: LayerStatus
    reason: str
    folded: tuple[str, ...]
    not_folded: str
    judgements: tuple[Judgement, ...]

    @property
    def pruned(self) -> tuple[int, ...]:
        """Channels that stand out under any of the layer's normalisations, ascending."""
        return tuple(sorted({p.channel for j in self.judgements for p in j.pruned}))

    @property
    def kept(self) -> tuple[int, ...]:
        """Those of them that stay because the budget does not allow for them, ascending."""
        return tuple(sorted({p.channel for j in self.judgements for p in j.pruned if p.kept}))

    @property
    def max_z(self) -> float:
        """The largest distance by the rule, such as stds above the mean; 0 where nothing was judged or all equal."""
        return max((judgement.max_z for judgement in self.judgements), default=0.0)


@dataclass(frozen=True, slots=True)
class AffineLeft:
    """A normalisation or channel affine that stayed in the graph, and why (`reason` is a SkipReason)."""

    name: str
    place: str
    op: str
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class CapLeft:
    """A value or layer that got no cap, and why."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class CappedValue:
    """A value that got a cap; `source` is "normalisation" or "calibration (n inputs)"."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Caps:
    """Caps at mean + `times`·std: how many values got one, which and on whose word, and what got none.

    Where a BatchNormalization tells, the mean is beta and the std |gamma|.
    """

    times: float
    capped: int
    left: tuple[CapLeft, ...]
    values: tuple[CappedValue, ...] = ()
