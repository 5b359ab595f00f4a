"""Normalisations that stayed in the graph, as seen from the layers before them, and how to silence a channel there.

A DenseNet's convolution feeds many: its channels go through a Concat into every later BatchNormalization. A
`Normalisation` is a run of affines on one value, with the layers its channels come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.file.store import Array
from onnx_clp.fold.affine_forms import Affine, Frame, data_slot, recognise
from onnx_clp.fold.by_channel import carry_by_channel
from onnx_clp.fold.channel_views import ChannelView, carry, layer_view
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.rewrite import Layers
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import identity, input_name, is_op, set_attribute

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Normalisation:
    """Affines on one value, in graph order, nothing between them but layout operators.

    `view` covers exactly the channels of `affine`, their composition.
    """

    scope: GraphIndex
    view: ChannelView
    affine: ChannelAffine
    normalises: bool
    steps: list[tuple[NodeProto, ChannelView]]

    @property
    def name(self) -> str:
        """The name of the first affine that normalises."""
        node = self.steps[0][0]
        return node.name or identity(node)

    @property
    def value(self) -> str:
        """The value behind the last step."""
        return self.steps[-1][0].output[0]

    @property
    def can_fill(self) -> bool:
        """Whether the last step adds something, so that a silent channel can give another value than 0."""
        return is_op(self.steps[-1][0], "BatchNormalization", "Add", "Sub")

    def silence(self, edit: GraphEdit, channels: Mask, fill: Float64) -> None:
        """Make the marked channels constant behind the last step: factors and offsets become 0, the last one `fill`.

        `fill` has one entry a channel; where the last step adds nothing the channels give 0.
        """
        for node, view in self.steps:
            last = fill if node is self.steps[-1][0] else np.zeros(len(fill))
            if is_op(node, "BatchNormalization"):
                _put_vector(edit, self.scope, node, 1, channels, np.zeros(len(fill)))
                _put_vector(edit, self.scope, node, 2, channels, last)
            else:
                _put_operand(edit, self.scope, node, view, channels, last)


@dataclass(slots=True, eq=False)
class Sight:
    """What one layer's channels run into: normalisations, and whether anything else uses them as they are."""

    normalisations: list[tuple[Normalisation, int, int, int]] = field(default_factory=list)
    raw: bool = False


def look(scope: GraphIndex, layers: Layers) -> dict[int, Sight]:
    """For every layer (by the id of its node) the normalisations left after it in this scope."""
    sights = {key: Sight() for key in layers.by_node}
    tracer = _Tracer(scope, layers, sights)
    for node in scope.nodes:
        if node.output and scope.producer(identity(node)) is node:
            tracer.visit(node)
    tracer.close()
    return sights


class _Tracer:
    """Walks a scope once, carrying views and collecting runs of affines."""

    def __init__(self, scope: GraphIndex, layers: Layers, sights: dict[int, Sight]) -> None:
        self._scope, self._layers, self._sights = scope, layers, sights
        self._views: dict[str, ChannelView] = {}
        self._runs: dict[str, Normalisation] = {}
        self._found: list[Normalisation] = []
        self._inside = {id(n) for r in layers.by_node.values() for n in r.layer.own_nodes}

    def visit(self, node: NodeProto) -> None:
        """Take one node, in graph order."""
        rewrite = self._layers.by_node.get(id(node))
        if rewrite is not None:
            self._mark_raw(node)
            if not rewrite.layer.fused:
                self._views[rewrite.layer.output] = layer_view(rewrite)
        elif id(node) in self._inside or self._scope.is_constant(identity(node)):
            return
        elif not (self._affine(node) or self._carried(node)):
            self._mark_raw(node)

    def _carried(self, node: NodeProto) -> bool:
        """Carry views on; a run of affines goes on with them, as what is constant before is constant behind."""
        scope = self._scope
        if not (carry(scope, node, self._views) or carry_by_channel(scope, node, self._views)):
            return False
        run = None if is_op(node, "Concat", "Split") else self._runs.get(node.input[0])
        if run is not None and scope.only_use(node.input[0]) is not None:
            self._runs[node.output[0]] = run
        return True

    def _affine(self, node: NodeProto) -> bool:
        slot = data_slot(self._scope, node)
        view = None if slot is None else self._views.get(node.input[slot])
        if slot is None or view is None:
            return False
        rank = view.rank if view.rank is not None else self._scope.ranks.of(node.input[slot])
        found = recognise(self._scope, node, Frame(view.axis_from_end, rank, view.channels))
        whole = view.resolved(len(found.affine.scale)) if isinstance(found, Affine) else None
        if not isinstance(found, Affine) or whole is None:
            return False
        run = self._runs.get(node.input[slot])
        if run is not None and self._scope.only_use(node.input[slot]) is not None:
            run.affine, run.normalises = run.affine.then(found.affine), run.normalises or found.normalises
            run.steps.append((node, whole))
        else:
            run = Normalisation(self._scope, whole, found.affine, found.normalises, [(node, whole)])
            self._found.append(run)
        self._views[node.output[0]] = whole
        self._runs[node.output[0]] = run
        return True

    def _mark_raw(self, node: NodeProto) -> None:
        for name in node.input:
            self._mark_value(name)

    def _mark_value(self, name: str) -> None:
        view = self._views.get(name)
        if view is None or name in self._runs:
            return
        for segment in view.segments:
            if segment.rewrite is not None:
                self._sights[id(segment.rewrite.layer.node)].raw = True

    def close(self) -> None:
        """Graph outputs and uses in nested graphs are raw uses; hand each run to the layers it belongs to."""
        for name in list(self._views):
            if any(u.node is None or u.scope is not self._scope for u in self._scope.uses(name)):
                self._mark_value(name)
        for run in self._found:
            start = 0
            for segment in run.view.segments:
                assert segment.count is not None
                if segment.rewrite is not None:
                    place = (run, start, segment.start, segment.count)
                    self._sights[id(segment.rewrite.layer.node)].normalisations.append(place)
                start += segment.count


def of_layer(sight: Sight) -> list[tuple[Normalisation, int, int, int]]:
    """The runs that scale channels differently: (run, its first channel, the layer's first, how many)."""
    return [place for place in sight.normalisations if place[0].normalises]


def _put_vector(
    edit: GraphEdit, scope: GraphIndex, node: NodeProto, slot: int, channels: Mask, wanted: Float64
) -> None:
    value = scope.constant(input_name(node, slot))
    assert value is not None
    put(edit, scope, node, slot, value, lambda v: np.where(channels, wanted, as_float64(v)))


def _put_operand(
    edit: GraphEdit, scope: GraphIndex, node: NodeProto, view: ChannelView, channels: Mask, wanted: Float64
) -> None:
    """Make a step's constant 0 where it multiplies, and what gives `wanted` where it adds."""
    slot = data_slot(scope, node)
    assert slot is not None
    value = scope.constant(node.input[1 - slot])
    assert value is not None
    legacy = scope.opset < 7
    shape = (len(channels),) if legacy else (len(channels), *[1] * (view.axis_from_end - 1))
    if not legacy and value.ndim > len(shape):
        shape = (*[1] * (value.ndim - len(shape)), *shape)
    invert = is_op(node, "Div")
    mask = channels.reshape(shape)
    sign = -1.0 if is_op(node, "Sub") and slot == 0 else 1.0
    target = (sign * wanted if is_op(node, "Add", "Sub") else np.zeros(len(wanted))).reshape(shape)

    def silent(old: Array) -> Array:
        wide = as_float64(np.broadcast_to(old.reshape(-1) if legacy else old, shape))
        return np.where(mask, target, 1.0 / wide if invert else wide)

    put(edit, scope, node, 1 - slot, value, silent)
    if invert:
        edit.turn_into(scope, node, "Mul", list(node.input))
    if legacy and view.rank is not None:
        set_attribute(node, "broadcast", 1)
        set_attribute(node, "axis", view.rank - view.axis_from_end)


def put(
    edit: GraphEdit,
    scope: GraphIndex,
    node: NodeProto,
    slot: int,
    value: Array,
    change: Callable[[Array], Array],
) -> None:
    """Store a changed constant at a slot, in the type of the old one."""
    from onnx import helper

    data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
    new = change(value)
    base = f"{node.input[slot]}_pruned"
    edit.put_constant(scope, node, slot, base, lambda name: edit.store.make(name, new, data_type))
