"""Operators that move or summarise what lies beside the channel axis: pooling, reduction, transposition, padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction.atoms import UNKNOWN, Float64, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.survey import Survey, unknown
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import input_name
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait

Array = NDArray[Any]


def integers(survey: Survey, node: NodeProto, part: read.IntList) -> list[int] | None:
    """A list that a node states; None where left out.

    Raises:
        UnfitError: it is computed as the model runs.
    """
    found = part.of(node, survey.scope.constant)
    if found is None and not part.left_out(node):
        raise UnfitError(f"its {part.name} are not constant")
    return None if found is None else list(found)


def places(axes: list[int], rank: int | None) -> set[int]:
    """Axes counted from the last (1), whichever way they are written; UnfitError where the rank is not known."""
    if any(a >= 0 for a in axes) and rank is None:
        raise UnfitError("the number of dimensions of its input is not known")
    if rank is not None and any(not -rank <= a < rank for a in axes):
        raise UnfitError("an axis of it lies outside its input")
    return {-a if a < 0 else (rank or 0) - a for a in axes}


def pool(survey: Survey, node: NodeProto) -> list[int]:
    """MaxPool, AveragePool, LpPool and the global ones (opset 1 to 22), which work on each channel by itself."""
    view = survey.need(node)
    if view.axis != 1 or view.spread:
        raise UnfitError("its channels come in along another axis")
    if any(name and survey.scope.uses(name) for name in node.output[1:]):
        raise UnfitError("its indices, which count over the channels, are read")
    plain = (is_a(node, Kind.GLOBAL_POOL) and keeps(node, Trait.EVEN)) or _stays(node)
    survey.give(node, view.becomes(view.constant if plain else zero_stays(view)))
    return [0]


def _stays(node: NodeProto) -> bool:
    """Whether every window of a constant gives that constant."""
    if node.op_type == "MaxPool":
        return True
    padded = not windows.window(node).pads_nothing
    return node.op_type == "AveragePool" and not (padded and windows.counts_padding(node))


def zero_stays(view: View) -> Float64:
    """What is known after an operator that maps zeros to zeros."""
    return np.where(view.constant == 0, 0.0, UNKNOWN)


def reduce(survey: Survey, node: NodeProto) -> list[int]:
    """ReduceMean and the like (opset 1 to 18), over other axes, or a sum over the channels."""
    view = survey.need(node)
    axes = integers(survey, node, read.AXES)
    if not axes:
        if read.idle_without_axes(node):
            raise UnfitError("it has no axes")
        return _reduce_channels(survey, node, view)
    gone = places(axes, view.rank)
    if view.from_end in gone:
        return _reduce_channels(survey, node, view)
    if view.spread:
        raise UnfitError("how many times its channels repeat is not known")
    made = view.becomes(_reduced(node, view))
    if not read.keeps_dims(node):
        after = sum(place < view.from_end for place in gone)
        made = made.moved(view.from_end - after, None if view.rank is None else view.rank - len(gone))
    survey.give(node, made)
    return [0]


def _reduced(node: NodeProto, view: View) -> Float64:
    """What is known of channels whose places a node brings together."""
    if keeps(node, Trait.EVEN):
        return view.constant
    return zero_stays(view) if keeps(node, Trait.ZERO) else unknown(len(view.ids))


def _reduce_channels(survey: Survey, node: NodeProto, view: View) -> list[int]:
    if not keeps(node, Trait.NEUTRAL):
        raise UnfitError("it takes all channels together")
    survey.need_zero(node, view)
    return [0]


def along_others(survey: Survey, node: NodeProto) -> list[int]:
    """Softmax, LogSoftmax, LpNormalization and ArgMax along an axis that is not the channels'."""
    view = survey.need(node)
    if node.op_type != "LpNormalization" and survey.scope.opset < 13:
        raise UnfitError("it takes all channels together")
    if view.from_end in places([read.axis(node)], view.rank) or view.spread:
        raise UnfitError("it takes all channels together")
    survey.give(node, view.forgets())
    return [0]


def transpose(survey: Survey, node: NodeProto) -> list[int]:
    """Transpose (opset 1 to 23)."""
    view = survey.need(node)
    perm = read.perm(node, view.rank)
    if perm is None:
        raise UnfitError("the number of dimensions of its input is not known")
    axis = len(perm) - view.from_end
    if axis not in perm or (view.rank is not None and view.rank != len(perm)):
        raise UnfitError("its permutation does not fit its input")
    survey.give(node, view.moved(len(perm) - perm.index(axis), len(perm)))
    return [0]


def squeeze(survey: Survey, node: NodeProto) -> list[int]:
    """Squeeze (opset 1 to 23) of axes that are named."""
    view, axes = survey.need(node), integers(survey, node, read.AXES)
    if axes is None:
        raise UnfitError("it does not name its axes")
    gone = places(axes, view.rank)
    if view.from_end in gone:
        raise UnfitError("it takes the channel axis away")
    after = sum(place < view.from_end for place in gone)
    survey.give(node, view.moved(view.from_end - after, None if view.rank is None else view.rank - len(gone)))
    return [0]


def unsqueeze(survey: Survey, node: NodeProto) -> list[int]:
    """Unsqueeze (opset 1 to 23)."""
    view, axes = survey.need(node), integers(survey, node, read.AXES)
    if axes is None or view.rank is None:
        raise UnfitError("the number of dimensions of its input is not known")
    rank = view.rank + len(axes)
    new = places(axes, rank)
    old = [place for place in range(rank, 0, -1) if place not in new]
    survey.give(node, view.moved(old[view.rank - view.from_end], rank))
    return [0]


def pad(survey: Survey, node: NodeProto) -> list[int]:
    """Pad (opset 1 to 24) beside the channel axis."""
    view = survey.need(node)
    pads = integers(survey, node, read.PADS)
    if pads is None or view.spread:
        raise UnfitError("its pads are not constant")
    axes = integers(survey, node, read.AXES) if survey.scope.opset >= 18 else None
    listed = list(range(-(len(pads) // 2), 0)) if axes is None else axes
    around = [pads[at] or pads[at + len(listed)] for at in range(len(listed))]
    touched = places([a for a, p in zip(listed, around, strict=True) if p], view.rank)
    if view.from_end in touched:
        raise UnfitError("it pads the channel axis")
    survey.give(node, view.becomes(np.where(view.constant == _padding(survey, node), view.constant, UNKNOWN)))
    return [0]


def _padding(survey: Survey, node: NodeProto) -> float:
    """What is padded with; infinite stands for an edge or a reflection, which no constant is changed by."""
    if windows.pad_mode(node) != "constant":
        return UNKNOWN
    value = windows.pad_value(node, survey.scope.constant)
    return UNKNOWN if value is None else value


def resize(survey: Survey, node: NodeProto) -> list[int]:
    """Resize and Upsample (opset 7 to 19) beside the channel axis."""
    view = survey.need(node)
    if view.axis is None or view.spread or not read.AXES.left_out(node):
        raise UnfitError("the number of dimensions of its input is not known")
    slot = windows.scales_slot(node, survey.scope.opset)
    scales = windows.scales(node, survey.scope.constant, survey.scope.opset)
    sizes = read.SIZES.of(node, survey.scope.constant) if slot == 2 else None
    if scales is not None and len(scales) == view.rank and scales[view.axis] == 1:
        survey.give(node, view.becomes(zero_stays(view)))
        return [0]
    if slot == 2 and _copies_channels(survey, view, input_name(node, 3)):
        survey.give(node, view.becomes(zero_stays(view)))
        survey.follow_sizes(3)
        return [0]
    if sizes is None or len(sizes) != view.rank or sizes[view.axis] != len(view.ids):
        raise UnfitError("the sizes that it gives are not constant, or change the channels")
    from onnx_clp.compaction.reshaping import renumber

    survey.changes.append(renumber(survey, node, 3, view.axis, view.ids))
    survey.give(node, view.becomes(zero_stays(view)))
    return [0]


def _copies_channels(survey: Survey, view: View, name: str) -> bool:
    """Whether sizes read as the model runs give just as many channels as there are."""
    sizes = survey.sizes.get(name, ())
    counted = survey.counted(sizes[view.axis]) if view.axis is not None and len(sizes) == view.rank else None
    return counted is not None and np.array_equal(counted.ids, view.ids)
