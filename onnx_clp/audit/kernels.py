"""Thin kernels, and the chains that they form: each reads what the one before it makes, and little else.

Trained kernels spread over their inputs. One that carries a path on reads that and little else, whatever its channels
do on ordinary inputs; a path needs such a kernel in several layers, one behind the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.request import Chain, Stage, Stretch
from onnx_clp.audit.sites import Read, is_depthwise
from onnx_clp.layers.rewrite import LayerRewrite

Float32 = NDArray[np.float32]
_Carriers = dict[int, bool]

LEAST_LAYERS: Final = 2
"""Layers whose kernels mainly read the chain: one that does is no rarity among trained ones."""
MAINLY: Final = 0.81
"""A kernel mainly reads what has this share of its norm."""
WIDEST: Final = 1 / 3
"""A chain is at most this part of the inputs of each kernel: where most channels are dead, kernels read the others."""
BEGINS: Final = 0.6
"""A chain begins at what a kernel reads whose energy is so unevenly spread over its inputs (Hoover's index, 0..1)."""
_THIN: Final = 0.35
"""It goes on through kernels of this index at least; `MAINLY` asks for more of all but wide ones."""
_ALIKE: Final = 0.1
"""What reads it less than the kernel that reads most of it by this much of its energy is not of the chain."""
_LEAST_INPUTS: Final = 4
_MOST_SOURCES: Final = 16
_MOST_BEGINNINGS: Final = 16
_MOST_CHAINS: Final = 24
_BLOCK: Final = 1 << 15
_LOOKS_OF_A_LAYER: Final = 20
"""What reading a layer's kernels counts for."""
_MOST_WORK: Final = 2_000_000
"""Looks that growing all chains may take, about: some seconds. Only files made to take longer come near."""


@dataclass(frozen=True, slots=True, eq=False)
class _Thin:
    """The thin kernels of a layer: their rows, their index, and what share of their energy reads each input."""

    rows: NDArray[np.int64]
    uneven: Float32
    shares: Float32


@dataclass(slots=True, eq=False)
class _Growing:
    """A chain that grows: channels by site of each stage, by the layer that makes them."""

    stages: dict[int, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChainSearch:
    """The chains found, and how many were left: where one may begin and was not followed, or beyond the most kept."""

    chains: tuple[Chain, ...]
    left: int


def search(found: Sequence[Read], least: int = LEAST_LAYERS) -> ChainSearch:
    """The chains of thin kernels of several layers that lead up to the last site, those of most layers first.

    Args:
        found: all sites, in graph order.
        least: layers whose kernels mainly read what is before them.
    """
    thin = {id(one): _thin_of(one) for read in found for one in read.makers if not is_depthwise(one.layer)}
    grown, left = _all_grown(found, thin)
    long = [one for one in grown if len(one.stages) > least and _ends(one, len(found) - 1)]
    return ChainSearch(tuple(sorted(long, key=_likelihood)[:_MOST_CHAINS]), left + max(len(long) - _MOST_CHAINS, 0))


def _all_grown(found: Sequence[Read], thin: dict[int, _Thin]) -> tuple[list[Chain], int]:
    """Every chain once, the thinnest beginning of each site first, and how many beginnings were left.

    Some are left where a site has many, or where `_MOST_WORK` does not suffice.
    """
    grown: dict[Chain, None] = {}
    carriers, work = [_carriers(found, at) for at in range(len(found))], 0
    beginnings = _beginnings(found, thin)
    followed = [one[1:] for one in beginnings if one[0] < _MOST_BEGINNINGS]
    for done, (number, group) in enumerate(followed):
        if work > _MOST_WORK:
            return list(grown), len(beginnings) - done
        chain, looks = _grown(found, thin, carriers, number, group)
        grown[chain] = None
        work += looks
    return list(grown), len(beginnings) - len(followed)


def _ends(chain: Chain, last: int) -> bool:
    """Whether a chain leads up to the last site: what ends before is mixed with all else behind it."""
    return any(part.site == last for part in chain.stages[-1].stretches)


def _likelihood(chain: Chain) -> tuple[int, int, int]:
    """What to sort by: most layers, then the narrowest, then the earliest."""
    width = sum(len(stretch.channels) for stage in chain.stages for stretch in stage.stretches)
    return -len(chain.stages), width, chain.stages[0].stretches[0].site


def _thin_of(rewrite: LayerRewrite) -> _Thin:
    kernels = np.asarray(rewrite.kernels())
    energy = _energy(kernels)
    rewrite.layer.weight.release()
    inputs = rewrite.layer.inputs
    if energy.shape[1] != inputs or inputs < _LEAST_INPUTS:
        energy = np.zeros((0, max(inputs, 1)))
    total = energy.sum(axis=1, keepdims=True)
    shares = energy / np.where(total > 0, total, 1.0)
    uneven = np.abs(shares - 1 / shares.shape[1]).sum(axis=1) / 2 * (total[:, 0] > 0)
    rows = np.flatnonzero(uneven >= _THIN)
    return _Thin(rows, uneven[rows].astype(np.float32), shares[rows].astype(np.float32))


def _energy(kernels: NDArray[Any]) -> NDArray[np.float64]:
    """What each kernel has on each input: (channels, inputs, places) to (channels, inputs), in blocks of channels."""
    channels, inputs, places = kernels.shape
    energy, ones = np.empty((channels, inputs)), np.ones(places)
    step = max(_BLOCK // max(inputs * places, 1), 1)
    for here in (slice(start, start + step) for start in range(0, channels, step)):
        squares = np.square(kernels[here], dtype=np.float64)
        energy[here] = (squares.reshape(len(squares) * inputs, places) @ ones).reshape(len(squares), inputs)
    return energy


def _beginnings(found: Sequence[Read], thin: dict[int, _Thin]) -> list[tuple[int, int, tuple[int, ...]]]:
    """Where chains may begin: its rank at a site, the site's number, and what one thin kernel mainly reads of it.

    The thinnest of every site first, then the second of every site.
    """
    numbers = {read.value: number for number, read in enumerate(found)}
    groups: dict[int, dict[tuple[int, ...], float]] = {}
    for rewrite in {id(one): one for read in found for one in read.makers}.values():
        number, one = numbers.get(_source(rewrite)), thin.get(id(rewrite))
        if number is None or one is None:
            continue
        for uneven, shares in zip(one.uneven.tolist(), one.shares, strict=True):
            if uneven >= BEGINS:
                held, group = groups.setdefault(number, {}), _heavy(shares)
                held[group] = max(uneven, held.get(group, 0.0))
    return sorted(
        (rank, number, group)
        for number, held in groups.items()
        for rank, group in enumerate(sorted(held, key=lambda one: (-held[one], one)))
    )


def _heavy(shares: Float32) -> tuple[int, ...]:
    """The inputs that a thin kernel mainly reads, ascending."""
    most = np.argsort(-shares, kind="stable")[:_MOST_SOURCES]
    return tuple(sorted(most[shares[most] >= shares.max() / 2].tolist()))


def _source(rewrite: LayerRewrite) -> str:
    return rewrite.layer.node.input[rewrite.layer.data_slot]


def _grown(
    found: Sequence[Read], thin: dict[int, _Thin], carriers: Sequence[_Carriers], number: int, group: tuple[int, ...]
) -> tuple[Chain, int]:
    """The chain that begins with a group of channels of a site, and how many looks that took."""
    chain, looks = _Growing({0: {number: _whole(found[number], group)}}), 0
    before = {found[number].value: (number, chain.stages[0][number])}
    for at in range(number + 1, len(found)):
        read = found[at]
        for stage in list(chain.stages.values()):
            looks += 1 + min(len(stage), len(carriers[at]))
            if carried := _carried(found, stage, carriers[at], read):
                stage[at] = carried
        for rewrite in read.makers:
            source = before.get(_source(rewrite))
            if source is not None and not is_depthwise(rewrite.layer):
                looks += _LOOKS_OF_A_LAYER
                _read_on(chain, rewrite, thin[id(rewrite)], source[1], at, read)
        own = sorted({channel for stage in chain.stages.values() for channel in stage.get(at, ())})
        if own:
            before[read.value] = (at, tuple(own))
    return _settled(chain), looks


def _carriers(found: Sequence[Read], at: int) -> _Carriers:
    """By the sites before one whose channels are carried to it: whether the same layers make both."""
    read, carriers = found[at], dict[int, bool]()
    makers = {id(one) for one in read.makers}
    through = {_source(one) for one in read.makers if is_depthwise(one.layer)}
    for number, one in enumerate(found[:at]):
        same = not makers.isdisjoint(map(id, one.makers))
        if same or one.value in through:
            carriers[number] = same
    return carriers


def _carried(
    found: Sequence[Read], stage: dict[int, tuple[int, ...]], carriers: _Carriers, read: Read
) -> tuple[int, ...]:
    """The channels of a site that are a stage's own, as behind a sum with them or a depthwise convolution."""
    rows: set[int] = set()
    for at in stage.keys() & carriers.keys():
        rows.update(found[at].row(one) if carriers[at] else one for one in stage[at])
    return tuple(read.whole_of(rows))


def _read_on(chain: _Growing, rewrite: LayerRewrite, thin: _Thin, sources: Sequence[int], at: int, read: Read) -> None:
    """Let the chain go on through the kernels of a layer that mainly read it, as much as any of that layer does."""
    part = len(sources) / rewrite.layer.inputs
    energy = thin.shares[:, list(sources)].sum(axis=1)
    mainly = energy >= max(MAINLY**2, float(energy.max(initial=0.0)) - _ALIKE)
    if part <= WIDEST and mainly.any():
        stage = chain.stages.setdefault(id(rewrite), {})
        stage[at] = tuple(sorted({*stage.get(at, ()), *read.whole_of(thin.rows[mainly].tolist())}))
        chain.shares[id(rewrite)] = float(np.sqrt(energy[mainly]).mean())


def _settled(chain: _Growing) -> Chain:
    return Chain(
        tuple(
            Stage(tuple(Stretch(at, channels) for at, channels in sorted(stage.items())), chain.shares.get(layer))
            for layer, stage in chain.stages.items()
        )
    )


def _whole(read: Read, channels: Sequence[int]) -> tuple[int, ...]:
    """All entries of the maps that these entries of a flat value belong to; the channels themselves elsewhere."""
    return tuple(read.whole_of(read.row(one) for one in channels))
