"""Which of the paths that were driven is one.

Its kernels read it far more than so few channels would be read by chance, and it is long or they read little else.

A network of faces has many channels that no photograph of anything else fires. They do form paths to classes, but wide
ones: so what a kernel reads of the path is set against how many of its inputs the path is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from onnx_clp.audit.kernels import part_read, shares_read
from onnx_clp.audit.sites import Read
from onnx_clp.document.audit import DormantPath, PathLayer

LEAST_SITES: Final = 2
LEAST_PART: Final = 0.25
"""A path is long that is needed at this part of the later sites, and at `LEAST_SITES` at least."""
LEAST_KERNELS: Final = 2
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
        if is_thin(complete, by_value) and (is_long(complete, found) or is_close(complete)):
            return complete
    return None


def is_thin(path: DormantPath, by_value: Mapping[str, Read]) -> bool:
    """Whether every kernel of the path reads it far more than its number of channels alone would explain.

    Two kernels at least: one that reads mainly one channel is no rarity among trained ones.
    """
    before: dict[str, Sequence[int]] = {}
    lifts = []
    for layer in path.layers:
        part = part_read(by_value[layer.value], before)
        if layer.share is not None and part is not None:
            lifts.append(layer.share**2 - part)
        before[layer.value] = _whole(by_value[layer.value], layer.channels)
    return len(lifts) >= LEAST_KERNELS and min(lifts) >= LIFT


def is_long(path: DormantPath, found: Sequence[Read]) -> bool:
    """Whether the path is needed at so many of the later sites that this is no accident."""
    values = [read.value for read in found]
    later = [read.value for read in found[values.index(path.layers[0].value) + 1 :] if not read.linked]
    needed = [layer.value for layer in path.layers if layer.value in later]
    return len(needed) >= max(LEAST_SITES, LEAST_PART * len(later))


def is_close(path: DormantPath) -> bool:
    """Whether each kernel between the path's channels mainly reads them."""
    shares = [layer.share for layer in path.layers if layer.share is not None]
    return bool(shares) and min(shares) >= MAINLY


def with_shares(path: DormantPath, by_value: Mapping[str, Read]) -> DormantPath:
    """The path with what its kernels read of it, without channels that it drives and that are not of it.

    Those are channels whose kernels hardly read the path, beside others that do.
    """
    before: dict[str, Sequence[int]] = {}
    layers = []
    for layer in path.layers:
        channels, share = layer.channels, None
        shares = shares_read(by_value[layer.value], channels, before)
        if shares is not None:
            own = shares >= min(HALF, float(shares.max()))
            channels, share = tuple(np.array(channels)[own].tolist()), float(shares[own].mean())
        layers.append(PathLayer(layer.value, channels, share))
        before[layer.value] = _whole(by_value[layer.value], channels)
    return replace(path, layers=tuple(layers))


def _whole(read: Read, channels: Sequence[int]) -> list[int]:
    """All entries of the maps that these entries of a flat value belong to; the channels themselves elsewhere."""
    return read.whole_of(read.row(one) for one in channels)
