"""Which layers without a visible normalisation may be pruned: what follows must keep a silent channel silent.

An exporter often folded the normalisation already. Such a layer is a candidate when the operators after it, fed
with 0, give 0 at the first nonlinearity (x·Sigmoid(x) and the like are followed to where they meet again), or
add the 0 to other data; not when it is a *head* (its channels are the model's answer) or a *gate* (it scales
other channels). Decided by evaluating the few nodes after the layer at 0, never by their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.own_channel import passes_size
from onnx_clp.judge.silence import Ineligible, Silence
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.operators.nodes import is_op, operator
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind
from onnx_clp.verdicts import LayerStatus

# Through these a channel still answers for itself, which is what makes the layer before them a head.
_ANSWERING: Final = (
    *(Kind.POINTWISE, Kind.JOINT, Kind.COMPARE, Kind.RETYPE, Kind.LAYOUT, Kind.RESAMPLE, Kind.POOL, Kind.GLOBAL_POOL),
    *(Kind.REDUCE, Kind.SHARE, Kind.PICK, Kind.QUANTISE),
)
# A normalisation behind these takes out what is left of a channel's size.
_ALONE: Final = (
    *(Kind.POINTWISE, Kind.RETYPE, Kind.LAYOUT, Kind.RESAMPLE, Kind.POOL, Kind.GLOBAL_POOL, Kind.QUANTISE),
)
_FARTHEST: Final = 64
"""Values that are followed at most: a chain of depthwise convolutions shall take time in proportion to its length."""
_Key = tuple[int, str]
_REACHED: Final[Any] = object()


def why_ineligible(index: ModelIndex, layer: LinearLayer, offset: float = 0.0) -> Ineligible | None:
    """Why the channels of a layer without a visible normalisation may not be pruned; None when they may.

    `offset` is a constant folded into all channels alike: a gate's chain (x + 3, clipped, over 6) begins with one.
    """
    if is_head(index, layer.scope, layer.output):
        return Ineligible(LayerStatus.HEAD, "its channels reach a graph output one by one: they are the answer")
    trouble = size_taken_out(layer.scope, layer.output) or Silence(layer.scope, layer.output).trouble()
    if trouble is None and offset:
        shifted = Silence(layer.scope, layer.output, offset).trouble()
        trouble = shifted if shifted is not None and shifted.status is LayerStatus.GATE else None
    return trouble


def is_head(index: ModelIndex, scope: GraphIndex, name: str) -> bool:
    """Whether a graph output of the model is reached through per-channel operations only.

    Every value is looked at once, however many layers are asked about, as long as the graph does not change.
    """
    known: dict[_Key, bool] = index.remembered("heads")
    first = (id(scope), name)
    if first not in known:
        way = [(first, _onward(index, scope, name))]
        known[first] = False
        while way:
            place = next(way[-1][1], None)
            if place is None:
                way.pop()
            elif place is _REACHED or known.get((id(place[0]), place[1])):
                known.update((key, True) for key, _ in way)
                break
            elif (key := (id(place[0]), place[1])) not in known:
                known[key] = False
                way.append((key, _onward(index, *place)))
    return known[first]


def _onward(index: ModelIndex, scope: GraphIndex, name: str) -> Iterator[tuple[GraphIndex, str]]:
    """Where a value goes on to, channel by channel; `_REACHED` for an output of the model."""
    for use in scope.uses(name):
        if use.node is None and use.scope is index.main:
            yield _REACHED
        elif use.node is None:
            yield from index.exits(use.scope, use.slot)
        elif is_a(use.node, *_ANSWERING) or is_op(use.node, "BatchNormalization"):
            yield from ((use.scope, out) for out in use.node.output if out)


def size_taken_out(scope: GraphIndex, name: str) -> Ineligible | None:
    """Why a value's size says nothing: whatever reads it normalises each channel by what that very channel gives.

    Found through operators that work on each channel by itself; None where anything reads the value as it is.
    """
    stack, seen, found = [name], {name}, ""
    while stack:
        for use in scope.uses(stack.pop()):
            node = use.node
            if node is None or use.scope is not scope or len(seen) > _FARTHEST:
                return None
            if is_op(node, "InstanceNormalization") and use.slot == 0:
                found = operator(node)
            elif (is_a(node, *_ALONE) and use.slot == 0) or passes_size(scope, node, seen):
                given = set(node.output if is_op(node, "Split") else node.output[:1]) - {""}
                stack += sorted(given - seen)
                seen |= given
            else:
                return None
    sentence = f"{found} behind it takes the size of its weights out again, so it says nothing"
    return Ineligible(LayerStatus.UNJUDGEABLE, sentence) if found else None
