"""Which values of a model can hold a path: what linear layers read, and the layers that make their channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from onnx import NodeProto, TensorProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.operators import read
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

_MOST_STEPS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A value that a linear layer reads.

    `makers` are the linear layers that write its channels; empty where they are not known. Each of their channels is
    one of its own, or `places` of them where a map was made flat: one after the other, or, if they are `inner`, every
    so many.
    """

    value: str
    channels: int
    axis_from_end: int
    rank: int
    makers: tuple[LayerRewrite, ...]
    inner: bool = False

    @property
    def places(self) -> int:
        """How many of its channels come from each channel of its makers."""
        return self.channels // self.makers[0].layer.channels if self.makers else 1

    def row(self, channel: int) -> int:
        """The makers' channel that one comes from; itself where the makers are not known."""
        return channel % (self.channels // self.places) if self.inner else channel // self.places

    def whole_of(self, rows: Iterable[int]) -> list[int]:
        """All channels that come from these channels of the makers."""
        places, chosen = self.places, sorted(set(rows))
        if not self.inner:
            return [one for row in chosen for one in range(row * places, min((row + 1) * places, self.channels))]
        step = self.channels // places
        return sorted(one for row in chosen if row < step for one in range(row, self.channels, step))


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
            flat, inner = _flattened(main, value)
            makers = [one for one in _makers(main, owners, flat) if layer.inputs % one.layer.channels == 0]
            if flat == value:
                makers = [one for one in makers if one.layer.channels == layer.inputs]
            found[value] = Read(value, layer.inputs, layer.data_axis_from_end, rank, tuple(makers), inner)
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


def _flattened(main: GraphIndex, value: str) -> tuple[str, bool]:
    """The map that a value is when it has height and width, and whether its channels come last; itself for none."""
    name, inner = value, False
    while (node := main.producer(name)) is not None and _flattens(main, node):
        name = node.input[0]
        inner = inner or (is_op(node, "Transpose") and (read.perm(node, None) or ())[-1:] == (1,))
    rank = main.ranks.of(value)
    return (name, inner) if rank == 2 or (rank is None and name != value) else (value, False)


def _flattens(main: GraphIndex, node: NodeProto) -> bool:
    """Whether a node only lays a map out anew, or takes its mean or the like over height and width."""
    if is_a(node, Kind.REDUCE):
        return set(read.AXES.of(node, main.constant) or ()) in ({2, 3}, {-2, -1})
    return is_op(node, "Flatten", "Reshape", "Squeeze", "Transpose")


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
        before = None if node is None else passed(main, node)
        if before is None:
            return []
        stack += [one for one in before if one not in seen]
        seen.update(before)
    channels = {rewrite.layer.channels for rewrite in found.values()}
    return list(found.values()) if len(channels) == 1 and not stack else []


def passed(main: GraphIndex, node: NodeProto) -> list[str] | None:
    """The values whose channels a node gives on, each as the channel that it is; None where it does something else."""
    if _keeps_apart(node):
        return [node.input[0]]
    if is_a(node, Kind.JOINT):
        data = [name for name in node.input if not main.is_constant(name)]
        return data if is_op(node, "Add", "Sum") or len(data) == 1 else None
    if is_op(node, "Transpose"):
        return _undone(main, node)
    return None


def _undone(main: GraphIndex, node: NodeProto) -> list[str] | None:
    """What a Transpose reads that undoes the one before it."""
    before = main.producer(node.input[0])
    if before is None or not is_op(before, "Transpose"):
        return None
    first, second = (read.perm(one, None) for one in (before, node))
    undoes = first and second and [first[axis] for axis in second] == list(range(len(first)))
    return [before.input[0]] if undoes else None


def _keeps_apart(node: NodeProto) -> bool:
    """Whether a channel stays the channel it is."""
    if is_a(node, Kind.POINTWISE, Kind.RETYPE, Kind.POOL, Kind.GLOBAL_POOL):
        return True
    return is_op(node, "Identity", "Dropout", "Pad", "BatchNormalization")


def scores_of(main: GraphIndex, output: str) -> str:
    """What an output is made from: the value before a Softmax at the end, or itself."""
    node = main.producer(output)
    while node is not None and is_op(node, "Softmax", "LogSoftmax", "Identity") and main.producer(node.input[0]):
        output = node.input[0]
        node = main.producer(output)
    return output
