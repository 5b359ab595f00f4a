"""Statistics against weights: what a BatchNormalization says of its channels, and what ordinary inputs give there.

A channel of mean m and standard deviation s gets some way above m on hundreds of images and all places: 1.4 to 13 s in
the median channel of trained layers. Statistics that say a much larger s do not come from this network's images. They
change no output where gamma makes up for them, and mislead whatever goes by them: images made to match, caps, fills.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from onnx_clp.audit.dormancy import Rest
from onnx_clp.audit.request import Claim
from onnx_clp.audit.sites import Read, passed
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.graph.index import GraphIndex

REACHED: Final = 0.25
"""Standard deviations above the mean that the median channel of a layer gets at least, if its statistics are true."""
LEAST_LAYERS: Final = 2
"""In one layer alone that happens by itself: one of a published text reader gets 0.35."""
_CEILING: Final = 0.999
_SMALLEST: Final = 1e-3
_LEAST_CHANNELS: Final = 4
_LEAST_SHARE: Final = 0.25


def claims(main: GraphIndex, found: Sequence[Read], statistics: Sequence[Statistic]) -> dict[str, Claim]:
    """What is claimed of the channels of each site, by its value, where one normalisation alone tells of them."""
    known = {one.output: one for one in statistics if one.scope is main}
    claimed = {}
    for read in found:
        one = known.get(_told_by(main, read.value, known))
        # Spreads that are all alike are what a normalisation begins with: nothing was measured.
        if one is not None and len(one.mean) == read.channels and np.ptp(one.std) > 0:
            claimed[read.value] = Claim(tuple(one.mean.tolist()), tuple(one.std.tolist()))
    return claimed


def _told_by(main: GraphIndex, value: str, known: Mapping[str, Statistic]) -> str:
    """The normalisation's output that a value comes from, channel by channel; "" for none or several."""
    while value not in known:
        node = main.producer(value)
        before = None if node is None else passed(main, node)
        if before is None or len(before) != 1:
            return ""
        value = before[0]
    return value


def reached(rest: Rest, claim: Claim) -> float | None:
    """How many claimed standard deviations above its claimed mean the median channel gets on ordinary inputs.

    Channels that an activation cuts below 0 or at its ceiling do not count; None where too few are left.
    """
    mean, std = np.array(claim.mean), np.array(claim.std)
    usable = (std > _SMALLEST) & (rest.high > 0) & (rest.high < _CEILING * rest.high.max())
    if usable.sum() < max(_LEAST_CHANNELS, _LEAST_SHARE * len(mean)):
        return None
    return float(np.median((rest.high - mean)[usable] / std[usable]))


def contradicted(looks: Sequence[Sequence[Rest]], claimed: Sequence[Claim | None]) -> Iterator[int]:
    """The sites whose claims ordinary inputs contradict, on each of some kinds of inputs; none if few are.

    Args:
        looks: by kind of inputs what every site is like at rest.
        claimed: by site; None where nothing is claimed.
    """
    low = []
    for at, claim in enumerate(claimed):
        found = [None if claim is None else reached(sites[at], claim) for sites in looks]
        if found and all(one is not None and one < REACHED for one in found):
            low.append(at)
    if len(low) >= LEAST_LAYERS:
        yield from low
