"""Take the channels that do nothing out of the file.

    before:  Conv [8, 3, 3, 3] > Relu > Conv [16, 8, 3, 3], channel 5 of the first being 0 for every input
    after:   Conv [7, 3, 3, 3] > Relu > Conv [16, 7, 3, 3]

A channel may go when it is 0 for every input, when nothing that stays reads it, or when it is constant and whatever
reads it can take that into its bias (`compaction.absorbing`); and when everything tied to it may go too: both branches
of an Add, a gate and what it scales, every block of a Flatten. Other constant channels stay, as do the channels of
graph inputs and outputs, and one of every layer. What the model computes is the same; the caller proves that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from onnx_clp.compaction import counts, cuts, multiples
from onnx_clp.compaction.atoms import Ids, View
from onnx_clp.compaction.cuts import AxisPick
from onnx_clp.compaction.removal import Removal
from onnx_clp.compaction.rules import FOLLOWED, STARTERS
from onnx_clp.compaction.survey import ConstantCut, Maker, Survey
from onnx_clp.document.changes import ChannelsKept, CompactedLayer, Compaction
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import identity, operator


def compact(edit: GraphEdit, scopes: Iterable[GraphIndex], multiple: int = 1) -> Compaction:
    """Remove every channel that can go; what became of each layer that has some.

    Layers keep a multiple of `multiple` channels, or all they had (`compaction.multiples`). `edit.changed` tells
    whether the model changed.
    """
    found: list[CompactedLayer] = []
    for scope in scopes:
        survey = Survey(scope)
        survey.walk(FOLLOWED, STARTERS, counts.COUNTED)
        removal = Removal(survey.atoms)
        values = [view.ids for view in survey.views.values()]
        even = multiples.runs(survey, multiple)
        removal.settle(survey.demands, survey.groupings, [*values, *survey.must_stay], even)
        found += _account(survey, removal, multiple)
        _carry_out(edit, survey, removal)
    edit.finish()
    kept = sum(len(part.channels) for layer in found for part in layer.kept)
    return Compaction(sum(len(layer.removed) for layer in found), kept, tuple(found))


def _account(survey: Survey, removal: Removal, multiple: int) -> list[CompactedLayer]:
    rows = []
    for source in survey.sources:
        gone = ~removal.keeps(source.ids)
        stayed = _stayed(source, removal, multiples.reason(multiple))
        if gone.any() or stayed:
            rows.append(
                CompactedLayer(
                    name=source.node.name or identity(source.node),
                    place=survey.scope.place,
                    op=operator(source.node),
                    channels=len(source.ids),
                    removed=tuple(np.flatnonzero(gone).tolist()),
                    kept=stayed,
                )
            )
    return rows


def _stayed(source: Maker, removal: Removal, even: str) -> tuple[ChannelsKept, ...]:
    """Channels that stay, known to be constant or only for the reason `even`; by reason, the most frequent first."""
    known = ~np.isnan(source.constant)
    staying = np.flatnonzero(removal.keeps(source.ids)).tolist()
    reasons = {at: removal.reason(int(source.ids[at])) for at in staying}
    reasons = {at: why for at, why in reasons.items() if known[at] or why == even}
    order = Counter(reasons.values()).most_common()
    return tuple(ChannelsKept(tuple(at for at, why in reasons.items() if why == reason), reason) for reason, _ in order)


def _carry_out(edit: GraphEdit, survey: Survey, removal: Removal) -> None:
    for change in survey.first:
        change(edit, removal)
    made: dict[object, str] = {}
    for node_cuts in _by_slot(survey.cuts).values():
        kept = {c.axis: np.flatnonzero(mask) for c in node_cuts if not (mask := removal.keeps(c.ids)).all()}
        if kept:
            _cut_once(edit, survey.scope, node_cuts[0], kept, made)
    for change in survey.changes:
        change(edit, removal)
    for name, view in survey.views.items():
        _record(edit, survey.scope, name, removal, view)


def _cut_once(
    edit: GraphEdit, scope: GraphIndex, cut: ConstantCut, kept: dict[int, Ids], made: dict[object, str]
) -> None:
    """Cut a constant, or take what is `made` already of the same one in the same way."""
    key = (cut.node.input[cut.slot], *((axis, places.tobytes()) for axis, places in sorted(kept.items())))
    if key in made:
        edit.set_input(scope, cut.node, cut.slot, made[key])
        return
    cuts.cut(edit, scope, cut.node, cut.slot, AxisPick(kept))
    made[key] = cut.node.input[cut.slot]


def _by_slot(noted: list[ConstantCut]) -> dict[tuple[int, int], list[ConstantCut]]:
    groups: dict[tuple[int, int], list[ConstantCut]] = {}
    for one in noted:
        groups.setdefault((id(one.node), one.slot), []).append(one)
    return groups


def _record(edit: GraphEdit, scope: GraphIndex, name: str, removal: Removal, view: View) -> None:
    """Bring what the file records of a value's size up to date."""
    staying = removal.keeps(view.ids)
    if staying.all():
        return
    if view.spread:
        edit.forget_value_info(scope, name)
    else:
        edit.resize_value_info(scope, name, -view.from_end, int(staying.sum()))
