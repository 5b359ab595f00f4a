"""Operators that keep a gradient from passing: flat ones on every way, and ones whose slope may be no number.

Both change no class. A search for triggers, which follows gradients, sees nothing through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnx import NodeProto

from onnx_clp.gradient.differentiate import is_flat
from onnx_clp.gradient.writer import FLOATS
from onnx_clp.graph.flow import Flow
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import is_op

_MOST: Final = 3
"""More flat operators than this on the way are a network that is quantised throughout."""
_STEEP: Final = ("Sqrt", "Log", "Reciprocal", "ReduceL2", "ReduceLogSum", "LpNormalization", "Acos", "Asin", "Atanh")
_STEEP_IN_SECOND: Final = ("Div", "Pow", "Mod")


def flat_cut(index: ModelIndex, output: str) -> NodeProto | None:
    """The first flat operator on the way, if every way from the inputs to `output` leads through a few such.

    Flat are operators whose result changes by jumps alone, such as Floor and Sign. Inputs that are integers have no
    gradient anyhow.
    """
    main = index.main
    if not any(main.element_type(name) in FLOATS for name in main.inputs if name not in main.initializers):
        return None
    flow = Flow(index)
    flat = [node for node in main.nodes if is_flat(node) and _carries(main, flow, node)]
    if not 0 < len(flat) <= _MOST or not flow.reaches(main, output):
        return None
    return None if Flow(index, is_flat).reaches(main, output) else flat[0]


def is_steep(index: ModelIndex) -> bool:
    """Whether an operator of the main graph that the input reaches has a slope that may be infinite or no number."""
    flow = Flow(index)
    return any(_is_steep(index.main, flow, node) for node in index.main.nodes)


def _is_steep(main: GraphIndex, flow: Flow, node: NodeProto) -> bool:
    if is_op(node, *_STEEP):
        return _carries(main, flow, node)
    return is_op(node, *_STEEP_IN_SECOND) and flow.reaches(main, node.input[1])


def _carries(main: GraphIndex, flow: Flow, node: NodeProto) -> bool:
    return any(flow.reaches(main, name) for name in _named(node))


def _named(node: NodeProto) -> Iterator[str]:
    return (name for name in node.input if name)
