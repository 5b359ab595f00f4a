"""Ordinary pictures for a search's repair: what it costs on them decides how far it goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from onnx_clp.document.gauge import Loss
from onnx_clp.gauge import outputs
from onnx_clp.gauge.crops import crops, grey
from onnx_clp.gauge.loss import NOTHING, predicted
from onnx_clp.gauge.photographs import load
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images

COUNT: Final = 96
BESIDE: Final = 48
EVERY: Final = slice(None)


def photographs(
    shape: tuple[int, int, int], pixels: Range, seed: int, count: int = COUNT, of: slice = EVERY
) -> Images | None:
    """Crops of the shipped photographs, (count, channels, height, width), black and white at the ends of the range.

    None for images of other than 1 or 3 channels, of which nothing is known.

    Args:
        shape: (channels, height, width) of an image.
        pixels: the range.
        seed: of where the crops lie.
        count: how many.
        of: which of the photographs.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        return None
    made = crops(load()[of], count, height, width, seed)
    shown = grey(made)[:, :1] if channels == 1 else made
    return np.asarray(np.float32(pixels.low) + np.float32(pixels.span) * shown, np.float32)


def halves(shape: tuple[int, int, int], pixels: Range, seed: int) -> tuple[Images | None, Images | None]:
    """Crops of every other photograph, to gauge a repair on, and 48 of those between, to fit it beside."""
    gauging = photographs(shape, pixels, seed, of=slice(0, None, 2))
    return gauging, photographs(shape, pixels, seed, BESIDE, slice(1, None, 2))


def loss(pairs: Iterable[tuple[Float32, Float32]]) -> Loss:
    """The largest predicted loss (`gauge.loss`) of pairs of class scores (n, classes), before and after; else none."""
    found = [
        predicted(outputs.changes({"scores": list(before)}, {"scores": list(after)}), len(before))
        for before, after in pairs
    ]
    return max(found, key=lambda one: one.high, default=NOTHING)
