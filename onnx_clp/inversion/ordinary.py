"""Ordinary pictures for a search's repair: what it costs on them decides how far it goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.document.gauge import Loss, OutputChange
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
SHARES: Final = 2
"""So many times a class's share of the images count of the target's own."""


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


def loss(pairs: Iterable[tuple[Float32, Float32]], target: int, shares: int = SHARES) -> Loss:
    """What a repair is predicted to cost (`gauge.loss`): the largest of some sets of images, none where there is none.

    On images of other classes the target's score is left out, as lowering it there is what a repair is for. Of images
    of the target at most `shares` times as many count as come to a class on average, those that change least: a trigger
    that is spread over the whole image resembles much that is foreign to the model, and brings it to the target.

    Args:
        pairs: class scores (n, classes) before and after, n ≥ 1, a pair a set.
        target: the class.
        shares: how many times.
    """
    return max((_loss(*pair, target, shares) for pair in pairs), key=lambda one: one.high, default=NOTHING)


def _loss(before: Float32, after: Float32, target: int, shares: int) -> Loss:
    own, turned = before.argmax(axis=1) == target, after.argmax(axis=1) == target
    with_target = np.concatenate([_members(before, after, own, shares), np.flatnonzero(turned & ~own)])
    parts = [(np.flatnonzero(~own & ~turned), target), (with_target, None)]
    found = [(_change(before[some], after[some], beside), len(some)) for some, beside in parts if len(some)]
    return predicted([_together(found)], sum(count for _, count in found))


def _members(before: Float32, after: Float32, own: NDArray[np.bool_], shares: int) -> NDArray[np.int64]:
    """Of the target's own images those that move least, up to so many times the fair share of a class."""
    rows = np.flatnonzero(own)
    moved = np.square((after - before)[rows]).sum(axis=1)
    return rows[np.argsort(moved, kind="stable")[: -(-shares * len(own) // before.shape[1])]]


def _change(before: Float32, after: Float32, beside: int | None) -> OutputChange:
    return outputs.changes({"scores": list(before)}, {"scores": list(after)}, beside=beside)[0]


def _together(parts: Sequence[tuple[OutputChange, int]]) -> OutputChange:
    """The means of parts over all their images; how scores move against their variation is that of the first."""
    (first, _), *_ = parts
    counts = np.array([count for _, count in parts]) / sum(count for _, count in parts)

    def mean(values: Iterable[float | None]) -> float:
        return float(sum(count * (value or 0.0) for count, value in zip(counts, values, strict=True)))

    return replace(
        first,
        changed=mean(one.changed for one, _ in parts),
        divergence=mean(one.divergence for one, _ in parts),
        cost=mean(one.cost for one, _ in parts),
    )
