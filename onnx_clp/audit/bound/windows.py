"""How bounds pass what slides a window over an image, and products with a matrix (ONNX Conv, pools, Gemm, MatMul)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.bound.field import Field, NoBoundError, Product, Track
from onnx_clp.audit.bound.step import Rule, Step
from onnx_clp.numerics import intervals
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import operator
from onnx_clp.operators.windows import Window

Array = NDArray[Any]


def _conv(step: Step) -> Field:
    field, weights = _image(step), step.needed(1)
    groups = read.groups(step.node)
    if weights.ndim != 4 or weights.shape[1] * groups != field.channels:
        raise NoBoundError("Conv of other than two dimensions")
    count, inputs = weights.shape[:2]
    window = windows.window(step.node, weights.shape[2:])
    rows, columns = _tracks(field, window)
    bias = step.constant(2)
    spread = intervals.linear(
        field.spread if window.pads_nothing else intervals.widened(field.spread, 0.0),
        weights.reshape(groups, count // groups, inputs, -1),
        np.zeros(count) if bias is None else bias.astype(np.float64).reshape(-1),
        _classes(window),
        rows.moved * columns.moved,
    )
    return Field(spread, ("N", "C", "H", "W"), field.batch, rows, columns)


def _image(step: Step) -> Field:
    field = step.field()
    if not field.lies("N", "C", "H", "W"):
        raise NoBoundError(f"{operator(step.node)} of other than images")
    return field


def _tracks(field: Field, window: Window, *, up: bool = False) -> tuple[Track, Track]:
    """Rows and columns of what the windows give; `up`: a last window that ends outside counts."""
    return _track(field.rows, window, 0, up), _track(field.columns, window, 1, up)


def _track(track: Track, window: Window, at: int, up: bool) -> Track:
    reach, stride = window.reach[at], window.strides[at]
    if window.begins is None or window.ends is None:
        size = -(-track.size // stride)
        missing = max(0, (size - 1) * stride + reach - track.size)
        return track.seen(size, reach, stride, missing // 2 if window.upper else missing - missing // 2)
    room = track.size + window.begins[at] + window.ends[at] - reach
    if room < 0:
        raise NoBoundError("a window larger than its image")
    return track.seen((-(-room // stride) if up else room // stride) + 1, reach, stride, window.begins[at])


def _classes(window: Window) -> list[int]:
    """For each entry of the kernel which windows can meet an entry of the image with it: those of one remainder."""
    axes = [
        [(at * dilation) % stride for at in range(size)]
        for size, stride, dilation in zip(window.kernel, window.strides, window.dilations, strict=True)
    ]
    return [first * window.strides[1] + second for first, second in itertools.product(*axes)]


def _pool(step: Step) -> Field:
    field, window = _image(step), windows.window(step.node)
    rows, columns = _tracks(field, window, up=windows.rounds_up(step.node))
    classes = _classes(window)
    overlap = max(classes.count(one) for one in classes)
    mean = step.node.op_type == "AveragePool"
    full = window.pads_nothing or windows.counts_padding(step.node)
    fewest = math.prod(window.kernel) if mean and full and not windows.rounds_up(step.node) else 1
    spread = field.spread if window.pads_nothing or not mean else intervals.widened(field.spread, 0.0)
    pooled = intervals.pooled(spread, rows.moved * columns.moved, overlap, fewest)
    return Field(pooled, ("N", "C", "H", "W"), field.batch, rows, columns)


def _gemm(step: Step) -> Field:
    turned, across = read.transposed(step.node)
    if turned:
        raise NoBoundError("Gemm of a transposed value")
    weights = step.needed(1)
    found = _product(step.field(), (weights if across else weights.T) * np.float64(read.alpha(step.node)))
    bias = step.constant(2)
    if bias is None:
        return found
    shift = found.by_channel(bias.astype(np.float64) * read.beta(step.node))
    return replace(found, spread=intervals.shifted(found.spread, *shift))


def _matmul(step: Step) -> Field:
    weights = step.needed(1)
    if weights.ndim != 2:
        raise NoBoundError("MatMul of more than a matrix")
    return _product(step.field(), weights.T)


def _product(field: Field, weights: Array) -> Field:
    """The product with `weights`, (outputs, entries): the last axis holds channels with all their places."""
    letters = "".join(field.axes[-1:])
    places = {"H", "W"} & {one for group in field.axes[:-1] for one in group}
    sizes = [field.sizes[one] for one in letters]
    if len(field.axes) != 2 or places or math.prod(sizes) != weights.shape[1]:
        raise NoBoundError("a product with a matrix over other axes than channels")
    if "C" not in letters:
        letters, sizes = f"C{letters}", [1, *sizes]
    apart = np.moveaxis(weights.reshape(-1, *sizes), 1 + letters.index("C"), 1)
    apart = apart.reshape(len(weights), field.channels, -1)
    taps = range(apart.shape[2])
    spread = intervals.linear(field.spread, apart[None], np.zeros(len(weights)), list(taps), 1)
    return Field(spread, ("N", "C"), field.batch, Track(1), Track(1), Product(apart, field.spread))


WINDOWED: Final[Mapping[str, Rule]] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
