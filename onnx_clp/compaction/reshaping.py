"""Flatten, Reshape and Expand: where the channels of a value lie after its entries are laid out anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction import cuts
from onnx_clp.compaction.atoms import Ids, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.extent_rules import target
from onnx_clp.compaction.extents import Sizes
from onnx_clp.compaction.removal import Removal
from onnx_clp.compaction.survey import Size, Survey
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.operators import read
from onnx_clp.operators.nodes import input_name

Array = NDArray[Any]

# Stands for a size that is not known: a prime beyond every size, so that it comes out of a product unmixed.
_OPEN: Final = (1 << 61) - 1
_NOT_CONSTANT: Final = "the sizes that it gives are not constant"
_UNKNOWN_IMAGE: Final = "the size of the image before it is not known"


def flatten(survey: Survey, node: NodeProto) -> list[int]:
    """Flatten (opset 1 to 23) into rows of [channel, position] or [position, channel]."""
    view = survey.need(node)
    if view.rank is None or view.axis is None or view.spread:
        raise UnfitError("the number of dimensions of its input is not known")
    axis = read.axis(node)
    axis += view.rank if axis < 0 else 0
    if view.axis < axis:
        raise UnfitError("it lays the channels out among other entries")
    sizes = survey.extents.of(node.input[0])
    inner = _product(sizes, view.axis + 1, view.rank)
    outer = _product(sizes, axis, view.axis)
    survey.give(node, _spread(view, outer, inner).moved(1, 2))
    return [0]


def _product(sizes: Sizes | None, start: int, end: int) -> int | None:
    if start >= end:
        return 1
    known = [] if sizes is None else [s for s in sizes[start:end] if s is not None]
    return math.prod(known) if len(known) == end - start else None


def _spread(view: View, outer: int | None, inner: int | None) -> View:
    """The view with each channel `inner` times in a row and all of that `outer` times; one may be open."""
    if inner is None and outer == 1:
        return View(view.from_end, view.rank, view.ids, view.constant, "repeat")
    if outer is None and inner == 1:
        return View(view.from_end, view.rank, view.ids, view.constant, "tile")
    if inner is None or outer is None:
        raise UnfitError(_UNKNOWN_IMAGE)
    return view.spread_out(inner, "repeat").spread_out(outer, "tile")


def reshape(survey: Survey, node: NodeProto) -> list[int]:
    """Reshape (opset 1 to 25) to constant sizes that keep each channel's entries apart from the others'."""
    view = survey.need(node)
    wanted = _wanted(survey, node, view)
    if view.axis is None or view.spread:
        raise UnfitError("the number of dimensions of its input is not known")
    if _is_flattening(view, wanted):
        sizes = survey.extents.of(node.input[0])
        survey.give(node, _spread(view, 1, _product(sizes, 2, view.rank or 0)).moved(1, 2))
        return [0]
    closed = _closed(survey.extents.of(node.input[0]), view)
    out = _closed_target(survey, node, wanted, closed)
    axis, outer, inner = _landing(view, closed, out)
    if any(w == 0 and at == view.axis != axis for at, w in enumerate(wanted)):
        raise UnfitError("it copies the number of channels to another axis")
    made = _spread(view, outer, inner).moved(len(out) - axis, len(out))
    if wanted[axis] > 0 or (wanted[axis] == 0 and axis != view.axis):
        survey.changes.append(renumber(survey, node, 1, axis, made.ids))
    survey.give(node, made)
    return [0]


def _wanted(survey: Survey, node: NodeProto, view: View) -> list[int]:
    known = read.SHAPE.of(node, survey.scope.constant)
    wanted = list(known or ())
    if known is None:
        wanted = [_copied(survey, node, view, at, s) for at, s in enumerate(survey.sizes.get(input_name(node, 1), ()))]
        survey.follow_sizes(1)
    if not wanted:
        raise UnfitError(_NOT_CONSTANT)
    if read.zero_is_a_size(node) and 0 in wanted:
        raise UnfitError("it gives a size of 0")
    return wanted


def _copied(survey: Survey, node: NodeProto, view: View, at: int, size: Size) -> int:
    """A size as Reshape would write it: 0 for the input's own size at the same place."""
    if isinstance(size, int):
        return size
    counted = survey.counted(size)
    alike = counted is not None and at == view.axis and np.array_equal(counted.ids, view.ids)
    if size is None or read.zero_is_a_size(node) or not (alike or size == (node.input[0], at)):
        raise UnfitError(_NOT_CONSTANT)
    return 0


def _is_flattening(view: View, wanted: list[int]) -> bool:
    """Whether it gives [0, -1]: rows as they are, and all the rest in one, whatever the sizes."""
    return wanted == [0, -1] and view.axis == 1


def _closed(sizes: Sizes | None, view: View) -> list[int]:
    """Sizes with the one that may be open, the batch, closed."""
    if sizes is None or view.axis is None or len(sizes) != view.rank:
        raise UnfitError(_UNKNOWN_IMAGE)
    fixed = [len(view.ids) if at == view.axis else size for at, size in enumerate(sizes)]
    if fixed.count(None) > 1:
        raise UnfitError(_UNKNOWN_IMAGE)
    return [_OPEN if size is None else size for size in fixed]


def _closed_target(survey: Survey, node: NodeProto, wanted: list[int], sizes: list[int]) -> list[int]:
    out = [sizes[at] if w == 0 and at < len(sizes) else w for at, w in enumerate(wanted)]
    if -1 in out:
        at, rest = out.index(-1), -math.prod(out)
        total = math.prod(sizes)
        if rest <= 0 or total % rest:
            raise UnfitError("its sizes do not fit its input")
        out[at] = total // rest
    if math.prod(out) != math.prod(sizes):
        stated = target(survey.extents, node)
        raise UnfitError(f"its sizes {stated} do not fit its input")
    return out


def _landing(view: View, sizes: list[int], out: list[int]) -> tuple[int, int, int]:
    """(axis, outer, inner): on `axis` each channel comes `inner` times in a row, and all of them `outer` times."""
    assert view.axis is not None
    before, count = math.prod(sizes[: view.axis]), len(view.ids)
    for axis in range(len(out)):
        if out[axis] == count and math.prod(out[:axis]) == before:
            return axis, 1, 1
    for axis in reversed(range(len(out))):
        passed = math.prod(out[:axis])
        if passed and before % passed == 0 and out[axis] % (before // passed * count) == 0:
            outer = before // passed
            inner = out[axis] // (outer * count)
            if max(outer, inner) < _OPEN // 2:
                return axis, outer, inner
    raise UnfitError("it lays the channels out along several axes, or among other entries")


def renumber(survey: Survey, node: NodeProto, slot: int, at: int, ids: Ids) -> Callable[[GraphEdit, Removal], None]:
    """A change of one entry of a constant of sizes to the number of those of `ids` that stay."""
    if input_name(node, slot):
        cuts.check(survey.scope, node, slot, 0, "list of sizes")
    return partial(_renumber, survey, node, slot, at, ids)


def _renumber(survey: Survey, node: NodeProto, slot: int, at: int, ids: Ids, edit: GraphEdit, removal: Removal) -> None:
    staying = removal.keeps(ids)
    if staying.all():
        return
    if not input_name(node, slot):
        listed = list(read.SHAPE.listed(node) or ())
        listed[at] = int(staying.sum())
        read.SHAPE.set(node, listed)
        return
    value = survey.scope.constant(node.input[slot])
    assert value is not None
    changed = value.copy()
    changed.reshape(-1)[at] = int(staying.sum())
    cuts.put(edit, survey.scope, node, slot, changed)


def expand(survey: Survey, node: NodeProto) -> list[int]:
    """Expand (opset 8 to 13) to constant sizes."""
    view, value = survey.need(node), survey.constant(node, 1)
    if value is None or view.spread:
        raise UnfitError("the sizes that it gives are not constant")
    at = value.size - view.from_end
    if at >= 0 and int(value.reshape(-1)[at]) not in (1, len(view.ids)):
        raise UnfitError("it repeats the channel axis")
    if at >= 0 and int(value.reshape(-1)[at]) == len(view.ids):
        survey.changes.append(renumber(survey, node, 1, at, view.ids))
    rank = None if view.rank is None else max(view.rank, value.size)
    survey.give(node, view.moved(view.from_end, rank))
    return [0]
