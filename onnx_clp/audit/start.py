"""How small a patch drives a path: how much of the image its beginning reads, and how far that can drive it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_clp.audit.bound import field, walk
from onnx_clp.audit.bound.field import NoBoundError, Track
from onnx_clp.config import GIB
from onnx_clp.gauge.intake import Pixels
from onnx_clp.gauge.ordinary import Form
from onnx_clp.graph.model import ModelIndex
from onnx_clp.modelfile import reader
from onnx_clp.validation import macs

_LARGEST = 1 << 20


def drive_of(
    original: Path, form: Form, pixels: Sequence[Pixels], value: str, channels: Sequence[int]
) -> tuple[int, int, float] | None:
    """Rows and columns of pixels that a place of a value reads, and a bound on what these can bring channels to.

    The bound is that of intervals, over all images in the range of pixel values: exact behind the first linear layer,
    an upper bound further on. It is infinite where the numbers are too large to add up.

    Args:
        original: the input model.
        form: of its inputs; one of them takes images.
        pixels: the pixel values that are likely.
        value: its name; the folded model's are the input model's where both have it.
        channels: those that count.

    Returns:
        None where the input model has no such value, or an operator on the way has no rule.
    """
    inferred = None if form.intake is None else macs.inferred(original, form.shapes)
    if inferred is None or form.intake is None:
        return None
    shape, axes = form.shapes[form.intake.name], "NHWC" if form.intake.channels_last else "NCHW"
    low, high = min(one.ends[0] for one in pixels), max(one.ends[1] for one in pixels)
    image = field.image(tuple(axes), shape, low, high, 1)
    with reader.read(original, _LARGEST * GIB) as file:
        scope = ModelIndex(file.model, file.store).main
        try:
            found = walk.bounded(scope, macs.known_shapes(inferred.graph), form.intake.name, image, value)
        except NoBoundError:
            return None
    if max(channels) >= found.channels:
        return None
    most = float(found.spread.high[list(channels)].max())
    rows, columns = _read(found.rows, image.rows.size), _read(found.columns, image.columns.size)
    return rows, columns, most if np.isfinite(most) else float("inf")


def _read(track: Track, whole: int) -> int:
    """How many pixels of an axis one place reads: as many as one place on, whose pixel moves it, may lie apart."""
    return whole if not track.stride else min(track.last - track.first + 1, whole)
