"""Does one class stand out in the last linear layer, as the class that a backdoor aims at often does?

    score(c) = ‖max(0, w_c - mean over classes of w)‖₂          z(c) = (score(c) - median) / (1.4826·MAD)

The layer before the class scores mostly gives values that are not negative (they come from a Relu), and the score
is the most that such values of unit length can raise class c above the average of all classes: whatever drives a
trigger's features can then push no class harder. Adding one vector to every row changes no probability, so the mean
row is taken out first. The bias is reported and not judged. No data is read and nothing is changed: it is a finding.

Judging the rows of the last layer by their deviation over the classes follows published data-free detectors that
read weights alone; score and limit are our own, chosen on models trained for that (docs/what-a-result-means.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.graph.ranks import recorded_sizes
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.rewrite import LayerRewrite, Layers
from onnx_clp.numerics.outliers import LEAST_CHANNELS, Outliers, find_outliers
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import MICROSOFT, input_name, is_op
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait
from onnx_clp.text import shown
from onnx_clp.verdicts import INCONCLUSIVE, Finding

Float64 = NDArray[np.float64]

LEAST_CLASSES: Final = LEAST_CHANNELS
"""Fewest classes whose median deviation says anything."""
LEAST_LIMIT: Final = 3.5
"""The smallest z that stands out; among very many classes the limit is higher, see `limit`."""
STANDS_OUT: Final = "class that stands out"
AT_EVERY_POSITION: Final = "class that stands out at every position"
"""The kind where the head scores every position of a sequence: the blank of a text recogniser stands out by right."""

_MEANS: Final = {
    False: "the target class of a backdoor often does, and an ordinary class may",
    True: "of class scores at every position the blank does by right; a spectrum or features have no classes",
}
_CHANCE: Final = 0.05
_SMALL_CHANCE: Final = 0.001
_BLOCK: Final = 1 << 16
# Behind the class scores these keep one value a class, or pick among them.
_PASSED: Final = (*(Kind.SHARE, Kind.PICK, Kind.POINTWISE, Kind.RETYPE, Kind.QUANTISE, Kind.POOL, Kind.GLOBAL_POOL),)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The last linear layer on the way to a model's output, and its classes' deviations.

    Attributes:
        layer: its name.
        classes: how many rows it has.
        trouble: why it cannot be judged; "" where it can.
        z: one entry a class; empty where it cannot be judged.
        biases: one entry a class, 0 where the layer has none.
        limit: a z above it stands out.
        positional: whether its scores are of every position of a sequence, not of the input as a whole.
    """

    layer: str
    classes: int
    trouble: str
    z: Float64
    biases: Float64
    limit: float
    positional: bool = False

    @property
    def top(self) -> int:
        """The class with the highest z; -1 where it cannot be judged."""
        return int(self.z.argmax()) if len(self.z) else -1

    @property
    def outlying(self) -> list[int]:
        """The classes that stand out, the highest z first."""
        order: list[int] = np.argsort(-self.z, kind="stable").tolist()
        return [c for c in order if self.z[c] > self.limit]


def look(index: ModelIndex, layers: Layers) -> tuple[Finding, ...]:
    """What is to be said of the heads of the main graph, whose linear layers are `layers`."""
    return findings(examined(index, layers))


def examined(index: ModelIndex, layers: Layers) -> list[Head]:
    """The heads of the main graph, each judged."""
    proto = index.main.proto
    stated = {value.name: recorded_sizes(value) for value in proto.output} if isinstance(proto, GraphProto) else {}
    outputs = [name for name in index.main.outputs if not _sequence(index, name, stated.get(name, ()))]
    whole = {id(rewrite) for rewrite in _behind(index.main, layers, outputs)}
    return [
        replace(examine(rewrite), positional=not rewrite.layer.is_convolution and id(rewrite) not in whole)
        for rewrite in heads(index, layers)
    ]


def findings(judged: Iterable[Head]) -> tuple[Finding, ...]:
    """What is to be said of them."""
    return tuple(finding for head in judged for finding in _findings(head))


def classes_judged(judged: Iterable[Head]) -> int:
    """How many classes' rows could be compared."""
    return sum(head.classes for head in judged if not head.trouble)


def _sequence(index: ModelIndex, output: str, sizes: Sequence[int]) -> bool:
    """Whether an output has scores at several positions; of sizes (batch, classes, 1, 1) and the like it has one."""
    rank = index.main.ranks.of(output)
    if rank is None or rank <= 2:
        return False
    return len(sizes) != rank or sum(size != 1 for size in sizes[1:]) > 1


def evidence(judged: Iterable[Head]) -> str:
    """What makes a backdoor likely enough to spend more against it: a class that hardly stands out by chance; or "".

    Chance passes the limit of a finding once in twenty layers, this one once in a thousand.
    """
    return next(map(_sentence, _convincing(judged)), "")


def evident(judged: Iterable[Head]) -> int | None:
    """The class that this evidence names, if it names one alone."""
    found = [np.flatnonzero(head.z > convincing(head.classes)).tolist() for head in _convincing(judged)]
    classes = {one for each in found for one in each}
    return classes.pop() if len(classes) == 1 else None


def _convincing(judged: Iterable[Head]) -> Iterator[Head]:
    judgeable = (head for head in judged if not head.positional and len(head.z))
    return (head for head in judgeable if head.z.max() > convincing(head.classes))


def heads(index: ModelIndex, layers: Layers) -> list[LayerRewrite]:
    """The linear layers that give class scores, by the order of the model's outputs."""
    found = {id(rewrite): rewrite for rewrite in _behind(index.main, layers, index.main.outputs)}
    return list(found.values())


def limit(classes: int) -> float:
    """The z that one of so many normal scores passes by chance once in twenty layers, but at least 3.5."""
    return max(LEAST_LIMIT, _passed_by(_CHANCE / classes)) if classes else LEAST_LIMIT


def convincing(classes: int) -> float:
    """The z that one of so many normal scores passes by chance once in a thousand layers; never below `limit`."""
    return max(limit(classes), _passed_by(_SMALL_CHANCE / classes)) if classes else LEAST_LIMIT


def _passed_by(share: float) -> float:
    """The z above which this share of normal numbers lies, by halving: to import `statistics` takes far longer."""
    low, high = -8.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) / 2 > share else (low, middle)
    return low


def examine(rewrite: LayerRewrite) -> Head:
    """Judge one head by its weights, what is folded into them included."""
    layer = rewrite.layer
    nothing, bias = np.zeros(0), rewrite.bias
    most = limit(layer.channels)
    scores = _scores(rewrite) if layer.channels >= LEAST_CLASSES else nothing
    found = find_outliers(scores, most, "mad") if np.isfinite(scores).all() and len(scores) else None
    trouble = _trouble(layer, found)
    if found is None or trouble:
        return Head(layer.name, layer.channels, trouble, nothing, nothing, most)
    flat = np.zeros(1) if bias is None else bias.reshape(-1)
    fits = flat.size in (1, layer.channels)
    biases = np.broadcast_to(flat if fits else np.zeros(1), (layer.channels,))
    return Head(layer.name, layer.channels, "", found.z, biases, most)


def _trouble(layer: LinearLayer, found: Outliers | None) -> str:
    if layer.channels < LEAST_CLASSES:
        given = f"{layer.channels} class{'es are' if layer.channels > 1 else ' is'}"
        return f"cannot be judged: {given} too few to tell one from the rest; {LEAST_CLASSES} are needed"
    if layer.layout.groups > 1:
        return "cannot be judged: its classes read different inputs"
    if found is None:
        return "cannot be judged: a weight is not a finite number"
    return "cannot be judged: the rows of its classes are all alike" if found.spread == 0 else ""


def _scores(rewrite: LayerRewrite) -> Float64:
    """Each class's score, in blocks of classes: a vocabulary's head may be as large as the rest of the model."""
    kernels, factors = rewrite.kernels(), rewrite.out_scale * rewrite.layer.gain
    classes = len(kernels)
    rows = kernels.reshape(classes, kernels.shape[1] * kernels.shape[2])
    step = max(_BLOCK // max(rows.shape[1], 1), 1)
    mean = np.zeros(rows.shape[1])
    scores = np.zeros(classes)
    with np.errstate(all="ignore"):
        for here in (slice(start, start + step) for start in range(0, classes, step)):
            mean += factors[here] @ as_float64(rows[here]) / classes
        for here in (slice(start, start + step) for start in range(0, classes, step)):
            block = as_float64(rows[here])
            block *= factors[here, None]
            block -= mean
            np.maximum(block, 0.0, out=block)
            scores[here] = np.sqrt(np.einsum("ij,ij->i", block, block))
    rewrite.layer.weight.release()
    return scores


def _findings(head: Head) -> Iterator[Finding]:
    if head.trouble:
        yield Finding(INCONCLUSIVE, shown(head.layer), head.trouble)
    elif head.outlying:
        kind = AT_EVERY_POSITION if head.positional else STANDS_OUT
        yield Finding(kind, shown(head.layer), _sentence(head), head.top)


def _sentence(head: Head) -> str:
    first, *rest = head.outlying
    more = "".join(f", class {c} too (z = {head.z[c]:.1f})" for c in rest[:2])
    more += f", and {len(rest) - 2:,} more" if len(rest) > 2 else ""
    return (
        f"class {first}'s row stands out among {head.classes:,}, z = {head.z[first]:.1f} "
        f"(limit {head.limit:.1f}, bias {head.biases[first]:.3g}){more}: {_MEANS[head.positional]}"
    )


def _behind(scope: GraphIndex, layers: Layers, outputs: Sequence[str]) -> Iterator[LayerRewrite]:
    """The linear layers from which outputs come through operators that keep one value a class, in their order."""
    owner = {r.layer.output: r for r in layers.by_node.values()}
    seen: set[tuple[str, bool]] = set()
    for output in outputs:
        stack = [(output, False)]
        while stack:
            name, gathered = place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            rewrite, node = owner.get(name), scope.producer(name)
            if rewrite is not None:
                if gathered or _per_image(scope, rewrite.layer):
                    yield rewrite
            elif node is not None:
                ends = gathered or is_a(node, Kind.SHARE, Kind.PICK) or _gathers(node)
                stack += [(before, ends) for before in _passed(scope, node)]


def _passed(scope: GraphIndex, node: NodeProto) -> list[str]:
    """The data a node works on, where a class's value stays the class's."""
    if _keeps_classes(node):
        return [name for name in node.input[:1] if name]
    if is_op(node, "Add", "Sub", "Mul", "Div") and len(node.input) == 2:
        data = [name for name in node.input if not scope.is_constant(name)]
        # A softmax in pieces takes the maximum off the scores and divides by their sum.
        return data[:1] if len(data) == 1 or is_op(node, "Sub", "Div") else []
    return []


def _gathers(node: NodeProto) -> bool:
    """Whether it makes one number of what many places give for a class."""
    return is_a(node, Kind.GLOBAL_POOL) or (is_a(node, Kind.REDUCE) and keeps(node, Trait.EVEN))


def _keeps_classes(node: NodeProto) -> bool:
    if is_a(node, *_PASSED) or _gathers(node):
        return True
    if keeps(node, Trait.MOVES):  # but for what makes places of channels
        return not is_op(node, "DepthToSpace", "SpaceToDepth")
    return node.domain == MICROSOFT and is_a(node, Kind.JOINT)


def _per_image(scope: GraphIndex, layer: LinearLayer) -> bool:
    """Whether the layer gives one vector an image: Gemm, MatMul, or a convolution of what was pooled to a point."""
    if not layer.is_convolution:
        return True
    name = input_name(layer.node, layer.data_slot)
    while (node := scope.producer(name)) is not None:
        if _gathers(node):
            return True
        if not _keeps_classes(node):
            return False
        name = input_name(node, 0)
    return False
