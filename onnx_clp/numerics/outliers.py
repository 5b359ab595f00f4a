"""Which channels stand out in their layer: the threshold rules.

A rule turns a layer's scores and a number u into limits; `RULES` lists them. That of the paper is the default,
the others answer known weaknesses of it: one strong outlier raises the mean and std that it is held against
(`loo`, `mad`), and an attacker can push channels below the rest (`two-sided`). `gain` is the paper's limit; what
it changes are the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.config import own_rules
from onnx_clp.config.rules import facts
from onnx_clp.errors import UsageError

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

PAPER: Final = "paper"
LEAST_CHANNELS: Final = 8
"""Fewest channels for the rules without a largest z.

With u = 3 and normal scores, about n·P(t > 3·sqrt((n - 1)/n)) channels of n lie above `loo`'s limit by chance, t
being Student's with n - 2 degrees of freedom: 0.37 for n = 3, 0.24 for 4, 0.12 for 8 and 0.13 for 64. From 8 on a
small layer is thus no likelier to lose a channel by chance than a large one.
"""

_ROUNDING: Final = 1e-12
"""A spread this small against the mean is rounding, not difference: equal channels score equal to ~1e-15."""
_DEAD: Final = 1e-6
"""A score this small against the mean is a channel that reacts to nothing, not one kept low on purpose."""
_MOST_Z: Final = 1e6
"""Where the others are all equal a leave-one-out z would be infinite."""
_MAD_TO_STD: Final = 1.482602218505602  # 1 / the normal distribution's upper quartile
_MEAN_DEVIATION_TO_STD: Final = 1.2533141373155001  # sqrt(pi / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """A layer's scores against the limits of a rule; `z` and `outlying` have one entry a channel.

    Attributes:
        rule: a key of `RULES`.
        mean, std: of the scores, whatever the rule; the std is unbiased (ddof = 1).
        centre, spread: what the rule measures from and in; mean and std but for `mad`.
        threshold: scores above it stand out.
        lower: scores below it stand out too; None where the rule has no such limit or nothing can lie below it.
        z: distance from the centre in spreads; for `loo` from the mean of the others in stds of the others.
    """

    rule: str
    mean: float
    std: float
    centre: float
    spread: float
    threshold: float
    lower: float | None
    z: Float64
    outlying: Mask

    @property
    def max_z(self) -> float:
        """The largest z, taken by its size for a channel that stands out below."""
        return float(np.where(self.outlying, np.abs(self.z), self.z).max()) if len(self.z) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Limits:
    """A rule's answer for scores scaled to a peak of 1; fields as in `Outliers`."""

    centre: float
    spread: float
    threshold: float
    z: Float64
    outlying: Mask
    lower: float | None = None


Rule = Callable[[Float64, float, float, float], _Limits]
"""(scores with a peak of 1, their mean, their std above 0, u) to limits."""


def find_outliers(scores: Float64, u: float, rule: str = PAPER) -> Outliers:
    """Channels beyond the rule's limits, strictly; the paper's is Zheng et al., ECCV 2022, equation 7.

    Where all scores are equal up to rounding the std is 0 and none stands out, by any rule; nor among `too_few`.

    Args:
        scores: float64 of shape (channels,), all finite, not negative, at least one.
        u: number of deviations, above 0.
        rule: a key of `RULES`, or a rule of one's own (`config.register_rule`).

    Raises:
        UsageError: such a rule gave no number.
    """
    peak = float(np.abs(scores).max(initial=0.0)) or 1.0
    unit = scores / peak
    mean = float(unit.mean())
    std = float(unit.std(ddof=1)) if len(scores) > 1 else 0.0
    if std <= _ROUNDING * abs(mean):
        nothing = np.zeros(len(scores))
        return Outliers(rule, mean * peak, 0.0, mean * peak, 0.0, mean * peak, None, nothing, nothing > 0)
    found = RULES[rule](unit, mean, std, u) if rule in RULES else _own(rule, unit, mean, std, u)
    return Outliers(
        rule=rule,
        mean=mean * peak,
        std=std * peak,
        centre=found.centre * peak,
        spread=found.spread * peak,
        threshold=found.threshold * peak,
        lower=None if found.lower is None else found.lower * peak,
        z=found.z,
        outlying=found.outlying & (not too_few(len(scores), u, rule)),
    )


def too_few(channels: int, u: float, rule: str = PAPER) -> bool:
    """Whether the rule cannot judge so few channels.

    Against mean and std of all, one outlier among n lies at most (n - 1)/sqrt(n) away, so it can never be found
    where that is not above u. The other rules leave it out of what it is held against and can always find it;
    there the question is whether the rest is enough to go by, see `LEAST_CHANNELS`.
    """
    return reach(channels) <= u if facts(rule).reach else channels < LEAST_CHANNELS


def why_too_few(channels: int, rule: str = PAPER) -> str:
    """What is wrong with so few channels, as a clause."""
    if not facts(rule).reach:
        return f"{channels} channels are too few for rule {rule}, which needs {LEAST_CHANNELS}"
    return f"among {channels} channels none can lie more than {reach(channels):.2f} std above the mean"


def reach(channels: int) -> float:
    """The most standard deviations that one of n scores can lie from the mean of all: (n - 1)/sqrt(n)."""
    return (channels - 1) / math.sqrt(channels) if channels > 1 else 0.0


def _above_mean(unit: Float64, mean: float, std: float, u: float) -> _Limits:
    """Above mean + u·std."""
    limit = mean + u * std
    return _Limits(mean, std, limit, (unit - mean) / std, unit > limit)


def _leave_one_out(unit: Float64, mean: float, std: float, u: float) -> _Limits:
    """More than u stds of the other channels above their mean.

    With a = (score - mean)/std over all n channels, leaving the channel out gives z = a·n/(n - 1)/sqrt(r/(n - 2))
    with r = (n - 1) - a²·n/(n - 1). That rises with a, so the rule is again one limit, mean + reduced·std.
    """
    n = len(unit)
    a = (unit - mean) / std
    if n < 3:
        return _Limits(mean, std, mean + reach(n) * std, a, np.zeros(n, dtype=bool))
    reduced = math.sqrt((n - 1) ** 3 / (n * (n * (n - 2) / u / u + n - 1)))
    rest = np.maximum((n - 1) - a * a * n / (n - 1), 0.0) / (n - 2)
    with np.errstate(divide="ignore"):
        z = np.clip(a * n / (n - 1) / np.sqrt(rest), -_MOST_Z, _MOST_Z)
    limit = mean + reduced * std
    return _Limits(mean, std, limit, z, unit > limit)


def _above_median(unit: Float64, _mean: float, _std: float, u: float) -> _Limits:
    """Above median + u·1.4826·MAD, the median absolute deviation, which is the std of normal scores.

    Where over half of the scores are equal the MAD is 0, and sqrt(pi/2) times the mean absolute deviation from
    the median takes its place, which is the std of normal scores too.
    """
    centre = _median(unit)
    deviations = np.abs(unit - centre)
    spread = _MAD_TO_STD * _median(deviations)
    if spread <= _ROUNDING * max(abs(centre), _ROUNDING):
        spread = _MEAN_DEVIATION_TO_STD * float(deviations.mean())
    limit = centre + u * spread
    return _Limits(centre, spread, limit, (unit - centre) / spread, unit > limit)


def _median(values: Float64) -> float:
    """The median of finite values; NumPy's own would import masked arrays, a twentieth of a small run."""
    half = len(values) // 2
    ordered = np.sort(values)
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _both_sides(unit: Float64, mean: float, std: float, u: float) -> _Limits:
    """Above mean + u·std or below mean - u·std, but for channels that react to nothing at all.

    A channel with score 0 gives the same value whatever comes in: no trigger runs through it, and to switch it
    off would take a constant that the next layer counts on.
    """
    above, low = _above_mean(unit, mean, std, u), mean - u * std
    if low <= _DEAD * mean:
        return above
    below = (unit < low) & (unit > _DEAD * mean)
    return _Limits(mean, std, above.threshold, above.z, above.outlying | below, low)


def _own(rule: str, unit: Float64, mean: float, std: float, u: float) -> _Limits:
    """Above the limit that a registered function gives."""
    limit = float(own_rules()[rule](unit.copy(), u))
    if math.isnan(limit):
        raise UsageError(f"the rule {rule!r} gave nan for a layer of {len(unit)} channels; it must give a number")
    return _Limits(mean, std, limit, (unit - mean) / std, unit > limit)


RULES: Final[Mapping[str, Rule]] = {
    PAPER: _above_mean,
    "gain": _above_mean,
    "loo": _leave_one_out,
    "mad": _above_median,
    "two-sided": _both_sides,
}
