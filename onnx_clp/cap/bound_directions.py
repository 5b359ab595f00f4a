"""Cap directions in channel space: what goes beyond the clean range along a trigger's direction is cut off.

    r = Relu(vᵀF + offset),  F' = F − u·r         (`numerics.directions`)

    rank ≥ 3    Conv 1×1 to one channel > Relu > Conv 1×1 to all channels > Sub
    rank 2      Gemm to one column > Relu > MatMul to all columns > Sub

Channels are on axis 1. What used F uses F', which keeps F's name; several directions of one value follow each other.
The arithmetic is in F's own type. Nothing else changes, so where r is 0 the value is F to the bit.

Conditions: a node of the main graph makes the value, in floating point, of known rank; rank 2 needs
opset 7, from which on Gemm broadcasts its bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from onnx_clp.cap.rank import rank_of
from onnx_clp.file.store import numpy_dtype
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.weights import FLOAT_TYPES
from onnx_clp.numerics.directions import Direction
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import input_name, is_op
from onnx_clp.verdicts import Skipped, SkipReason

_LINEAR: Final = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Site:
    """A value of the main graph that takes caps: `channels` on axis 1 of `rank`, elements of `data_type`.

    It is the output of the linear layer `layer`, or what the last one reads. `dense` says that a fully connected layer
    within the network gives it.
    """

    value: str
    channels: int
    rank: int
    data_type: int
    layer: str
    dense: bool = False


def examine(scope: GraphIndex, value: str, channels: int, layer: str) -> Site | Skipped:
    """Whether the value of the layer can take caps, or why it cannot."""
    if scope.parent is not None or scope.place:
        return Skipped(SkipReason.BRANCH, "it is in a branch, a loop or a function")
    maker = scope.producer(value)
    if maker is None:
        return Skipped(SkipReason.NOT_AFFINE, "no node makes it")
    rank = 2 if is_op(maker, "Gemm") else rank_of(scope, maker, value)
    data_type = _data_type(scope, maker, value)
    if rank is None or rank < 2:
        return Skipped(SkipReason.NOT_PER_CHANNEL, "the number of its dimensions is not known")
    if data_type not in FLOAT_TYPES:
        return Skipped(SkipReason.UNSUPPORTED_OPERATOR, "it is not known to be in floating point")
    if rank == 2 and scope.opset < 7:
        return Skipped(SkipReason.UNSUPPORTED_OPERATOR, "Gemm does not broadcast its bias below opset 7")
    assert data_type is not None
    return Site(value, channels, rank, data_type, layer)


def _data_type(scope: GraphIndex, maker: NodeProto, value: str) -> int | None:
    found = scope.element_type(value)
    return found or (scope.element_type(input_name(maker, 1)) if is_op(maker, *_LINEAR, "ConvTranspose") else None)


def refusal(site: Site, direction: Direction) -> Skipped | None:
    """Why the site cannot hold a direction; None where it can."""
    if direction.u.shape != (site.channels,) or direction.v.shape != (site.channels,):
        return Skipped(SkipReason.WRONG_LENGTH, f"the direction is not one of {site.channels} channels")
    stored = [_stored(site, part) for part in (direction.u, direction.v, np.asarray(direction.offset))]
    if all(np.isfinite(as_float64(part)).all() for part in stored):
        return None
    return Skipped(SkipReason.NOT_FINITE, "its numbers do not fit the value's type")


def put(edit: GraphEdit, site: Site, directions: Sequence[Direction]) -> None:
    """Put caps on the directions behind the site, the first directly behind its maker; `refusal` has agreed."""
    if directions:

        def make(between: str, result: str) -> list[NodeProto]:
            return list(_chain(edit, site, directions, between, result))

        edit.add_chain(edit.index.main, site.value, f"{site.value}_uncut", make)


def _chain(
    edit: GraphEdit, site: Site, directions: Sequence[Direction], value: str, result: str
) -> Iterator[NodeProto]:
    for at, direction in enumerate(directions):
        last = at == len(directions) - 1
        cut = result if last else edit.names.fresh(f"{result}_cut")
        yield from _block(edit, site, direction, value, cut)
        value = cut


def _block(edit: GraphEdit, site: Site, direction: Direction, value: str, cut: str) -> Iterator[NodeProto]:
    """The four nodes of one cap."""
    flat, ones = site.rank == 2, (1,) * (site.rank - 2)
    shapes = ((-1, 1), (1, -1)) if flat else ((1, -1, *ones), (-1, 1, *ones))
    v, u, offset = (
        _constant(edit, site, f"{cut}_{name}", values)
        for name, values in (
            ("read", direction.v.reshape(shapes[0])),
            ("direction", direction.u.reshape(shapes[1])),
            ("offset", np.array([direction.offset])),
        )
    )
    along, beyond, back = (edit.names.fresh(f"{cut}_{name}") for name in ("along", "beyond", "back"))
    yield helper.make_node("Gemm" if flat else "Conv", [value, v, offset], [along])
    yield helper.make_node("Relu", [along], [beyond])
    yield helper.make_node("MatMul" if flat else "Conv", [beyond, u], [back])
    yield helper.make_node("Sub", [value, back], [cut])


def _stored(site: Site, values: NDArray[np.float64]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return values.astype(numpy_dtype(site.data_type))


def _constant(edit: GraphEdit, site: Site, base: str, values: NDArray[np.float64]) -> str:
    stored = np.ascontiguousarray(_stored(site, values))

    def make(name: str) -> TensorProto:
        return TensorProto(name=name, dims=stored.shape, data_type=site.data_type, raw_data=stored.tobytes())

    return edit.add_constant(edit.index.main, base, make)


def is_part(scope: GraphIndex, node: NodeProto) -> bool:
    """Whether a linear node is one of the two in a cap on a direction."""
    source = scope.producer(node.input[0])
    if source is not None and is_op(source, "Relu"):
        squeeze = scope.producer(source.input[0])
        if squeeze is not None and is_op(squeeze, *_LINEAR) and _spread(scope, squeeze) is node:
            return True
    return _spread(scope, node) is not None


def _spread(scope: GraphIndex, squeeze: NodeProto) -> NodeProto | None:
    """The second linear node of the cap that begins with `squeeze`; None where none does."""
    relu = _sole_reader(scope, squeeze.output[0])
    spread = None if relu is None or not is_op(relu, "Relu") else _sole_reader(scope, relu.output[0])
    if spread is None or not is_op(spread, *_LINEAR):
        return None
    sub = _sole_reader(scope, spread.output[0])
    if sub is None or not is_op(sub, "Sub") or list(sub.input) != [squeeze.input[0], spread.output[0]]:
        return None
    weight = scope.constant(input_name(squeeze, 1))
    width = None if weight is None else weight.shape[0 if is_op(squeeze, "Conv") else -1]
    return spread if width == 1 else None


def _sole_reader(scope: GraphIndex, value: str) -> NodeProto | None:
    use = scope.only_use(value)
    return None if use is None or use.scope is not scope else use.node
