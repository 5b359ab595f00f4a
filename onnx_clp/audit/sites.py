"""Which values of a model can hold a path: what linear layers read, and the layers that make their channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from onnx_clp.audit import joins
from onnx_clp.audit.request import Join, Site
from onnx_clp.gauge.dials import Panel
from onnx_clp.gauge.request import Landmark
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

_MOST_STEPS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A value that a linear layer reads.

    `makers` are the linear layers that write its channels, one channel each for each of its own; empty where they
    are not known.
    """

    value: str
    channels: int
    axis_from_end: int
    rank: int
    makers: tuple[LayerRewrite, ...]

    @property
    def linked(self) -> bool:
        """Whether only depthwise convolutions write it."""
        return bool(self.makers) and all(is_depthwise(one.layer) for one in self.makers)


def is_depthwise(layer: LinearLayer) -> bool:
    """Whether each output channel reads one input channel."""
    return layer.layout.groups > 1 and layer.layout.groups == layer.inputs


def reads(index: ModelIndex, layers: Layers) -> list[Read]:
    """The values of the main graph behind a first linear layer that later ones read, in graph order; floats only."""
    main = index.main
    owners = {rewrite.layer.output: rewrite for rewrite in layers.by_node.values()}
    learned = _behind(main, layers)
    found: dict[str, Read] = {}
    for rewrite in layers.by_node.values():
        layer = rewrite.layer
        value = layer.node.input[layer.data_slot]
        if value in found or value not in learned or _type_of(main, value, layer) != TensorProto.FLOAT:
            continue
        rank = _rank(main, value, layer)
        if rank is not None and rank > layer.data_axis_from_end:
            makers = tuple(_makers(main, owners, value))
            found[value] = Read(value, layer.inputs, layer.data_axis_from_end, rank, makers)
    order = {name: at for at, node in enumerate(main.nodes) for name in node.output}
    return sorted(found.values(), key=lambda one: order[one.value])


def _behind(main: GraphIndex, layers: Layers) -> set[str]:
    """The values that depend on the output of a linear layer."""
    linear, found = {id(rewrite.layer.node) for rewrite in layers.by_node.values()}, set[str]()
    for node in main.nodes:
        if id(node) in linear or not found.isdisjoint(node.input):
            found.update(name for name in node.output if name)
    return found


def _type_of(main: GraphIndex, value: str, layer: LinearLayer) -> int:
    return main.element_type(value) or layer.weight.data_type


def _rank(main: GraphIndex, value: str, layer: LinearLayer) -> int | None:
    if layer.geometry is not None:
        return len(layer.geometry.kernel) + 2
    return 2 if is_op(layer.node, "Gemm") else main.ranks.of(value)


def _makers(main: GraphIndex, owners: Mapping[str, LayerRewrite], value: str) -> list[LayerRewrite]:
    """The linear layers found on the way back through what keeps channels apart; none where the way is not clear."""
    found: dict[int, LayerRewrite] = {}
    stack, seen = [value], {value}
    while stack and len(seen) < _MOST_STEPS:
        name = stack.pop()
        if name in owners:
            found[id(owners[name])] = owners[name]
            continue
        node = main.producer(name)
        before = None if node is None else _passed(main, node)
        if before is None:
            return []
        stack += [one for one in before if one not in seen]
        seen.update(before)
    channels = {rewrite.layer.channels for rewrite in found.values()}
    return list(found.values()) if len(channels) == 1 and not stack else []


def _passed(main: GraphIndex, node: NodeProto) -> list[str] | None:
    if _keeps_apart(node):
        return [node.input[0]]
    if is_a(node, Kind.JOINT):
        data = [name for name in node.input if not main.is_constant(name)]
        return data if is_op(node, "Add", "Sum") or len(data) == 1 else None
    return None


def _keeps_apart(node: NodeProto) -> bool:
    """Whether a channel stays the channel it is."""
    if is_a(node, Kind.POINTWISE, Kind.RETYPE, Kind.POOL, Kind.GLOBAL_POOL):
        return True
    return is_op(node, "Identity", "Dropout", "Pad", "BatchNormalization")


def dialled(
    index: ModelIndex, found: Sequence[Read], landmark: Landmark | None
) -> tuple[ModelProto, tuple[Site, ...], tuple[Join, ...]]:
    """A copy of the model whose values `found` can be driven and watched, and whose joins can be watched."""
    model = ModelProto()
    model.CopyFrom(index.model)
    panel = Panel(model, index.names())
    sites = tuple(
        Site(panel.add_drive(one.value, one.channels, one.axis_from_end, one.rank, index.main.opset), one.linked)
        for one in found
    )
    watched = joins.watched(panel, joins.joins(index), index.main.opset)
    if landmark is not None:
        panel.add_output(landmark.value)
    panel.finish()
    return model, sites, watched


def share_read(read: Read, channels: Iterable[int], before: Mapping[str, Sequence[int]]) -> float | None:
    """What share of the norm of the kernels of a site's channels reads the path's channels before it.

    The largest over the layers that write the site, and over its channels the mean; None where no layer lies between.

    Args:
        read: the site.
        channels: those of the path there.
        before: the path's channels at earlier sites, by value.
    """
    shares = [
        _share(rewrite, list(channels), before[source])
        for rewrite in read.makers
        if (source := rewrite.layer.node.input[rewrite.layer.data_slot]) in before and not is_depthwise(rewrite.layer)
    ]
    return max(shares, default=None)


def part_read(read: Read, before: Mapping[str, Sequence[int]]) -> float | None:
    """What part of the inputs of the layers that write a site the path's channels are; the largest, None for none."""
    parts = [
        len(before[source]) / rewrite.layer.inputs
        for rewrite in read.makers
        if (source := rewrite.layer.node.input[rewrite.layer.data_slot]) in before and not is_depthwise(rewrite.layer)
    ]
    return max(parts, default=None)


def _share(rewrite: LayerRewrite, channels: list[int], sources: Sequence[int]) -> float:
    kernels = np.asarray(rewrite.kernels(), np.float64)[channels]
    squares = np.square(kernels).sum(axis=2)
    rewrite.layer.weight.release()
    if squares.shape[1] != rewrite.layer.inputs:
        return 0.0
    total = squares.sum(axis=1)
    part = squares[:, list(sources)].sum(axis=1)
    return float(np.sqrt(part / np.where(total > 0, total, 1.0)).mean())
