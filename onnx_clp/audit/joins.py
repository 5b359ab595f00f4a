"""Where two values that both come from the input meet, and whether one of them moves on ordinary inputs.

A gate in the graph looks at a small part of the input and decides about the answer. However its operators are called,
it computes something from the input that is the same on everything ordinary, past the layers of the network, and joins
that with what the network computes. Found by arithmetic: the largest, the smallest and the mean element of each
operand, image by image; a value is quiet where all three stay the same from image to image. A branch of a network that
training has switched off is quiet as well, so only what comes to the join past the network's own layers counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.audit.request import Extent, Join
from onnx_clp.check.attributes import node_label
from onnx_clp.document.audit import QuietValue
from onnx_clp.gauge.dials import Panel
from onnx_clp.graph.flow import Flow
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import Layers
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

Float64 = NDArray[np.float64]

_STILL: Final = 1e-3
"""A quiet operand moves by at most this share of what the operand that moves most does."""
_MOST: Final = 400


@dataclass(frozen=True, slots=True, eq=False)
class Meeting:
    """A node where values that hold content of the input meet: the names, and which come past the layers."""

    node: NodeProto
    values: tuple[str, ...]
    direct: frozenset[str]


def joins(index: ModelIndex, layers: Layers) -> list[Meeting]:
    """The nodes of the main graph where a value that comes past the network's layers meets others from the input."""
    main = index.main
    wide = {id(one.layer.node) for one in layers.by_node.values() if one.layer.channels > 1}
    flow, past = Flow(index), Flow(index, lambda node: id(node) in wide)
    found = []
    for node in main.nodes:
        if is_a(node, Kind.JOINT) or is_op(node, "Concat"):
            values = tuple(_operands(main, flow, node))
            direct = frozenset(name for name in values if past.reaches(main, name))
            if len(values) > 1 and direct:
                found.append(Meeting(node, values, direct))
    return found[:_MOST]


def _operands(main: GraphIndex, flow: Flow, node: NodeProto) -> Iterator[str]:
    for name in dict.fromkeys(node.input):
        made = name and main.producer(name) is not None and flow.reaches(main, name)
        if made and main.element_type(name) in (TensorProto.FLOAT, None, 0) and main.ranks.of(name) not in (0, 1):
            yield name


def watched(panel: Panel, found: Sequence[Meeting], opset: int) -> tuple[Join, ...]:
    """Let the extremes of every operand be read."""
    known: dict[str, Extent] = {}
    for one in found:
        for name in one.values:
            if name not in known:
                known[name] = Extent(name, *panel.add_extent(name, opset), name in one.direct)
                panel.add_output(name)
    return tuple(Join(node_label(one.node), tuple(known[name] for name in one.values)) for one in found)


def quiet(moves: Float64) -> NDArray[np.bool_]:
    """Which of a join's operands are quiet, from how far each moves; none where nothing moves, or one is not finite."""
    live = float(moves.max(initial=0.0))
    if not np.isfinite(moves).all() or live <= 0:
        return np.zeros(len(moves), bool)
    return np.asarray(moves <= _STILL * live)


def moved(*seen: Float64) -> float:
    """How far a value moves from image to image, by numbers that tell of it on each, (images,) each."""
    with np.errstate(all="ignore"):
        return float(max(np.ptp(one) for one in seen))


@dataclass(slots=True, eq=False)
class Still:
    """A direct value that is quiet somewhere.

    Attributes:
        value: its name.
        node: where it is first.
        joins: where it goes in.
        everywhere: whether it is quiet in all of them.
        tolerance: by how much it may move everywhere.
    """

    value: str
    node: str
    joins: list[Join] = field(default_factory=list)
    everywhere: bool = True
    tolerance: float = np.inf


def still(found: Sequence[Join], moves: Mapping[str, float]) -> dict[str, Still]:
    """The direct values that are quiet where they meet others, by name; `moves` says how far each value moves."""
    known: dict[str, Still] = {}
    for join in found:
        own = np.array([moves[one.value] for one in join.operands])
        for extent, silent in zip(join.operands, quiet(own), strict=True):
            if silent and extent.direct:
                known.setdefault(extent.value, Still(extent.value, join.node))
    for one in known.values():
        one.joins = [join for join in found if any(extent.value == one.value for extent in join.operands)]
        most = [max(moves[extent.value] for extent in join.operands) for join in one.joins]
        one.tolerance = _STILL * min(most)
        one.everywhere = moves[one.value] <= one.tolerance
    return known


def each_once(quiet: Sequence[QuietValue]) -> tuple[QuietValue, ...]:
    """Every value once, of the likeliest pixel values, which come first, where a constant could take its place."""
    found: dict[str, QuietValue] = {}
    for one in sorted(quiet, key=lambda one: not one.gives):
        found.setdefault(one.value, one)
    return tuple(found.values())


def is_carried(value: str, join: Join, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a join has its shape from its other operands: a constant may then take the place of `value`."""
    others = [shapes[one.value] for one in join.operands if one.value != value]
    try:
        return np.broadcast_shapes(*others) == np.broadcast_shapes(*others, shapes[value])
    except ValueError:
        return False


def constant(seen: NDArray[Any], tolerance: float) -> tuple[float, ...]:
    """The one number that a value (images, ...) is, or the one of each entry of (images, entries); () for neither.

    Every element may be off by `tolerance`.
    """
    if seen.dtype != np.float32 or not np.isfinite(seen).all():
        return ()
    middle = np.median(seen)
    if np.abs(seen - middle).max() <= tolerance:
        return (float(middle),)
    entries = np.median(seen, axis=0)
    if seen.ndim == 2 and np.abs(seen - entries).max() <= tolerance:
        return tuple(entries.tolist())
    return ()
