"""MaxPool and AveragePool.

MaxPool's gradient goes to the element its Indices output names: one winner a window, the first in row-major
order among equals (as ONNX Runtime and torch have it). Padding, ceil_mode and dilations need no rule of their
own. AveragePool divides the gradient by what the average was divided by and spreads it with a kernel of ones.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_clp.gradient.convolution import spread, window_of
from onnx_clp.gradient.tape import BackStep, Gradients, Rules, shape_of, sizes
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import windows
from onnx_clp.operators.windows import Window


def _max_pool(step: BackStep) -> Gradients:
    """Scatter the gradient to the winners; overlapping windows add up."""
    writer, gradient = step.writer, step.gradient
    window = window_of(step)
    overlaps = any(r > s for r, s in zip(window.reach, window.strides, strict=True))
    x = step.input()
    whole = sizes(step)
    count = writer.ints([math.prod(whole)]) if whole else x.op("Size", data_type=TensorProto.INT64).reshape([1])
    zeros = gradient.like(0.0).expand(count)
    form = {"axis": 0, "reduction": "add"} if overlaps else {"axis": 0}
    flat = zeros.op("ScatterElements", _winners(step).reshape([-1]), gradient.reshape([-1]), **form)
    return {0: flat.reshape(shape_of(step))}


def _winners(step: BackStep) -> Term:
    """Where each window's maximum stands in the flattened input: the node's own Indices output, added if need be."""
    node = step.node
    if windows.column_major(step.node):
        raise step.refuse("its storage_order is 1, column-major")
    if len(node.output) < 2:
        node.output.append("")
    if not node.output[1]:
        node.output[1] = step.writer.fresh(f"{node.output[0]}/winners")
    return step.writer.term(node.output[1], TensorProto.INT64)


def _average_pool(step: BackStep) -> Gradients:
    window = window_of(step)
    share = step.gradient / _divisor(step, window)
    ones = share.writer.constant(np.ones((1, 1, *window.kernel)), share.data_type)
    return {0: _per_plane(step, share, ones, window)}


def _per_plane(step: BackStep, share: Term, ones: Term, window: Window) -> Term:
    """Spread every channel on its own: channels become images of one channel (0 keeps a size in Reshape)."""
    planes = share.reshape([-1, 1, *[0] * len(window.kernel)])
    return spread(step, planes, ones, window, 1).reshape(shape_of(step))


def _divisor(step: BackStep, window: Window) -> Term | float:
    """How many elements each window's sum is divided by: a number, or one for each position."""
    include, ceil = windows.counts_padding(step.node), windows.rounds_up(step.node)
    padded = window.begins is None or window.ends is None or any(window.begins) or any(window.ends)
    if not ceil and (include or not padded):
        return float(math.prod(window.kernel))
    axes = range(2, 2 + len(window.kernel))
    inputs, outputs = sizes(step, 0, axes), step.writer.values.static(step.node.output[0], axes)
    if inputs is not None and outputs is not None and window.begins is not None:
        counts = _counts(window, inputs, outputs, include=include)
        return step.writer.constant(counts, step.gradient.data_type)
    if ceil:
        raise step.refuse("ceil_mode is 1 and the sizes of its input are not known")
    return _counts_at_run_time(step, window)


def _counts(window: Window, inputs: tuple[int, ...], outputs: tuple[int, ...], *, include: bool) -> NDArray[np.float64]:
    """The divisor of each window, shape (outputs): elements inside the input, or inside input and padding."""
    assert window.begins is not None
    assert window.ends is not None
    total = np.ones(())
    for at, (size, count) in enumerate(zip(inputs, outputs, strict=True)):
        begin, end = window.begins[at], window.ends[at]
        places = np.arange(count)[:, None] * window.strides[at] + np.arange(window.kernel[at]) * window.dilations[at]
        low, high = (0, size + begin + end) if include else (begin, begin + size)
        total = total[..., None] * ((places >= low) & (places < high)).sum(axis=1)
    return np.asarray(total, np.float64)


def _counts_at_run_time(step: BackStep, window: Window) -> Term:
    """The same without ceil_mode: the average of ones, padding counted as zeros, times the kernel's size."""
    whole = step.writer.shape(step.input()).slice([2], [2 + len(window.kernel)], [0], [1])
    shape = step.writer.op("Concat", step.writer.ints([1, 1]), whole, axis=0)
    ones = step.gradient.like(1.0).expand(shape)
    kept = windows.attributes_of_plain_average(step.node)
    return ones.op("AveragePool", count_include_pad=1, **kept) * float(math.prod(window.kernel))


GRADIENTS: Final[Rules] = {"MaxPool": _max_pool, "AveragePool": _average_pool}
