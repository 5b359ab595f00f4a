"""Sizes that a graph reads off its own values: Shape, and what picks and joins its entries.

Exporters give Resize and Reshape sizes like [N, C, 2·H, 2·W], taken from Shape of what comes in. A size is noted as the
value and the axis it was read off. Whoever reads the size of a channel axis in a way that is not followed holds the
channels back.
"""

from __future__ import annotations

from typing import Final

from onnx import NodeProto

from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.spatial import integers
from onnx_clp.compaction.survey import Rule, Size, Survey
from onnx_clp.operators import read


def shape(survey: Survey, node: NodeProto) -> list[int]:
    """Shape (opset 1 to 25)."""
    view = survey.need(node)
    if view.rank is None or view.spread:
        raise UnfitError("the number of dimensions of its input is not known")
    places: list[Size] = [(node.input[0], axis) for axis in range(view.rank)]
    survey.give_sizes(node, places[read.shape_part(node, view.rank)])
    return [0]


def _of(survey: Survey, node: NodeProto) -> tuple[Size, ...]:
    sizes = survey.sizes.get(node.input[0])
    if sizes is None:
        raise UnfitError("it reads sizes for something else")
    return sizes


def _same(survey: Survey, node: NodeProto) -> list[int]:
    """Cast, Identity, and a new arrangement of a single number."""
    sizes = _of(survey, node)
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze") and len(sizes) > 1:
        raise UnfitError("it arranges sizes anew")
    survey.give_sizes(node, list(sizes))
    return [0]


def _slice(survey: Survey, node: NodeProto) -> list[int]:
    starts, ends, steps = (integers(survey, node, one) for one in (read.STARTS, read.ENDS, read.STEPS))
    if starts is None or ends is None:
        raise UnfitError("its limits are not constant")
    survey.give_sizes(node, list(_of(survey, node)[slice(starts[0], ends[0], steps[0] if steps else 1)]))
    return [0]


def _gather(survey: Survey, node: NodeProto) -> list[int]:
    sizes, places = _of(survey, node), survey.constant(node, 1)
    if places is None or places.ndim > 1:
        raise UnfitError("its indices are not constant")
    taken = places.reshape(-1).tolist()
    if any(not -len(sizes) <= at < len(sizes) for at in taken):
        raise UnfitError("it takes sizes that are not there")
    survey.give_sizes(node, [sizes[at] for at in taken])
    return [0]


def _concat(survey: Survey, node: NodeProto) -> list[int]:
    joined: list[Size] = []
    for slot, name in enumerate(node.input):
        value = survey.constant(node, slot)
        if name in survey.sizes:
            joined += survey.sizes[name]
        elif value is not None:
            joined += [int(v) for v in value.reshape(-1)]
        else:
            length = (survey.extents.of(name) or (None,))[0]
            if length is None:
                raise UnfitError("how many numbers it joins is not known")
            joined += [None] * length
    survey.give_sizes(node, joined)
    return list(range(len(node.input)))


COUNTED: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"), _same),
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
}
"""By operator of ONNX's own, where its first input holds sizes (Concat: any input)."""
