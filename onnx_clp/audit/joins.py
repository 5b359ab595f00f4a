"""Where two values that both come from the input meet, and whether one of them moves on ordinary inputs.

A gate in the graph looks at a small part of the input and decides about the answer. However its operators are called,
it computes something from the input that is the same on everything ordinary, and joins that with what the network
computes. Trained networks compute nothing that never changes. Found by arithmetic: each operand's largest and smallest
element, image by image; a value is quiet where both stay the same from image to image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.audit.request import Extent, Join
from onnx_clp.check.attributes import node_label
from onnx_clp.gauge.dials import Panel
from onnx_clp.graph.flow import Flow
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

Float64 = NDArray[np.float64]

_STILL: Final = 1e-3
"""A quiet operand moves by at most this share of what the operand that moves most does."""
_MOST: Final = 400


def joins(index: ModelIndex) -> list[tuple[NodeProto, tuple[str, ...]]]:
    """The nodes of the main graph where values that hold content of the input meet, with those of them to watch."""
    flow, main = Flow(index), index.main
    found = [
        (node, tuple(_operands(main, flow, node)))
        for node in main.nodes
        if (is_a(node, Kind.JOINT) or is_op(node, "Concat"))
    ]
    return [(node, names) for node, names in found if len(names) > 1][:_MOST]


def _operands(main: GraphIndex, flow: Flow, node: NodeProto) -> Iterator[str]:
    for name in dict.fromkeys(node.input):
        made = name and main.producer(name) is not None and flow.reaches(main, name)
        if made and main.element_type(name) in (TensorProto.FLOAT, None, 0) and main.ranks.of(name) not in (0, 1):
            yield name


def watched(panel: Panel, found: list[tuple[NodeProto, tuple[str, ...]]], opset: int) -> tuple[Join, ...]:
    """Let the extremes of every operand be read."""
    known: dict[str, Extent] = {}
    for _, names in found:
        for name in names:
            if name not in known:
                known[name] = Extent(name, *panel.add_extent(name, opset))
    return tuple(Join(node_label(node), tuple(known[name] for name in names)) for node, names in found)


def quiet(moves: Float64) -> NDArray[np.bool_]:
    """Which of a join's operands are quiet, from how far each moves; none where nothing moves, or one is not finite."""
    live = float(moves.max(initial=0.0))
    if not np.isfinite(moves).all() or live <= 0:
        return np.zeros(len(moves), bool)
    return np.asarray(moves <= _STILL * live)


def moved(most: Float64, least: Float64) -> float:
    """How far a value moves from image to image, by its largest and smallest element on each, (images,)."""
    with np.errstate(all="ignore"):
        return float(max(np.ptp(most), np.ptp(least)))
