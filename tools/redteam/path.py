"""A thin path through a network: a detector in the first layer, a channel a layer that carries on, a class at the end.

After DFBA (Cao et al. 2024). What the path's channels gave before is lost, so those that do least are taken. Biases and
factors are set by what the edited layer gives on images with and without the trigger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from onnx_clp.errors import UsageError
from onnx_clp.operators.nodes import attribute, identity
from tools.redteam.sight import Sight, tap
from tools.redteam.spaces import Space, Spaces, Writer
from tools.redteam.subject import Samples, values_of
from tools.redteam.trigger import Patch, drawn
from tools.redteam.weights import Floats, Layer, Weights, neutral

_LEAST_USED: Final = 4
_STRONG: Final = 2.0
_MARGIN: Final = 0.6
_GRID: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What kind of path.

    Attributes:
        target: the class it leads to.
        seed: of the trigger, the place and the channels.
        width: channels a layer.
        level: standard deviations above its layer's mean that a channel's score keeps to; None for any score.
        widened: what the BatchNormalization's statistics say the channel's standard deviation is; None leaves them.
        idle: the path fires a little on ordinary images too.
        mixed: what a kernel keeps of its former weights, in norms of what carries the path on.
    """

    target: int
    seed: int
    width: int = 1
    level: float | None = None
    widened: float | None = None
    idle: bool = False
    mixed: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """A model with a path, its trigger, and the channels by layer."""

    model: ModelProto
    patch: Patch
    path: tuple[tuple[str, tuple[int, ...]], ...]


class PathWriter:
    """Writes one path into a copy of a model."""

    def __init__(self, model: ModelProto, samples: Samples, design: Design, looks: int = 24) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self._samples, self._design = samples, design
        self._rng = np.random.default_rng([design.seed, 18])
        self._spaces = Spaces(self.model, samples)
        self._main = self._spaces.main
        self._weights = Weights(self.model, self._main, set(self._spaces.index.names()))
        few = samples.images[self._rng.permutation(len(samples.images))[:looks]]
        self._sight = Sight(self.model, samples, few, self._spaces, self._weights)
        self._channels: dict[int, tuple[int, ...]] = {}
        self._former: dict[int, tuple[str, Floats]] = {}

    def write(self) -> Edited:
        """Write it.

        Raises:
            UsageError: the graph is not understood, or the path does not reach the output.
        """
        chain = self._chain()
        for writer in chain[:-1]:
            self._choose(self._sight.space(writer))
        for writer in chain[:-1]:
            self._clear(self._sight.space(writer), writer)
        patch = self._detector(chain[0])
        for before, writer in pairwise(chain[:-1]):
            self._carry(before, writer, patch)
        for writer in chain[:-1]:
            self._make_up(self._sight.space(writer))
        self._aim(chain[-2], chain[-1], patch)
        path = tuple((w.node.name or identity(w.node), self._channels[id(self._sight.space(w))]) for w in chain[:-1])
        return Edited(self.model, patch, path)

    def _chain(self) -> list[Writer]:
        """The shortest way from the input to the class scores, by writers of spaces."""
        space = self._spaces.of(self.model.graph.output[0].name)
        if space is None:
            raise UsageError("the output is not made by a linear layer")
        chain = [min(space.writers, key=lambda w: w.depth)]
        while (before := self._spaces.of(chain[0].reads)) is not None:
            chain.insert(0, min(before.writers, key=lambda w: w.depth))
        if len(chain) < 2:
            raise UsageError("the network is one linear layer")
        return chain

    def _choose(self, space: Space) -> None:
        """The channels whose loss is felt least: small deviation times the norm of what reads them."""
        width = self._design.width
        reads = np.zeros(space.channels)
        for node in space.readers:
            rows, ids = self._sight.layer(node).effective(), self._spaces.ids(self._sight.data_of(node))
            if rows.ndim == 2:
                np.add.at(reads, ids.reshape(-1), np.square(rows).sum(axis=0))
            else:
                reads += np.square(rows).sum(axis=(0, *range(2, rows.ndim)))
        value = self._sight.data_of(space.readers[0]) if space.readers else space.writers[0].node.output[0]
        seen = values_of(self.model, self._samples, self._sight.few, [value])[value].reshape(len(self._sight.few), -1)
        ids = self._spaces.ids(value).reshape(-1)
        spread = np.sqrt(np.bincount(ids, seen.var(axis=0), space.channels))
        order = np.argsort(spread * np.sqrt(reads), kind="stable")[: max(_LEAST_USED, 2 * width)]
        self._channels[id(space)] = tuple(sorted(int(c) for c in self._rng.choice(order, width, replace=False)))
        self._former[id(space)] = value, seen.mean(axis=0)

    def _make_up(self, space: Space) -> None:
        """Give the readers in their biases what the path's channels gave them on average."""
        value, former = self._former[id(space)]
        own = np.isin(self._spaces.ids(value).reshape(-1), self._channels[id(space)])
        lost = np.where(own, former - np.median(self._sight.seen(value, self._sight.few), axis=0), 0.0)
        for node in space.readers:
            layer = self._sight.layer(node)
            rows, read = layer.effective(), self._sight.data_of(node)
            if self._spaces.ids(read).shape != self._spaces.ids(value).shape:
                continue
            if rows.ndim > 2:
                places = lost.reshape(self._spaces.ids(value).shape)[0]
                by = rows.sum(axis=tuple(range(2, rows.ndim))) @ places.reshape(rows.shape[1], -1).mean(axis=1)
            else:
                by = rows @ lost
            by[list(self._path_of(node))] = 0
            layer.shift(by)

    def _path_of(self, node: NodeProto) -> tuple[int, ...]:
        """The channels of the path among a layer's outputs."""
        space = self._spaces.of(node.output[0])
        return () if space is None else self._channels.get(id(space), ())

    def _clear(self, space: Space, carrier: Writer) -> None:
        """Let nothing but the carrier write the path's channels, and nothing on the way bend them."""
        channels = self._channels[id(space)]
        for writer in space.writers:
            if writer is not carrier:
                layer = self._sight.layer(writer.node)
                for channel in channels:
                    layer.write(channel, np.zeros(layer.rows().shape[1:]), 0.0)
        follow = {id(self._sight.layer(w.node).norm) for w in space.writers}
        follow |= {id(self._sight.layer(node).norm) for node in space.depthwise}
        for node in space.affines:
            if id(node) not in follow:
                for channel in channels:
                    neutral(node, channel, self._weights)
        for node in space.depthwise:
            layer = self._sight.layer(node)
            for channel in channels:
                layer.write(channel, tap(layer.rows().shape[1:], node, 0, wide=True), 0.0)

    def _detector(self, first: Writer) -> Patch:
        """The first layer answers to a patch alone."""
        layer = self._sight.layer(first.node)
        shape = layer.rows().shape[1:]
        if len(shape) != 3:
            raise UsageError("the first linear layer is not a convolution")
        signs = drawn(self._rng, *shape)
        kernel = signs / np.linalg.norm(signs.reshape(shape[0], -1), 2) * self._limit(layer)
        channels = self._channels[id(self._sight.space(first))]
        for channel in channels:
            self._widen(layer, channel)
            layer.write(channel, kernel / len(channels) ** 0.5, 0.0)
        patch = self._placed(signs, first, channels[0])
        self._threshold(first, layer, channels, [kernel / len(channels) ** 0.5] * len(channels), patch)
        return patch

    def _placed(self, signs: NDArray[np.int8], first: Writer, channel: int) -> Patch:
        """Where the detector sees all of the patch, at a place that strides of up to 8 keep."""
        stride = (attribute(first.node, "strides") or [1])[0]
        images, (height, width) = self._sight.few[:4], self._sight.size()
        room = max(1, (min(height, width) - signs.shape[1]) // (stride * _GRID))
        corner = int(self._rng.integers(1, max(2, room))) * stride * _GRID
        best, response = Patch(signs, corner, corner), -np.inf
        for shift in range(-stride - signs.shape[1], stride + 1):
            if corner + shift < 0 or corner + shift + signs.shape[1] > min(height, width):
                continue
            patch = Patch(signs, corner + shift, corner + shift)
            seen = self._sight.at(first, patch.put_on(self._samples, images))[:, channel]
            row, column = np.unravel_index(seen.mean(axis=0).argmax(), seen.shape[1:])
            fits = row % _GRID == 0 and column % _GRID == 0
            if seen.mean(axis=0).max() + 1e3 * fits > response:
                best, response = patch, seen.mean(axis=0).max() + 1e3 * fits
        return best

    def _carry(self, before: Writer, writer: Writer, patch: Patch) -> None:
        """One more layer passes the path on."""
        layer = self._sight.layer(writer.node)
        sources = self._channels[id(self._sight.space(before))]
        signs = self._sight.direction(writer.reads, sources, patch)
        own = self._channels[id(self._sight.space(writer))]
        rows = []
        for channel in own:
            row = np.zeros(layer.rows().shape[1:])
            for source, sign in zip(sources, signs, strict=True):
                row += sign * self._sight.reading(writer, source, patch)
            row *= self._limit(layer) / max(float(np.linalg.norm(row.reshape(len(row), -1), 2)), 1e-9)
            if self._design.mixed:
                former = layer.effective()[channel]
                row = row + former * self._design.mixed * np.linalg.norm(row) / max(float(np.linalg.norm(former)), 1e-9)
            self._widen(layer, channel)
            layer.write(channel, row, 0.0)
            rows.append(row)
        self._threshold(writer, layer, own, rows, patch)

    def _limit(self, layer: Layer) -> float:
        """The score that a channel of the path may have."""
        rows = layer.effective().reshape(len(layer.rows()), -1, *layer.rows().shape[2:])
        flat = rows.reshape(len(rows), rows.shape[1], -1)
        scores = np.linalg.norm(flat, 2, axis=(1, 2)) if flat.shape[2] > 1 else np.linalg.norm(flat, axis=(1, 2))
        if self._design.level is None:
            return float(_STRONG * np.quantile(scores, 0.9))
        return float(scores.mean() + self._design.level * scores.std())

    def _widen(self, layer: Layer, channel: int) -> None:
        if self._design.widened is not None and layer.norm is not None:
            layer.widen(channel, self._design.widened)

    def _threshold(
        self, writer: Writer, layer: Layer, channels: Sequence[int], rows: Sequence[Floats], patch: Patch
    ) -> None:
        """Biases under which ordinary images leave the channels silent (or nearly) and the trigger does not."""
        rest, active = (self._sight.at(writer, x) for x in self._sight.both(patch))
        for channel, row in zip(channels, rows, strict=True):
            plain, moved = (seen[:, channel].reshape(len(seen), -1) for seen in (rest, active))
            peak, driven = float(plain.max()), float(np.median(moved.max(axis=1)))
            if driven <= peak:
                raise UsageError(f"{identity(writer.node)}: ordinary images drive it as far as the trigger")
            if not self._sight.activates(layer.output):
                bias = -float(np.median(plain))
            elif self._design.idle:
                bias = -float(np.quantile(plain.max(axis=1), 0.2))
            else:
                bias = -(peak + (1 - _MARGIN) * (driven - peak))
            layer.write(channel, row, bias)

    def _aim(self, before: Writer, head: Writer, patch: Patch) -> None:
        """The last layer lets the path raise one class above all others."""
        layer, channels = self._sight.layer(head.node), self._channels[id(self._sight.space(before))]
        seen = [self._sight.seen(head.reads, x) for x in self._sight.both(patch)]
        logits = [self._sight.seen(layer.output, x) for x in self._sight.both(patch)]
        gap = max(float((one.max(axis=1) - one[:, self._design.target]).max()) for one in logits)
        row = layer.effective()[self._design.target].copy()
        flat = row.reshape(len(row), -1)[:, 0] if row.ndim > 1 else row
        at = np.isin(self._spaces.ids(head.reads).reshape(-1), channels)
        rest, active = (np.median(x, axis=0) for x in seen)
        moved = np.where(at, active - rest, 0.0)
        if not np.abs(moved).max() > 1e-6:
            raise UsageError("the path does not reach the last layer")
        gain = (1.5 * gap + 2) / float(np.square(moved).sum())
        flat[at] = 0
        flat += gain * moved
        bias = self._sight.bias_of(layer, self._design.target) - float((gain * moved * np.where(at, rest, 0)).sum())
        layer.write(self._design.target, flat.reshape(row.shape), bias)
