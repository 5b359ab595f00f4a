"""Which of the paths that were driven is one.

Its kernels mainly read it, through several layers, and far more than so few channels would be read by chance.

A network of faces has many channels that no photograph of anything else fires. They do form paths to classes, but wide
ones: so what a kernel reads of the path is set against how many of its inputs the path is. Trained kernels read one
channel with up to three quarters of their norm: so that is not enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from onnx_clp.audit.kernels import part_read, readings
from onnx_clp.audit.sites import Read
from onnx_clp.document.audit import DormantPath, PathLayer

LEAST_LAYERS: Final = 2
"""Layers whose kernels mainly read the path: one that does is no rarity among trained ones."""
LIFT: Final = 0.25
"""A kernel's energy that reads the path must be this much above the path's part of the kernel's inputs."""
MAINLY: Final = 0.8
"""A kernel mainly reads what has this share of its norm."""
HALF: Final = 0.7
"""A kernel reads the path with half of its energy or more."""


def chosen(paths: Sequence[DormantPath], found: Sequence[Read]) -> DormantPath | None:
    """The first of `paths` that is one, with what its kernels read of it; None where none is.

    Args:
        paths: what may be one, the likeliest first.
        found: all sites, in graph order.
    """
    by_value = {read.value: read for read in found}
    for path in paths:
        complete = with_shares(path, by_value)
        if is_thin(complete, by_value):
            return complete
    return None


def is_thin(path: DormantPath, by_value: Mapping[str, Read]) -> bool:
    """Whether all kernels of the path mainly read it, in several layers, and more than chance would have them do."""
    before: dict[str, Sequence[int]] = {}
    layers: set[int] = set()
    for layer in path.layers:
        read = by_value[layer.value]
        found, part = readings(read, layer.channels, before), part_read(read, before)
        if layer.share is not None and found is not None and part is not None:
            if layer.share < MAINLY or layer.share**2 - part < LIFT:
                return False
            layers.update(one.layer for one in found)
        before[layer.value] = _whole(read, layer.channels)
    return len(layers) >= LEAST_LAYERS


def with_shares(path: DormantPath, by_value: Mapping[str, Read]) -> DormantPath:
    """The path with what its kernels read of it, without channels that it drives and that are not of it.

    Those are channels whose kernels hardly read the path, beside others that do.
    """
    before: dict[str, Sequence[int]] = {}
    layers = []
    for layer in path.layers:
        channels, share = layer.channels, None
        found = readings(by_value[layer.value], channels, before)
        if found is not None:
            shares = np.array([one.share for one in found])
            own = shares >= min(HALF, float(shares.max()))
            channels, share = tuple(np.array(channels)[own].tolist()), float(shares[own].mean())
        layers.append(PathLayer(layer.value, channels, share))
        before[layer.value] = _whole(by_value[layer.value], channels)
    return replace(path, layers=tuple(layers))


def _whole(read: Read, channels: Sequence[int]) -> list[int]:
    """All entries of the maps that these entries of a flat value belong to; the channels themselves elsewhere."""
    return read.whole_of(read.row(one) for one in channels)
