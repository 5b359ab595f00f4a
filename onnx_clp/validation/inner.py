"""A fold checked where it was made: at the values inside the graph that folding gave another maker.

A network can magnify rounding, or end in a Sigmoid that answers noise with numbers near 0: then the outputs of a sound
fold differ by more than any tolerance. Where a fold was made, the value behind the normalisation has the same name in
both models and is computed in two ways. If all such values agree, channel by channel, the fold is sound, whatever the
unchanged rest of the graph makes of their rounding; a channel that is wrong shows here undiluted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.operators.nodes import is_dequantizer, is_op
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait
from onnx_clp.validation.anatomy import read_skeleton
from onnx_clp.validation.changed import changed_values
from onnx_clp.validation.compare import is_float, wide
from onnx_clp.validation.mapping import giving_out
from onnx_clp.validation.measuring import Measured, nudged
from onnx_clp.validation.session import Array, FailureKind, Feeds, OrtRunner, Outputs, RunError
from onnx_clp.validation.terms import Terms

Float64 = NDArray[np.float64]

ROUNDINGS: Final = 3.0
"""Times what moving the inputs by one unit of their rounding does, or the tolerance, that a value may differ by."""

_AT_ONCE: Final = 12
_FINE: Final = 1e-3
_WRONG: Final = 5e-3
_JUMPING: Final = (Kind.COMPARE, Kind.PICK, Kind.SEARCH, Kind.CONTROL)
_STEPS: Final = ("Round", "Floor", "Ceil", "Sign")
_GAPS: Final = ("Shrink", "ThresholdedRelu", "Hardmax", "Mod")
_SMALL_CHANNEL: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a value differs between the models, by its worst channel; `allowed` is what rounding explains."""

    value: str
    error: float
    allowed: float

    @property
    def sound(self) -> bool:
        """Whether rounding explains it."""
        return self.error <= self.allowed


def differences(before: Path, after: Path, terms: Terms, feeds: Sequence[Feeds]) -> list[Difference]:
    """How far every changed value differs on the feeds; empty where none can be looked at.

    Raises:
        RunError: a model does not run with more outputs.
    """
    names = changed_values(before, after)
    found = []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        first, then = (_Probe(path, part, terms) for path in (before, after))
        if first.runner is not None and then.runner is not None:
            found += list(_compared(part, first, then, terms, feeds))
    return found


def watching(terms: Terms) -> Terms:
    """Terms under which the input's and the folded model's first runs show the values that `spoiled` compares.

    Without them it runs both models once more. On a GPU and with evaluation data, where sessions run many times,
    and where nothing is compared, the terms stay as they are.
    """
    request = terms.request
    if request.folded is None or request.tolerance is not None or terms.exam is not None or terms.engine.on_gpu:
        return terms
    if terms.anatomy.random or not _comparable(terms, request.original):
        return terms
    return replace(terms, watch=tuple(changed_values(request.original, request.folded)))


def _comparable(terms: Terms, before: Path) -> bool:
    return terms.tolerance <= _FINE and not terms.reference and not _has_steps(before)


def spoiled(before: Path, after: Path, terms: Terms, original: Measured, changed: Measured) -> Difference | None:
    """The value, if any, of which a channel differs by more than rounding and half a per cent.

    Looked for on the first feed. A network of many channels can hide a wrong one from its outputs; here it shows. Where
    a step in the network (quantisation, a comparison) can turn rounding into a jump nothing is looked at, nor where the
    arithmetic itself is as coarse as that.

    Raises:
        RunError: a model does not run with more outputs.
    """
    feed = original.feeds[0]
    if original.seen and changed.seen:
        return _wrong(before, after, original.seen, changed.seen, terms, feed)
    if not _comparable(terms, before):
        return None
    names = changed_values(before, after)
    if not names:
        return None
    try:
        return _worst(before, after, names, terms, feed)
    except RunError as error:
        if error.kind is not FailureKind.MEMORY or len(names) <= _AT_ONCE:
            raise
    parts = (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))
    return next((one for part in parts if (one := _worst(before, after, part, terms, feed))), None)


def _worst(before: Path, after: Path, names: Sequence[str], terms: Terms, feed: Feeds) -> Difference | None:
    """The first of some values that is wrong."""
    wanted, got = (_Probe(path, names, terms).run(feed, names) for path in (before, after))
    return _wrong(before, after, wanted, got, terms, feed)


def _wrong(before: Path, after: Path, wanted: Outputs, got: Outputs, terms: Terms, feed: Feeds) -> Difference | None:
    """The first value that differs by more than rounding explains, of those that both models gave on the feed."""
    far = [name for name in wanted if _is_far(wanted[name], got[name])]
    if not far:
        return None
    first, then = (_Probe(path, far, terms) for path in (before, after))
    return next((one for one in _compared(far, first, then, terms, [feed]) if not one.sound), None)


def _is_far(wanted: Array, got: Array) -> bool:
    """Whether a channel differs by more than `_WRONG`; nearly always the largest difference of all says no."""
    if wanted.shape == got.shape and wanted.dtype == got.dtype == np.float32 and wanted.size:
        with np.errstate(all="ignore"):
            if np.abs(wanted - got).max() <= _WRONG * _SMALL_CHANNEL * np.abs(wanted).max():
                return False
    return by_channel(wanted, got) > _WRONG


def _has_steps(path: Path) -> bool:
    model = read_skeleton(path)
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    return any(_jumps(node) for body in bodies for node in body)


def _jumps(node: NodeProto) -> bool:
    """Whether rounding of what comes in can become a jump of what goes out; what holds graphs counts."""
    if is_a(node, Kind.QUANTISE) and not is_dequantizer(node):
        return True
    return is_a(node, *_JUMPING) or keeps(node, Trait.ROUNDS) or is_op(node, *_STEPS) or is_op(node, *_GAPS)


class _Probe:
    """A model that gives inner values out; its runner is None where its weights cannot be mapped."""

    def __init__(self, path: Path, names: Sequence[str], terms: Terms) -> None:
        model, _ = giving_out(path, names)
        self.runner = None if terms.reference else OrtRunner(path, terms.engine, terms.plan(path), model)

    def run(self, feed: Feeds, names: Sequence[str]) -> dict[str, Array]:
        """The inner values."""
        assert self.runner is not None
        return dict(self.runner.run(feed, names))


def _compared(
    names: Sequence[str], first: _Probe, then: _Probe, terms: Terms, feeds: Sequence[Feeds]
) -> Iterator[Difference]:
    generator = np.random.default_rng(terms.request.limits.seed)
    worst, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in feeds:
        wanted, got = first.run(feed, names), then.run(feed, names)
        moved = first.run(nudged(feed, generator), names)
        for name in names:
            worst[name] = max(worst[name], by_channel(wanted[name], got[name]))
            noise[name] = max(noise[name], by_channel(wanted[name], moved[name]))
    for name in names:
        yield Difference(name, worst[name], ROUNDINGS * max(terms.tolerance, noise[name]))


def by_channel(wanted: Array, got: Array) -> float:
    """The largest max|Δ| / max|wanted| of a channel (axis 1, else the last); infinite where shapes or NaNs differ.

    Of a channel that is far smaller than the others the denominator is a thousandth of the largest.
    """
    if wanted.shape != got.shape or not is_float(wanted.dtype):
        return 0.0 if np.array_equal(wanted, got) else float("inf")
    a, b = wide(wanted), wide(got)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    axis = 1 if a.ndim > 2 else a.ndim - 1
    rows = [
        np.nan_to_num(np.moveaxis(np.atleast_1d(v), axis, 0).reshape(v.shape[axis] if v.ndim else 1, -1))
        for v in (a, b)
    ]
    size = np.abs(rows[0]).max(axis=1, initial=0.0)
    floor = _SMALL_CHANNEL * size.max(initial=0.0)
    delta = np.abs(rows[1] - rows[0]).max(axis=1, initial=0.0)
    return float((delta / np.maximum(np.maximum(size, floor), np.finfo(np.float64).tiny)).max(initial=0.0))
