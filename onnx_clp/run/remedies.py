"""What takes out what an audit found: kernels zeroed, channels kept within their usual values, gates made constant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnx_clp.document.audit import DormantPath, QuietValue
from onnx_clp.gauge.dials import all_limits
from onnx_clp.gauge.request import DialSetting, Switch
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.layers.weights import FloatWeight
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

if TYPE_CHECKING:
    from onnx_clp.audit.sites import Read

SILENT: Final = 0.5
"""A path of which so many channels fire on no ordinary input gives nothing that these need."""
HELD: Final = 0.5
"""An end that turns fewer images than this to its class, where it gives what it usually does, need not be zeroed."""
_FIRST: Final = math.inf
"""How far out these channels lie for the dose: they go before all others."""


class Remedy(Protocol):
    """One part of what is to go, and the dial that measures what this costs."""

    @property
    def switch(self) -> Switch:
        """The dial."""

    def carry_out(self, edit: GraphEdit, setting: DialSetting, /) -> None:
        """Do what the dose allows."""


@dataclass(frozen=True, slots=True, eq=False)
class PathCut:
    """Kernels of one layer that are zeroed; committed with the other layers."""

    rewrite: LayerRewrite
    switch: Switch

    def carry_out(self, _: GraphEdit, setting: DialSetting, /) -> None:
        """Zero them, and let their channels give their fills."""
        off, fill = np.zeros(self.switch.channels, bool), np.zeros(self.switch.channels)
        off[list(setting.off)] = True
        fill[list(self.switch.outlying)] = setting.fills
        if off.any():
            self.rewrite.silence(off, fill)


@dataclass(frozen=True, slots=True, eq=False)
class PathCap:
    """Channels of one value that are kept within what they usually give."""

    switch: Switch

    def carry_out(self, edit: GraphEdit, setting: DialSetting, /) -> None:
        """Put Max and Min right behind the value."""
        if setting.off:
            value = self.switch.value
            edit.add_chain(edit.index.main, value, f"{value}_unkept", partial(self._nodes, edit, setting))

    def _nodes(self, edit: GraphEdit, setting: DialSetting, value: str, result: str) -> list[NodeProto]:
        held, raised = [], edit.names.fresh(f"{result}_raised")
        for name, limits in zip(("least", "most"), all_limits(self.switch, setting.off), strict=True):
            make = partial(edit.store.make, values=limits, data_type=TensorProto.FLOAT)
            held.append(edit.add_constant(edit.index.main, f"{result}_{name}", make))
        return [
            helper.make_node("Max", [value, held[0]], [raised]),
            helper.make_node("Min", [raised, held[1]], [result]),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class GateFix:
    """A value that a constant takes the place of, at the nodes and slots that read it."""

    switch: Switch
    slots: tuple[tuple[NodeProto, int], ...]

    def is_whole(self, setting: DialSetting) -> bool:
        """Whether all of it may go; a part of it does not."""
        return len(setting.off) == self.switch.channels

    def carry_out(self, edit: GraphEdit, setting: DialSetting, /) -> None:
        """Let the nodes read the constant; what made the value and nothing else goes."""
        if self.is_whole(setting):
            main, values = edit.index.main, np.array(setting.fills, np.float32)
            make = partial(edit.store.make, values=values, data_type=TensorProto.FLOAT)
            name = edit.add_constant(main, f"{self.switch.value}_usual", make)
            for node, slot in self.slots:
                edit.set_input(main, node, slot, name)
            _drop_dead(edit, self.switch.value)


def _drop_dead(edit: GraphEdit, value: str) -> None:
    """Delete what makes a value that nothing reads, and what makes that."""
    main, pending = edit.index.main, [value]
    while pending:
        node = main.producers.get(pending.pop())
        if node is not None and not any(main.uses(name) for name in node.output if name):
            pending += node.input
            edit.remove(main, node)


def carry_out(edit: GraphEdit, chosen: Sequence[Remedy], settings: Sequence[DialSetting], *, kernels: bool) -> None:
    """Do what the dose allows, of those that zero kernels, before layers are written, or of those that change nodes."""
    for remedy, setting in zip(chosen, settings, strict=True):
        if isinstance(remedy, PathCut) is kernels:
            remedy.carry_out(edit, setting)


def of_path(path: DormantPath, found: Sequence[Read], *, zero: bool) -> Iterator[Remedy]:
    """What takes a path out, from its beginning on.

    Ordinary images lose what a channel tells that fires on them. So a path most of whose channels fire on them is kept
    within what they usually give, if that stops it. Of other paths the kernels are zeroed.
    """
    if path.silent < SILENT and path.held < HELD:
        yield from _caps(path, found)
    else:
        yield from _cuts(path, found, zero=zero)


def _caps(path: DormantPath, found: Sequence[Read]) -> Iterator[PathCap]:
    by_value = {read.value: read for read in found}
    limits: dict[str, dict[int, tuple[float, float]]] = {}
    for layer in path.layers:
        limits.setdefault(layer.value, {}).update(zip(layer.channels, layer.usual, strict=True))
    for value, own in limits.items():
        channels = sorted(own)
        yield PathCap(
            Switch(
                value=value,
                channels=by_value[value].channels,
                axis_from_end=by_value[value].axis_from_end,
                data_type=TensorProto.FLOAT,
                outlying=tuple(channels),
                z=(_FIRST,) * len(channels),
                fills=(0.0,) * len(channels),
                spreads=(0.0,) * len(channels),
                within=tuple(own[one] for one in channels),
            )
        )


def _cuts(path: DormantPath, found: Sequence[Read], *, zero: bool) -> Iterator[PathCut]:
    """The kernels of the path, by the layers that make its channels, each layer once."""
    by_value = {read.value: read for read in found}
    rows: dict[int, tuple[LayerRewrite, set[int]]] = {}
    for layer in path.layers:
        for rewrite in by_value[layer.value].makers:
            if _fits(rewrite):
                own = {by_value[layer.value].row(one) for one in layer.channels}
                rows.setdefault(id(rewrite), (rewrite, set()))[1].update(own)
    for rewrite, channels in rows.values():
        yield PathCut(rewrite, _switch(rewrite, sorted(channels), zero=zero))


def _fits(rewrite: LayerRewrite) -> bool:
    return isinstance(rewrite.layer.weight, FloatWeight) and rewrite.bias is not None


def _switch(rewrite: LayerRewrite, channels: Sequence[int], *, zero: bool) -> Switch:
    from onnx_clp.judge.expected import limits_of

    layer = rewrite.layer
    return Switch(
        value=layer.output,
        channels=layer.channels,
        axis_from_end=layer.axis_from_end,
        data_type=layer.weight.data_type,
        outlying=tuple(channels),
        z=(_FIRST,) * len(channels),
        fills=(0.0,) * len(channels) if zero else None,
        spreads=(0.0,) * len(channels),
        limits=limits_of(layer.scope, layer.output),
    )


def of_gates(quiet: Sequence[QuietValue], main: GraphIndex) -> Iterator[GateFix]:
    """What takes gates out: of those that always give the same, where nodes that go entry by entry read them alone."""
    for one in quiet:
        uses = main.uses(one.value)
        slots = [(use.node, use.slot) for use in uses if use.node is not None and is_a(use.node, Kind.JOINT)]
        if one.gives and len(slots) == len(uses) and all(use.scope is main for use in uses):
            yield GateFix(_constant(one), tuple(slots))


def _constant(one: QuietValue) -> Switch:
    size = len(one.gives)
    return Switch(
        value=one.value,
        channels=size,
        axis_from_end=1,
        data_type=TensorProto.FLOAT,
        outlying=tuple(range(size)),
        z=(_FIRST,) * size,
        fills=one.gives,
        spreads=(0.0,) * size,
    )
