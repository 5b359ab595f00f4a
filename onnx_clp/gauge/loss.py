"""From how far outputs move on photographs to the share of ordinary images that the edit costs.

A network's own images move less than photographs of anything: it is surer of them. How much less was measured on
labelled images of networks at hand (docs/harm.md): `share` is the middle of what was found, `high` is above 95 in 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from onnx_clp.document.gauge import Loss, OutputChange

# loss = _SCALE · divergence, and the spread of what was measured about it (calibrated by tools/harm).
_SCALE: Final = 0.2
ABOVE: Final = 4.0
_BELOW: Final = 6.0
_CURVATURE: Final = 0.5
"""The divergence of a network's own images per square of the relative change of its scores, where photographs that
the network takes for one class show less of it."""
_ON_NOISE: Final = 10.0
"""Made-up signals show as little as a tenth of what caps do to real ones."""
_OF_VALUES: Final = 0.5
"""A relative change of boxes, masks and the like by 2 % counts as 1 % of the images."""

_UNSEEN: Final = 3.0
"""Where none of n images changes class, so many n-ths of all may (rule of three, 95 %)."""
_ON_BALANCE: Final = 0.1
"""Of answers that a small edit changes so many are lost: others were wrong before, or are right now."""
_FINEST_OF_FEW: Final = 0.005
"""What that comes to at most, so that a handful of images does not forbid every edit."""
_LEAST: Final = 1e-5
"""What costs less changes no answer of any."""

NOTHING: Final = Loss(0.0, 0.0, 0.0)


def predicted(changes: Iterable[OutputChange], images: int, *, noise: bool = False) -> Loss:
    """The loss that the output foretells which moves most, on so many images.

    `noise` says that they were made up. Of others the upper end is never below what so few of them can show.
    """
    share = max((_share(change) for change in changes), default=0.0)
    high = min(share * ABOVE * _ON_NOISE, 1.0) if noise else upper(share, ABOVE, images)
    return Loss(min(share, 1.0), min(share / _BELOW, 1.0), high)


def upper(share: float, above: float, images: int) -> float:
    """The upper end of a predicted loss: `above` times that, and no less than so many images can show."""
    least = min(_ON_BALANCE * _UNSEEN / images, _FINEST_OF_FEW) if share > _LEAST else 0.0
    return min(max(above * share, least), 1.0)


def _share(change: OutputChange) -> float:
    """The predicted loss by one output; infinite where it cannot be told."""
    if change.kind == "classes" and change.divergence is not None:
        shares = (_SCALE * change.divergence, _SCALE * _CURVATURE * (change.relative or 0.0) ** 2)
    else:
        shares = (change.changed or 0.0, _OF_VALUES * (change.relative or 0.0))
    return max(shares) if all(map(math.isfinite, shares)) else math.inf
