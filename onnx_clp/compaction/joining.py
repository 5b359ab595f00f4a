"""Concat, Split, Slice, Gather and the like: channels of several values in one, and of one value in several."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction import cuts
from onnx_clp.compaction.atoms import Float64, Ids, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.elementwise import uniform
from onnx_clp.compaction.removal import Removal
from onnx_clp.compaction.spatial import integers
from onnx_clp.compaction.survey import Survey, unknown
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import drop_attribute, input_name

Array = NDArray[Any]

_RANK: str = "the number of dimensions of its input is not known"


def from_last(axis: int, rank: int | None) -> int:
    """An axis counted from the last (1); UnfitError where that cannot be said."""
    if axis < 0:
        return -axis
    if rank is None:
        raise UnfitError(_RANK)
    return rank - axis


# Concat


def concat(survey: Survey, node: NodeProto) -> list[int]:
    """Concat (opset 1 to 13) along the channels, or along another axis of values with the same channels."""
    views = [survey.view(node, slot) for slot in range(len(node.input))]
    known = [v for v in views if v is not None]
    rank = next((v.rank for v in known if v.rank is not None), survey.scope.ranks.of(node.output[0]))
    along = from_last(read.axis(node), rank)
    beside = [v for v in known if v.from_end != along]
    if beside:
        return _concat_beside(survey, node, beside[0])
    parts = [_part(survey, node, slot, view, along) for slot, view in enumerate(views)]
    ids, constant = (np.concatenate([p[at] for p in parts]) for at in (0, 1))
    survey.give(node, View(along, rank, ids, constant))
    return list(range(len(node.input)))


def _part(survey: Survey, node: NodeProto, slot: int, view: View | None, along: int) -> tuple[Ids, Float64]:
    """The atoms of one operand and what they are known to be."""
    if view is not None:
        if view.spread:
            size = survey.extents.from_end(node.input[slot], along)
            sized = None if size is None else view.sized(size)
            if sized is None:
                raise UnfitError("how many times the channels before it repeat is not known")
            view = sized
        return view.ids, unknown(len(view.ids)) if view.zero else view.constant
    value = survey.constant(node, slot)
    if value is not None and value.ndim >= along:
        ids, axis = survey.atoms.make(value.shape[-along]), value.ndim - along
        survey.cut(node, slot, axis, ids)
        return ids, uniform(np.moveaxis(value, axis, 0))
    size = survey.extents.from_end(node.input[slot], along)
    if size is None:
        raise UnfitError("how many channels one of its operands has is not known")
    return survey.fixed(size, f"{node.op_type} takes it from what no linear layer makes"), unknown(size)


def _concat_beside(survey: Survey, node: NodeProto, first: View) -> list[int]:
    views: list[View] = []
    constants: list[Float64] = []
    for slot in range(len(node.input)):
        view, value = survey.view(node, slot), survey.constant(node, slot)
        if view is not None and view.from_end == first.from_end and not view.spread and not first.spread:
            if len(view.ids) != len(first.ids):
                raise UnfitError("its operands have different numbers of channels")
            views.append(view)
            constants.append(unknown(len(view.ids)) if view.zero else view.constant)
        elif value is not None and value.ndim >= first.from_end and value.shape[-first.from_end] == len(first.ids):
            axis = value.ndim - first.from_end
            survey.cut(node, slot, axis, first.ids)
            constants.append(uniform(np.moveaxis(value, axis, 0)))
        else:
            raise UnfitError("it joins it with channels that no linear layer makes")
    survey.tied(views)
    alike = np.all([c == constants[0] for c in constants], axis=0)
    survey.give(node, first.becomes(np.where(alike, constants[0], np.nan)))
    return list(range(len(node.input)))


# Split


def split(survey: Survey, node: NodeProto) -> list[int]:
    """Split (opset 1 to 18) of the channels, or of another axis."""
    view = survey.need(node)
    if view.spread:
        raise UnfitError("how many times its channels repeat is not known")
    if from_last(read.axis(node), view.rank) != view.from_end:
        for slot in range(len(node.output)):
            survey.give(node, view, slot)
        return [0]
    sizes = integers(survey, node, read.SPLIT) or read.equal_parts(len(view.ids), len(node.output))
    if sum(sizes) != len(view.ids) or len(sizes) != len(node.output):
        raise UnfitError("its sizes do not fit its input")
    if input_name(node, 1):
        cuts.check(survey.scope, node, 1, 0, "list of sizes")
    starts = np.cumsum([0, *sizes])
    parts = [view.picked(slice(a, b)) for a, b in pairwise(starts)]
    for slot, part in enumerate(parts):
        survey.give(node, part, slot)
    survey.must_stay.extend(part.ids for part in parts)
    survey.changes.append(partial(_resplit, survey, node, [part.ids for part in parts]))
    return [0]


def _resplit(survey: Survey, node: NodeProto, parts: list[Ids], edit: GraphEdit, removal: Removal) -> None:
    staying = [int(removal.keeps(ids).sum()) for ids in parts]
    if staying == [len(ids) for ids in parts]:
        return
    if survey.scope.opset < 13:
        read.SPLIT.set(node, staying)
        return
    drop_attribute(node, "num_outputs")
    cuts.put(edit, survey.scope, node, 1, np.asarray(staying, np.int64))


# Slice and Gather


def slice_(survey: Survey, node: NodeProto) -> list[int]:
    """Slice (opset 1 to 13) with constant limits; along the channels in steps of 1."""
    view = survey.need(node)
    starts, ends = integers(survey, node, read.STARTS), integers(survey, node, read.ENDS)
    axes, steps = integers(survey, node, read.AXES), integers(survey, node, read.STEPS)
    if starts is None or ends is None or view.spread:
        raise UnfitError("its limits are not constant")
    listed = axes if axes is not None else list(range(len(starts)))
    along = [at for at, axis in enumerate(listed) if from_last(axis, view.rank) == view.from_end]
    if not along:
        survey.give(node, view)
        return [0]
    at, count = along[0], len(view.ids)
    if (steps[at] if steps else 1) != 1:
        raise UnfitError("it takes channels in steps")
    start, end, _ = slice(starts[at], ends[at]).indices(count)
    if start >= end:
        raise UnfitError("it takes no channel")
    for slot in (1, 2):
        if input_name(node, slot):
            cuts.check(survey.scope, node, slot, 0, "list of limits")
    part = view.picked(slice(start, end))
    survey.give(node, part)
    survey.must_stay.append(part.ids)
    if end - start < count:
        survey.changes.append(partial(_reslice, survey, node, at, (view.ids[:start], part.ids)))
    return [0]


def _reslice(
    survey: Survey, node: NodeProto, at: int, parts: tuple[Ids, Ids], edit: GraphEdit, removal: Removal
) -> None:
    before, inside = (int(removal.keeps(ids).sum()) for ids in parts)
    for slot, part, limit in ((1, read.STARTS, before), (2, read.ENDS, before + inside)):
        listed = part.listed(node)
        if listed is not None:
            part.set(node, [*listed[:at], limit, *listed[at + 1 :]])
            continue
        value = survey.constant(node, slot)
        assert value is not None
        if int(value.reshape(-1)[at]) != limit:
            fresh = value.copy()
            fresh.reshape(-1)[at] = limit
            cuts.put(edit, survey.scope, node, slot, fresh)


def gather(survey: Survey, node: NodeProto) -> list[int]:
    """Gather (opset 1 to 13) of constant places along the channels, or along another axis."""
    view, value = survey.need(node), survey.constant(node, 1)
    if view.rank is None or view.spread:
        raise UnfitError(_RANK)
    axis = read.axis(node) % view.rank
    indices = survey.extents.of(input_name(node, 1))
    if indices is None:
        raise UnfitError("the shape of its indices is not known")
    if axis != view.axis:
        after = view.rank - 1 - axis
        moved = view.from_end if view.from_end <= after else view.from_end + len(indices) - 1
        survey.give(node, view.moved(moved, view.rank + len(indices) - 1))
        return [0]
    if value is None or value.ndim != 1 or not value.size:
        raise UnfitError("it takes single channels, or its indices are not constant")
    if not (-len(view.ids) <= value.min() and value.max() < len(view.ids)):
        raise UnfitError("it takes channels that are not there")
    taken = view.picked(value % len(view.ids))
    cuts.check(survey.scope, node, 1, 0, "list of indices")
    survey.give(node, taken)
    survey.changes.append(partial(_regather, survey, node, view.ids))
    return [0]


def _regather(survey: Survey, node: NodeProto, ids: Ids, edit: GraphEdit, removal: Removal) -> None:
    staying = removal.keeps(ids)
    if staying.all():
        return
    value = survey.constant(node, 1)
    assert value is not None
    old = value % len(ids)
    new = (np.cumsum(staying) - 1)[old][staying[old]]
    cuts.put(edit, survey.scope, node, 1, new.astype(value.dtype))


# Channels and positions


def depth_to_space(survey: Survey, node: NodeProto) -> list[int]:
    """DepthToSpace (opset 1 to 13): the channels that make one output channel go together."""
    view, block = survey.need(node), windows.block_edge(node) ** 2
    if view.axis != 1 or view.spread or len(view.ids) % block:
        raise UnfitError("its channels come in along another axis")
    column = windows.column_first(node)
    table = np.arange(len(view.ids)).reshape((-1, block) if column else (block, -1))
    rows = table.T if column else table
    first = view.picked(rows[0])
    alike = np.ones(len(first.ids), bool)
    for row in rows[1:]:
        survey.atoms.tie(first.ids, view.ids[row])
        alike &= view.constant[row] == first.constant
    survey.give(node, first.becomes(np.where(alike, first.constant, np.nan)))
    return [0]


def space_to_depth(survey: Survey, node: NodeProto) -> list[int]:
    """SpaceToDepth (opset 1 to 13): each channel comes once for every place of a block."""
    view, block = survey.need(node), windows.block_edge(node) ** 2
    if view.axis != 1 or view.spread:
        raise UnfitError("its channels come in along another axis")
    survey.give(node, view.spread_out(block, "tile"))
    return [0]
