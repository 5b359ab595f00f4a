"""Bounds through a whole graph: from the image to the class scores, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.audit.bound.entrywise import ENTRYWISE
from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.audit.bound.layout import LAYOUT
from onnx_clp.audit.bound.step import Step
from onnx_clp.audit.bound.windows import WINDOWED
from onnx_clp.graph.index import GraphIndex
from onnx_clp.numerics import intervals
from onnx_clp.operators import compute
from onnx_clp.operators.nodes import STANDARD_DOMAINS, is_op, operator

Array = NDArray[Any]

_RULES = {**ENTRYWISE, **LAYOUT, **WINDOWED}
_MOST_PRODUCTS = 1 << 32
"""Weights times classes up to which classes are compared pair by pair."""


def bounded(scope: GraphIndex, shapes: Mapping[str, tuple[int, ...]], name: str, image: Field, scores: str) -> Field:
    """The bounds of the value `scores`, from those of the input `name`.

    Args:
        scope: the main graph.
        shapes: of all values, as inferred for one run.
        name: the input that takes images; the others do not change with a patch, and are not known.
        image: its bounds.
        scores: the value with one score a class.

    Raises:
        NoBoundError: an operator on the way has no rule.
    """
    fields, stopped, sized = {name: image}, dict[str, str](), dict[str, Array]()
    with np.errstate(all="ignore"):
        for node in scope.nodes:
            if not any(one in fields or one in stopped or one in sized for one in node.input):
                continue
            computed = _from_sizes(node, scope, fields, sized)
            if computed is not None:
                sized[node.output[0]] = computed
                continue
            for one in node.output:
                stopped[one] = operator(node)
            try:
                if node.domain in STANDARD_DOMAINS and node.op_type in _RULES:
                    fields[node.output[0]] = _RULES[node.op_type](Step(node, scope, fields, stopped, shapes, sized))
            except NoBoundError as error:
                stopped[node.output[0]] = str(error)
            if scores in node.output:
                break
    if scores not in fields:
        raise NoBoundError(stopped.get(scores, "scores that do not come from the image"))
    return fields[scores]


def _from_sizes(
    node: NodeProto, scope: GraphIndex, fields: Mapping[str, Field], sized: Mapping[str, Array]
) -> Array | None:
    """What a node computes from sizes and constants alone; None where it computes from more."""
    if is_op(node, "Shape") and node.input[0] in fields and not node.attribute:
        return np.array(fields[node.input[0]].shape, np.int64)
    if not compute.can_evaluate(node) or not any(one in sized for one in node.input):
        return None
    inputs = [sized[one] if one in sized else scope.constant(one) for one in node.input if one]
    return None if any(one is None for one in inputs) else compute.evaluate(node, inputs)


def moves(scores: Field) -> float:
    """How far any patch can move the score of one class against that of another; infinite where that is not known.

    Raises:
        NoBoundError: the value is no vector of scores.
    """
    if scores.rows.size * scores.columns.size != 1 or scores.channels < 2:
        raise NoBoundError("an output that is no vector of class scores")
    head, two = scores.head, float(np.sort(scores.spread.most)[-2:].sum())
    found = two
    if head is not None and head.weights.size * len(head.weights) <= _MOST_PRODUCTS:
        with np.errstate(all="ignore"):
            found = min(two, intervals.apart(head.read, head.weights))
    return found if np.isfinite(found) else float("inf")
