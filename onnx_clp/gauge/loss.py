"""From how far outputs move on photographs to the share of ordinary images that the edit costs.

A network's own images move less than photographs of anything: it is surer of them. How much less was measured on
labelled images of networks at hand (docs/harm.md): `share` is the middle of what was found, `high` is above 95 in 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from onnx_clp.document.gauge import Loss, OutputChange

# loss = _SCALE · divergence, and the spread of what was measured about it (calibrated by tools/harm).
_SCALE: Final = 0.2
_ABOVE: Final = 4.0
_BELOW: Final = 6.0
_CURVATURE: Final = 0.5
"""The divergence of a network's own images per square of the relative change of its scores, where photographs that
the network takes for one class show less of it."""
_ON_NOISE: Final = 10.0
"""Made-up signals show as little as a tenth of what caps do to real ones."""
_OF_VALUES: Final = 0.5
"""A relative change of boxes, masks and the like by 2 % counts as 1 % of the images."""

NOTHING: Final = Loss(0.0, 0.0, 0.0)


def predicted(changes: Iterable[OutputChange], *, noise: bool = False) -> Loss:
    """The loss that the output foretells which moves most; `noise` says that the inputs were made up."""
    loss = max((_of(change) for change in changes), key=lambda loss: loss.share, default=NOTHING)
    return replace(loss, high=min(loss.high * _ON_NOISE, 1.0)) if noise else loss


def _of(change: OutputChange) -> Loss:
    if change.kind == "classes" and change.divergence is not None:
        shares = (_SCALE * change.divergence, _SCALE * _CURVATURE * (change.relative or 0.0) ** 2)
    else:
        shares = (change.changed or 0.0, _OF_VALUES * (change.relative or 0.0))
    if not all(map(math.isfinite, shares)):
        return Loss(1.0, 1.0, 1.0)
    share = max(shares)
    return Loss(min(share, 1.0), min(share / _BELOW, 1.0), min(share * _ABOVE, 1.0))
