"""What sizes an operator makes of its inputs' sizes.

Sizes are tuples of int, None for one that is not known; a value whose number of dimensions is not known has none.
Only operators found between convolutions are known (ONNX operator specifications, opset 1 to 26).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from onnx import NodeProto

from onnx_clp.compaction import extent_windows
from onnx_clp.compaction.extents import Extents, Sizes
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import has_reference, input_name, is_op
from onnx_clp.operators.table import is_a, keeps, names
from onnx_clp.operators.traits import Kind, Trait

Rule = Callable[[Extents, NodeProto], Sizes | None]


def _same(extents: Extents, node: NodeProto) -> Sizes | None:
    return extents.of(node.input[0])


def broadcast(parts: list[Sizes]) -> Sizes:
    """The sizes that arrays of these sizes broadcast to."""
    out: list[int | None] = []
    for place in range(max(map(len, parts), default=0), 0, -1):
        here = [p[-place] for p in parts if place <= len(p)]
        wide = [size for size in here if size is not None and size != 1]
        out.append(wide[0] if wide else None if None in here else 1)
    return tuple(out)


def _broadcast(extents: Extents, node: NodeProto) -> Sizes | None:
    parts = [extents.of(name) for name in node.input if name]
    known = [p for p in parts if p is not None]
    return broadcast(known) if len(known) == len(parts) else None


def _shape(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes = extents.of(node.input[0])
    if sizes is None:
        return None
    return (len(sizes[read.shape_part(node, len(sizes))]),)


def _reduce(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, axes = extents.of(node.input[0]), read.AXES.of(node, extents.scope.constant)
    if sizes is None or (axes is None and not read.AXES.left_out(node)):
        return None
    if not axes and read.idle_without_axes(node):
        return sizes
    gone = {a % len(sizes) for a in axes} if axes else set(range(len(sizes)))
    if read.keeps_dims(node):
        return tuple(1 if at in gone else size for at, size in enumerate(sizes))
    return tuple(size for at, size in enumerate(sizes) if at not in gone)


def _transpose(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes = extents.of(node.input[0])
    perm = None if sizes is None else read.perm(node, len(sizes))
    return tuple(sizes[p] for p in perm) if sizes is not None and perm and len(perm) == len(sizes) else None


def _squeeze(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, axes = extents.of(node.input[0]), read.AXES.of(node, extents.scope.constant)
    if sizes is None or axes is None:
        return None
    gone = {a % len(sizes) for a in axes}
    return tuple(size for at, size in enumerate(sizes) if at not in gone)


def _unsqueeze(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, axes = extents.of(node.input[0]), read.AXES.of(node, extents.scope.constant)
    if sizes is None or axes is None:
        return None
    rank = len(sizes) + len(axes)
    new, rest = {a % rank for a in axes}, iter(sizes)
    return tuple(1 if at in new else next(rest, None) for at in range(rank))


def product(sizes: Sizes) -> int | None:
    """How many there are, None where a size is not known."""
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def _flatten(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, axis = extents.of(node.input[0]), read.axis(node)
    if sizes is None:
        return None
    axis += len(sizes) if axis < 0 else 0
    return product(sizes[:axis]), product(sizes[axis:])


def target(extents: Extents, node: NodeProto) -> Sizes | None:
    """The sizes a Reshape is to give (ONNX Reshape: 0 copies, one -1 is worked out); None where not constant."""
    wanted, sizes = read.SHAPE.of(node, extents.scope.constant), extents.of(node.input[0])
    if wanted is None:
        return None
    out: list[int | None] = list(wanted)
    if not read.zero_is_a_size(node):
        copies = () if sizes is None else sizes
        out = [(copies[at] if at < len(copies) else None) if w == 0 else w for at, w in enumerate(out)]
    if -1 in out:
        at = out.index(-1)
        out[at] = _rest(sizes, (*out[:at], *out[at + 1 :]))
    return tuple(out)


def _rest(sizes: Sizes | None, others: Sizes) -> int | None:
    """What remains of `sizes` beside `others`; a size that is not known may be in both and cancels out."""
    if sizes is None or sizes.count(None) != others.count(None) or sizes.count(None) > 1:
        return None
    whole, part = (math.prod(s for s in side if s is not None) for side in (sizes, others))
    return whole // part if part and whole % part == 0 else None


def _concat(extents: Extents, node: NodeProto) -> Sizes | None:
    parts = [extents.of(name) for name in node.input]
    known = [p for p in parts if p is not None]
    if len(known) != len(parts) or len({len(p) for p in known}) != 1:
        return None
    axis = read.axis(node) % len(known[0])
    along = [p[axis] for p in known]
    total = None if None in along else sum(size or 0 for size in along)
    sizes = broadcast([(*p[:axis], None, *p[axis + 1 :]) for p in known])
    return (*sizes[:axis], total, *sizes[axis + 1 :])


def _split(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, parts = extents.of(node.input[0]), read.SPLIT.of(node, extents.scope.constant)
    if sizes is None:
        return None
    axis = read.axis(node) % len(sizes)
    whole = sizes[axis]
    if parts is None and whole is not None and read.SPLIT.left_out(node):
        parts = tuple(read.equal_parts(whole, len(node.output)))
    for at, name in enumerate(node.output[1:], 1):
        size = None if parts is None or at >= len(parts) else parts[at]
        extents.settle(name, (*sizes[:axis], size, *sizes[axis + 1 :]))
    return (*sizes[:axis], None if parts is None else parts[0], *sizes[axis + 1 :])


def _slice(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes = extents.of(node.input[0])
    starts, ends, axes, steps = (
        one.of(node, extents.scope.constant) for one in (read.STARTS, read.ENDS, read.AXES, read.STEPS)
    )
    if sizes is None or starts is None or ends is None or (axes is None and not read.AXES.left_out(node)):
        return None
    out = list(sizes)
    for at, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = 1 if steps is None else steps[at]
        whole = sizes[axis]
        if whole is not None and step:
            end = None if step < 0 and ends[at] < -whole else ends[at]
            out[axis] = len(range(*slice(starts[at], end, step).indices(whole)))
        else:
            out[axis] = None
    return tuple(out)


def _gather(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, taken = extents.of(node.input[0]), extents.of(input_name(node, 1))
    if sizes is None or taken is None:
        return None
    axis = read.axis(node) % len(sizes)
    return (*sizes[:axis], *taken, *sizes[axis + 1 :])


def _pad(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, pads = extents.of(node.input[0]), read.PADS.of(node, extents.scope.constant)
    if sizes is None or pads is None or input_name(node, 3) or len(pads) != 2 * len(sizes):
        return None
    around = [before + after for before, after in zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)]
    return tuple(None if size is None else size + extra for size, extra in zip(sizes, around, strict=True))


def _gemm(extents: Extents, node: NodeProto) -> Sizes | None:
    left, right = extents.of(node.input[0]), extents.of(node.input[1])
    turned, turned_right = read.transposed(node)
    rows = None if left is None else left[1 if turned else 0]
    return rows, None if right is None else right[0 if turned_right else 1]


def _matmul(extents: Extents, node: NodeProto) -> Sizes | None:
    left, right = extents.of(node.input[0]), extents.of(node.input[1])
    if left is None or right is None or min(len(left), len(right)) < 2:
        return None
    return (*broadcast([left[:-2], right[:-2]]), left[-2], right[-1])


def _resize(extents: Extents, node: NodeProto) -> Sizes | None:
    sizes, scales = extents.of(node.input[0]), windows.scales(node, extents.scope.constant, extents.scope.opset)
    if sizes is None or scales is None or len(scales) != len(sizes):
        return None
    return tuple(None if size is None else math.floor(size * s) for size, s in zip(sizes, scales, strict=True))


EXTENTS: Final[dict[str, Rule]] = {
    **dict.fromkeys(names(Kind.POOL), extent_windows.pool),
    **dict.fromkeys(names(Kind.GLOBAL_POOL), extent_windows.global_pool),
    **dict.fromkeys(names(Kind.REDUCE), _reduce),
    "Conv": extent_windows.conv,
    "ConvInteger": extent_windows.conv,
    "ConvTranspose": extent_windows.conv_transpose,
    "Shape": _shape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Reshape": target,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Resize": _resize,
    "Upsample": _resize,
}


def visit(extents: Extents, node: NodeProto) -> None:
    """Work out the sizes of a node's first output, and fill in what the file leaves open."""
    if has_reference(node) or not len(node.output) or not len(node.input):
        return
    rule = _rule(node)
    if is_op(node, "DynamicQuantizeLinear"):
        for name in node.output[1:]:
            extents.settle(name, ())
    made = None if rule is None else rule(extents, node)
    if made is not None:
        extents.settle(node.output[0], made)


def _rule(node: NodeProto) -> Rule | None:
    """The operator's own rule, or the one that follows from what it keeps."""
    if is_op(node, *EXTENTS):
        return EXTENTS[node.op_type]
    if keeps(node, Trait.SHAPE):
        return _same
    return _broadcast if is_a(node, Kind.JOINT, Kind.COMPARE) else None
