"""Layers whose channels may be rescaled, and doing it: y = scale·(W·x + b) + shift, folded into weight and bias."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from onnx_clp.analysis import Place
from onnx_clp.edit import GraphEdit
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.rewrite import LayerRewrite
from onnx_clp.skipped import LayerStatus, Skipped

_SPARED: Final = (LayerStatus.HEAD, LayerStatus.GATE, LayerStatus.EXCLUDED, LayerStatus.UNJUDGEABLE)


def rescalable(places: Iterable[Place]) -> list[LayerRewrite]:
    """The convolutions of the main graph that take a factor and an offset a channel.

    Left out: heads, gates, layers excluded by name, layers whose bias is no constant, quantised ones.
    """
    found = []
    for place in places:
        if place.scope.parent is not None or place.scope.place:
            continue
        for verdict in place.verdicts:
            rewrite = verdict.rewrite
            neutral = ChannelAffine(np.ones(rewrite.layer.channels), np.full(rewrite.layer.channels, 1e-3))
            if (
                rewrite.layer.is_convolution
                and verdict.status not in _SPARED
                and not isinstance(rewrite.refuses(neutral), Skipped)
            ):
                found.append(rewrite)
    return found


def rescale(edit: GraphEdit, rewrite: LayerRewrite, scale: Sequence[float], shift: Sequence[float]) -> bool:
    """Fold the factors into a layer; False where they cannot be, such as for want of range."""
    affine = ChannelAffine(np.asarray(scale, np.float64), np.asarray(shift, np.float64))
    if rewrite.refuses(affine) is not None:
        return False
    rewrite.absorb(affine)
    rewrite.commit(edit)
    edit.finish()
    return True
