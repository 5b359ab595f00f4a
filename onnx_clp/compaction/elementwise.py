"""Operators that treat every entry alike: activations and arithmetic.

What a constant channel becomes is worked out in float64; a result that is only approximated here, or differs from
runtime to runtime, is not known (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.compaction.atoms import UNKNOWN, Float64, View
from onnx_clp.compaction.cuts import UnfitError
from onnx_clp.compaction.survey import Survey, unknown
from onnx_clp.fold.channel_views import drops_nothing
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators import read
from onnx_clp.operators.nodes import input_name
from onnx_clp.operators.table import keeps
from onnx_clp.operators.traits import Trait

Array = NDArray[Any]
Function = Callable[[NodeProto, Float64], Float64]
Combine = Callable[..., Float64]


def _zero_only(_node: NodeProto, x: Float64) -> Float64:
    return np.where(x == 0, 0.0, UNKNOWN)


def _unknown(_node: NodeProto, x: Float64) -> Float64:
    return unknown(len(x))


def _elu(scale: float, alpha: float, x: Float64) -> Float64:
    return np.where(x < 0, scale * alpha * np.expm1(x), scale * x)


def _cast(node: NodeProto, x: Float64) -> Float64:
    wide = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32)
    whole = x == np.rint(x)
    return np.where((x == 0) | (whole & (np.abs(x) < 256) & (read.cast_type(node) in wide)), x, UNKNOWN)


UNARY: Final[dict[str, Function]] = {
    "Relu": lambda _, x: np.maximum(x, 0),
    "LeakyRelu": lambda n, x: np.where(x < 0, read.alpha(n) * x, x),
    "ThresholdedRelu": lambda n, x: np.where(x > read.alpha(n), x, 0),
    "Elu": lambda n, x: _elu(1.0, read.alpha(n), x),
    "Selu": lambda n, x: _elu(read.gamma(n), read.alpha(n), x),
    "Celu": lambda _, x: np.where(x < 0, UNKNOWN, x),
    "Sigmoid": lambda _, x: 1 / (1 + np.exp(-x)),
    "HardSigmoid": lambda n, x: np.clip(read.alpha(n) * x + read.beta(n), 0, 1),
    "HardSwish": lambda _, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Tanh": lambda _, x: np.tanh(x),
    "Softplus": lambda _, x: np.log1p(np.exp(x)),
    "Softsign": lambda _, x: x / (1 + np.abs(x)),
    "Exp": lambda _, x: np.exp(x),
    "Log": lambda _, x: np.log(x),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: 1 / x,
    "Abs": lambda _, x: np.abs(x),
    "Neg": lambda _, x: -x,
    "Floor": lambda _, x: np.floor(x),
    "Ceil": lambda _, x: np.ceil(x),
    "Round": lambda _, x: np.rint(x),
    "Sign": lambda _, x: np.sign(x),
    "Identity": lambda _, x: x,
    "Cast": _cast,
}
"""Where more is known of a constant than whether a zero stays one."""


def steady(function: Function, node: NodeProto, constant: Float64) -> Float64:
    """A function of what is known; what is not known, or comes out as no finite number, stays unknown."""
    with np.errstate(all="ignore"):
        out = np.asarray(function(node, constant), dtype=np.float64)
    return np.where(np.isnan(constant) | ~np.isfinite(out), UNKNOWN, out)


def unary(survey: Survey, node: NodeProto) -> list[int]:
    """An elementwise operator of one data input."""
    view = survey.need(node)
    if node.op_type == "Dropout" and not drops_nothing(survey.scope, node):
        raise UnfitError("it drops entries at random, or its mask is read")
    function = UNARY.get(node.op_type, _zero_only if keeps(node, Trait.ZERO) else _unknown)
    if view.zero and node.op_type != "Identity":
        view = view.forgets()
    survey.give(node, replace(view, constant=steady(function, node, view.constant)))
    return [0, 1] if node.op_type == "CastLike" else [0]


def clip(survey: Survey, node: NodeProto) -> list[int]:
    """Clip (opset 1 to 13) between constants, or between what is computed: then a zero is not known to stay one."""
    view = survey.need(node)
    low, high = (UNKNOWN if one is None else one for one in read.clip_limits(node, survey.scope.constant))
    survey.give(node, view.becomes(steady(lambda _, x: np.minimum(np.maximum(x, low), high), node, view.constant)))
    return [0]


# Two and more operands


def _mul(*operands: Float64) -> Float64:
    out = np.prod(np.broadcast_arrays(*operands), axis=0)
    return np.where(np.any([np.broadcast_to(o == 0, out.shape) for o in operands], axis=0), 0.0, out)


def _pow(base: Float64, exponent: Float64) -> Float64:
    return np.where(np.isnan(base) | np.isnan(exponent), UNKNOWN, np.power(base, exponent))


def _where(_condition: Float64, yes: Float64, no: Float64) -> Float64:
    return np.where(yes == no, yes, UNKNOWN)


def _nothing(*operands: Float64) -> Float64:
    return np.full(np.broadcast_shapes(*(o.shape for o in operands)), UNKNOWN)


def _prelu(x: Float64, slope: Float64) -> Float64:
    return np.where(np.isnan(x), UNKNOWN, np.where(x > 0, x, np.where(x == 0, 0.0, x * slope)))


JOINT: Final[dict[str, Combine]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": _mul,
    "Div": np.divide,
    "Pow": _pow,
    "PRelu": _prelu,
    "Max": lambda *o: np.max(np.broadcast_arrays(*o), axis=0),
    "Min": lambda *o: np.min(np.broadcast_arrays(*o), axis=0),
    "Sum": lambda *o: np.sum(np.broadcast_arrays(*o), axis=0),
    "Mean": lambda *o: np.mean(np.broadcast_arrays(*o), axis=0),
    "Where": _where,
}
"""Where something is known of the result."""


def joint(survey: Survey, node: NodeProto) -> list[int]:
    """An elementwise operator of several operands that broadcast."""
    combine = JOINT.get(node.op_type, _nothing)
    if node.op_type == "Mul" and not any(name in survey.views for name in node.input):
        return _scales(survey, node)
    if survey.scope.opset < 7 and read.old_broadcast(node)[1] is not None:
        raise UnfitError("it broadcasts as opset 6 did")
    views, values = operands(survey, node, list(range(len(node.input))))
    first = views[0]
    survey.tied(views)
    with np.errstate(all="ignore"):
        made = np.broadcast_to(np.asarray(combine(*values), dtype=np.float64), (len(first.ids),))
    survey.give(
        node,
        first.moved(first.from_end, rank_of_result(survey, node, range(len(node.input)))).becomes(
            np.where(np.isfinite(made), made, UNKNOWN)
        ),
    )
    return list(range(len(node.input)))


def _scales(survey: Survey, node: NodeProto) -> list[int]:
    """A number made as the model runs times a constant with an entry a channel: the scales of an integer layer."""
    steady = [slot for slot in (0, 1) if survey.scope.is_constant(input_name(node, slot))]
    value = survey.constant(node, steady[0]) if len(steady) == 1 else None
    if value is None or survey.extents.of(node.input[1 - steady[0]]) not in ((), (1,)):
        raise UnfitError("it scales no integer layer")
    axes = [axis for axis, size in enumerate(value.shape) if size > 1]
    if len(axes) != 1:
        raise UnfitError("its scales run along several axes")
    ids = survey.atoms.make(value.size)
    survey.cut(node, steady[0], axes[0], ids, "list of scales")
    survey.give(node, View(value.ndim - axes[0], value.ndim, ids, unknown(value.size)))
    return []


def rank_of_result(survey: Survey, node: NodeProto, slots: Iterable[int]) -> int | None:
    """The dimensions of what several operands broadcast to; None where not known."""
    names = [input_name(node, slot) for slot in slots]
    ranks = [survey.views[n].rank if n in survey.views else _rank_of(survey, n) for n in names if n]
    known = [r for r in ranks if r is not None]
    return max(known) if len(known) == len(ranks) else survey.scope.ranks.of(node.output[0])


def _rank_of(survey: Survey, name: str) -> int | None:
    sizes = survey.extents.of(name)
    return len(sizes) if sizes is not None else survey.scope.ranks.of(name)


def operands(survey: Survey, node: NodeProto, slots: list[int]) -> tuple[list[View], list[Float64]]:
    """The operands that have channels, all of one axis and length, and what each operand's channels are known to be.

    Constants with an entry a channel are noted to be cut. UnfitError where an operand has channels of other origin.
    """
    found = {slot: view for slot in slots if (view := survey.view(node, slot)) is not None}
    wide = [v for v in found.values() if len(v.ids) > 1 or v.spread]
    from_end = max((v.from_end for v in wide or found.values()), default=0)
    if not from_end:
        raise UnfitError("its operands have no channels in common")
    count = _count(survey, node, slots, found, from_end)
    views: list[View] = []
    values: list[Float64] = []
    for slot in slots:
        view = found.get(slot)
        if view is None:
            values.append(_beside(survey, node, slot, from_end, count))
        elif view.from_end != from_end or (len(view.ids) == 1 and count > 1 and not view.spread):
            _refuse_other_axis(survey, node, slot, view, from_end)
            values.append(unknown(1))
        else:
            sized = view.sized(count)
            if sized is None:
                raise UnfitError("its operands have different numbers of channels")
            views.append(sized)
            values.append(unknown(count) if sized.zero else sized.constant)
    return views, values


def _refuse_other_axis(survey: Survey, node: NodeProto, slot: int, view: View, from_end: int) -> None:
    """An operand seen along another axis may join only where it is one entry long along this one."""
    if view.from_end != from_end:
        survey.atoms.pin(view.ids, f"{node.op_type} joins it with channels along another axis")
        if survey.extents.from_end(node.input[slot], from_end) != 1:
            raise UnfitError("its operands have their channels along different axes")


def _count(survey: Survey, node: NodeProto, slots: list[int], found: dict[int, View], from_end: int) -> int:
    """How many channels there are: by a view, or by a constant beside one that is open."""
    sizes = [len(v.ids) for v in found.values() if v.from_end == from_end and not v.spread]
    if any(size > 1 for size in sizes) or not any(v.spread for v in found.values()):
        return max(sizes)
    known = [survey.extents.from_end(input_name(node, slot), from_end) for slot in slots if input_name(node, slot)]
    wide = [size for size in known if size is not None and size > 1]
    if not wide:
        view = next(v for v in found.values() if v.from_end == from_end)
        if len(found) == 1 and view.spread:
            raise UnfitError("how many times its channels repeat is not known")
        raise UnfitError("how many channels its operands have is not known")
    return max(wide)


def _beside(survey: Survey, node: NodeProto, slot: int, from_end: int, count: int) -> Float64:
    """An operand without channels of its own: what each channel of it is known to be."""
    name = input_name(node, slot)
    if not name:
        return unknown(1)
    value = survey.constant(node, slot)
    if value is None:
        size = survey.extents.from_end(name, from_end)
        if size != 1:
            raise UnfitError("it joins it with channels that no linear layer makes")
        return unknown(1)
    at = value.ndim - from_end
    if at < 0 or value.shape[at] == 1:
        return uniform(value[np.newaxis])
    if value.shape[at] != count:
        raise UnfitError("its constant has another number of channels")
    view = next(v for s in range(len(node.input)) if (v := survey.view(node, s)) is not None and v.from_end == from_end)
    sized = view.sized(count)
    assert sized is not None
    survey.cut(node, slot, at, sized.ids)
    return uniform(np.moveaxis(value, at, 0))


def uniform(values: Array) -> Float64:
    """One number for each entry of axis 0, NaN where the entries behind it differ."""
    flat = values.reshape(len(values), -1)
    if not flat.shape[1] or values.dtype.kind not in "fiubV":
        return unknown(len(values))
    wide = as_float64(flat)
    return np.where((wide == wide[:, :1]).all(axis=1), wide[:, 0], UNKNOWN)
