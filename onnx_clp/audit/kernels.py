"""What kernels read: how much of a path, and which of them read next to nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.sites import Read, is_depthwise
from onnx_clp.layers.rewrite import LayerRewrite

Float64 = NDArray[np.float64]

THIN: Final = 0.7
"""A kernel is thin that has so uneven a spread of its energy over its inputs (Hoover's index, 0..1)."""
_LEAST_INPUTS: Final = 4
_MOST_SOURCES: Final = 16
MOST_THIN: Final = 16
"""Channels of a site on thin ways that are looked at."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a path one channel's kernel reads: its layer (by identity) and what share of its norm."""

    layer: int
    share: float


def readings(read: Read, channels: Sequence[int], before: Mapping[str, Sequence[int]]) -> list[Reading] | None:
    """What the kernel of each channel of a path reads of the path's channels before it.

    Of several layers that write the site that counts which reads most of it; None where no layer lies between.

    Args:
        read: the site.
        channels: those of the path there.
        before: the path's channels at earlier sites, by value.
    """
    rows = [read.row(one) for one in channels]
    ways = [(id(rewrite), _shares(rewrite, rows, before[source])) for rewrite, source in _between(read, before)]
    if not ways:
        return None
    most = [max(ways, key=lambda way: way[1][at]) for at in range(len(rows))]
    return [Reading(layer, float(shares[at])) for at, (layer, shares) in enumerate(most)]


def part_read(read: Read, before: Mapping[str, Sequence[int]]) -> float | None:
    """What part of the inputs of the layers that write a site the path's channels are; the largest, None for none."""
    parts = [len(before[source]) / rewrite.layer.inputs for rewrite, source in _between(read, before)]
    return max(parts, default=None)


def thin_ways(found: Sequence[Read]) -> dict[str, tuple[int, ...]]:
    """By value the channels that a thin kernel makes, and those that it reads; the thinnest first.

    Trained kernels spread over their inputs. A kernel that carries a path on reads that and little else, whatever
    its channels do on ordinary inputs.
    """
    scored: dict[str, dict[int, float]] = {}
    values = {read.value: () for read in found}
    for read in found:
        for rewrite, source in _between(read, values):
            if rewrite.layer.inputs < _LEAST_INPUTS:
                continue
            energy = _energy(rewrite)
            for row, uneven in _thin_rows(energy):
                heavy = np.argsort(-energy[row], kind="stable")[:_MOST_SOURCES]
                heavy = heavy[energy[row][heavy] >= energy[row].max() / 2]
                for value, channels in ((read.value, read.whole_of([row])), (source, heavy.tolist())):
                    held = scored.setdefault(value, {})
                    held.update({c: max(uneven, held.get(c, 0.0)) for c in channels})
    return {value: tuple(sorted(held, key=lambda c: (-held[c], c))[:MOST_THIN]) for value, held in scored.items()}


def _thin_rows(energy: Float64) -> Iterator[tuple[int, float]]:
    total = energy.sum(axis=1, keepdims=True)
    shares = energy / np.where(total > 0, total, 1.0)
    uneven = np.abs(shares - 1 / energy.shape[1]).sum(axis=1) / 2 * (total[:, 0] > 0)
    for row in np.flatnonzero(uneven >= THIN):
        yield int(row), float(uneven[row])


def _between(read: Read, before: Mapping[str, Sequence[int]]) -> Iterator[tuple[LayerRewrite, str]]:
    """The layers that write a site and mix the channels of one of `before`, with that value."""
    for rewrite in read.makers:
        source = rewrite.layer.node.input[rewrite.layer.data_slot]
        if source in before and not is_depthwise(rewrite.layer):
            yield rewrite, source


def _energy(rewrite: LayerRewrite) -> Float64:
    """(outputs, inputs): the sum of squares of each kernel's part that reads an input channel; (0, 1) if grouped."""
    kernels = np.asarray(rewrite.kernels(), np.float64)
    squares = np.square(kernels).sum(axis=2)
    rewrite.layer.weight.release()
    return squares if squares.shape[1] == rewrite.layer.inputs else np.zeros((0, 1))


def _shares(rewrite: LayerRewrite, channels: list[int], sources: Sequence[int]) -> Float64:
    energy = _energy(rewrite)
    if not len(energy):
        return np.zeros(len(channels))
    total = energy[channels].sum(axis=1)
    part = energy[np.ix_(channels, list(sources))].sum(axis=1)
    return np.asarray(np.sqrt(part / np.where(total > 0, total, 1.0)))
