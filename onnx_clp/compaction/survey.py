"""Walk one graph and note, value by value, its channels, what ties them, and what would have to be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.compaction import cuts, extent_rules
from onnx_clp.compaction.atoms import UNKNOWN, Atoms, Float64, Ids, Mask, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.extents import Extents
from onnx_clp.compaction.removal import Demand, Grouping, Removal
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import has_reference, identity, input_name, operator
from onnx_clp.text import shown

Array = NDArray[Any]
Change = Callable[[GraphEdit, Removal], None]
Rule = Callable[["Survey", NodeProto], "Iterable[int]"]
"""Looks at one node; gives the input slots whose channels it has accounted for. May raise UnfitError."""

Size = tuple[str, int] | int | None
"""A number that may be a size: of a value along an axis, a constant, or one that no channel has a part in."""

_ONE = "it is the only channel"


@dataclass(frozen=True, slots=True, eq=False)
class ConstantCut:
    """A constant at an input slot, an axis of it, and the atoms behind that axis."""

    node: NodeProto
    slot: int
    axis: int
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """A linear layer as it makes channels: its atoms, and what each channel is known to be (NaN: not known)."""

    node: NodeProto
    ids: Ids
    constant: Float64


class Survey:
    """What one scope says of its channels.

    Attributes:
        views: by value, its channels.
        sizes: by value, the sizes in it, where some were read off a value with channels.
        sources: the linear layers, in graph order.
        demands, groupings: what `Removal.settle` is asked.
        first: what is to be done before constants are cut.
        changes: what is to be done after that.
        must_stay: further runs of atoms of which one must stay.
    """

    def __init__(self, scope: GraphIndex) -> None:
        self.scope, self.atoms, self.extents = scope, Atoms(), Extents(scope)
        self.views: dict[str, View] = {}
        self.sizes: dict[str, tuple[Size, ...]] = {}
        self._followed: set[int] = set()
        self.sources: list[Maker] = []
        self.cuts: list[ConstantCut] = []
        self.demands: list[Demand] = []
        self.groupings: list[Grouping] = []
        self.first: list[Change] = []
        self.changes: list[Change] = []
        self.must_stay: list[Ids] = []

    # The walk

    def walk(
        self,
        rules: Mapping[tuple[str, str], Rule],
        starters: frozenset[tuple[str, str]],
        of_sizes: Mapping[str, Rule],
    ) -> None:
        """Look at every node; `starters` make channels of their own, `of_sizes` are the rules for what reads sizes."""
        for node in self.scope.nodes:
            if self.scope.is_constant(identity(node)):
                continue
            extent_rules.visit(self.extents, node)
            key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
            if any(name in self.views for name in node.input):
                self._look(node, rules.get(key))
            elif any(name in self.sizes for name in node.input):
                self._look(node, None if key[0] else of_sizes.get(key[1]))
            elif key in starters:
                self._look(node, rules.get(key))

    def _look(self, node: NodeProto, rule: Rule | None) -> None:
        done: set[int] = set()
        self._followed = set()
        reason = f"{label(node)} reads it, through which channels are not followed"
        try:
            if rule is not None and not has_reference(node):
                done = set(rule(self, node))
        except UnfitError as unfit:
            reason = f"{label(node)}: {unfit}"
        for slot, name in enumerate(node.input):
            if slot not in done and name in self.views:
                self.atoms.pin(self.views[name].ids, reason)
            if slot not in self._followed and name in self.sizes:
                self._hold(name, f"{label(node)} reads how many channels there are")

    def _hold(self, name: str, reason: str) -> None:
        """Keep all channels that are counted in a value."""
        for size in self.sizes[name]:
            view = self.counted(size)
            if view is not None:
                self.atoms.pin(view.ids, reason)

    # What rules ask

    def view(self, node: NodeProto, slot: int) -> View | None:
        """The channels of an input, None where it has none or is left out."""
        return self.views.get(input_name(node, slot))

    def need(self, node: NodeProto, slot: int = 0) -> View:
        """The channels of an input; UnfitError where it has none."""
        view = self.view(node, slot)
        if view is None:
            raise UnfitError("the channels come in by another input")
        return view

    def constant(self, node: NodeProto, slot: int) -> Array | None:
        """The constant at an input slot, None where it is left out or none."""
        name = input_name(node, slot)
        return self.scope.constant(name) if name and self.scope.is_constant(name) else None

    def counted(self, size: Size) -> View | None:
        """The channels that a size counts, None where it is another number."""
        if not isinstance(size, tuple):
            return None
        view = self.views[size[0]]
        return view if view.axis == size[1] else None

    # What rules note

    def follow_sizes(self, slot: int) -> None:
        """Note that the node looked at reads the sizes at an input slot so that channels may go."""
        self._followed.add(slot)

    def give_sizes(self, node: NodeProto, sizes: list[Size]) -> None:
        """Note the sizes in a node's output; those in its inputs are followed with that."""
        self._followed.update(range(len(node.input)))
        name = node.output[0]
        self.sizes[name] = tuple(sizes)
        if any(use.node is None or use.scope is not self.scope for use in self.scope.uses(name)):
            self._hold(name, f"{shown(name, 60)} says outside the graph how many channels there are")

    def give(self, node: NodeProto, view: View, slot: int = 0) -> None:
        """Note the channels of a node's output."""
        name = node.output[slot] if slot < len(node.output) else ""
        if not name:
            return
        self.views[name] = view
        if len(view.ids) == 1 and not view.spread:
            self.atoms.pin(view.ids, _ONE)
        for use in self.scope.uses(name):
            if use.node is None:
                self.atoms.pin(view.ids, f"{shown(name, 60)} is an output of the graph")
            elif use.scope is not self.scope:
                self.atoms.pin(view.ids, f"{shown(name, 60)} is read inside a nested graph")

    def cut(self, node: NodeProto, slot: int, axis: int, ids: Ids, what: str = "constant") -> None:
        """Note that a constant loses what its atoms lose; UnfitError where it cannot."""
        cuts.check(self.scope, node, slot, axis, what)
        self.cuts.append(ConstantCut(node, slot, axis, ids))

    def need_zero(self, node: NodeProto, view: View) -> None:
        """Note that a node mixes all channels so that only one that is zero can be missing."""
        silent = view.constant == 0
        self.demands.append(Demand(label(node), view.ids, silent, ~np.isnan(view.constant)))

    def tied(self, views: list[View]) -> Ids:
        """Tie the channels of operands, index by index."""
        for view in views[1:]:
            self.atoms.tie(views[0].ids, view.ids)
        return views[0].ids

    def fixed(self, count: int, reason: str) -> Ids:
        """Atoms that stay whatever happens."""
        ids = self.atoms.make(count)
        self.atoms.pin(ids, reason)
        return ids


def unknown(count: int) -> Float64:
    """Channels of which nothing is known."""
    return np.full(count, UNKNOWN)


def label(node: NodeProto) -> str:
    """A node as the report names it."""
    return f"{operator(node)} {shown(node.name or identity(node), 60)}"


def zeros(view: View) -> Mask:
    """Which channels are known to be zero."""
    return np.asarray(view.constant == 0)
