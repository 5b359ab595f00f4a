"""Which of the paths that were driven is one: it is long, or its kernels read little else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from onnx_clp.audit.sites import Read, share_read
from onnx_clp.document.audit import DormantPath, PathLayer

LEAST_SITES: Final = 2
LEAST_PART: Final = 0.25
"""A path is long that is needed at this part of the later sites, and at `LEAST_SITES` at least."""
MAINLY: Final = 0.8
"""A kernel mainly reads what has this share of its norm."""


def chosen(paths: Sequence[DormantPath], found: Sequence[Read]) -> DormantPath | None:
    """The first of `paths` that is one, with what its kernels read of it; None where none is.

    Args:
        paths: what may be one, the likeliest first.
        found: all sites, in graph order.
    """
    by_value = {read.value: read for read in found}
    for path in paths:
        complete = with_shares(path, by_value)
        if is_long(complete, found) or is_close(complete):
            return complete
    return None


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
    """The path with what its kernels read of it."""
    before: dict[str, Sequence[int]] = {}
    layers = []
    for layer in path.layers:
        share = share_read(by_value[layer.value], layer.channels, before)
        layers.append(PathLayer(layer.value, layer.channels, share))
        before[layer.value] = layer.channels
    return replace(path, layers=tuple(layers))
