"""How small a patch drives a path: how much of the image its beginning reads, and how far that can drive it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_clp.audit.bound.field import NoBoundError, Track
from onnx_clp.audit.bound.passage import entry, followed, hull
from onnx_clp.gauge.intake import Pixels
from onnx_clp.gauge.ordinary import Form


def drive_of(
    original: Path, form: Form, pixels: Sequence[Pixels], value: str, channels: Sequence[int]
) -> tuple[int, int, float | None] | None:
    """Rows and columns of pixels that a place of a value reads, and a bound on what these can bring channels to.

    The bound is that of intervals, over all images in the range of pixel values: exact behind the first linear layer,
    an upper bound further on. It is None where the numbers are too large to add up.

    Args:
        original: the input model.
        form: of its inputs.
        pixels: the pixel values that are likely.
        value: its name; the folded model's are the input model's where both have it.
        channels: those that count.

    Returns:
        None where no input takes images, where the input model has no such value, or where an operator on the way has
        no rule.
    """
    if form.intake is None:
        return None
    image = entry(form, form.intake, hull(pixels), 1)
    try:
        found = followed(original, form, form.intake.name, image, value)
    except NoBoundError:
        return None
    if max(channels) >= found.channels:
        return None
    most = float(found.spread.high[list(channels)].max())
    rows, columns = _read(found.rows, image.rows.size), _read(found.columns, image.columns.size)
    return rows, columns, most if np.isfinite(most) else None


def _read(track: Track, whole: int) -> int:
    """How many pixels of an axis one place reads: as many as one place on, whose pixel moves it, may lie apart."""
    return whole if not track.stride else min(track.last - track.first + 1, whole)
