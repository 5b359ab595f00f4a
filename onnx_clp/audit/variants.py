"""More kinds of ordinary images from photographs: inverted, drawn hard, on black, and flat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def variants(shown: Float32) -> Float32:
    """The images (n, 3, height, width) in 0..1 and half as many again, made from them."""
    parts = [shown, 1 - shown[::8], _hard(shown[1::8]), _on_black(shown[2::8]), _flat(shown[3::8])]
    return np.ascontiguousarray(np.concatenate(parts), np.float32)


def _hard(images: Float32) -> Float32:
    """Black and white, cut at the middle brightness of each."""
    grey = images.mean(axis=1, keepdims=True)
    cut = np.median(grey, axis=(1, 2, 3), keepdims=True)
    return np.broadcast_to((grey > cut).astype(np.float32), images.shape)


def _on_black(images: Float32) -> Float32:
    """The middle alone, in an ellipse."""
    height, width = images.shape[2:]
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    return np.asarray(images * (rows**2 + columns**2 < 0.6), np.float32)


def _flat(images: Float32) -> Float32:
    """One colour each: its mean."""
    return np.broadcast_to(images.mean(axis=(2, 3), keepdims=True), images.shape)
