"""Conv and ConvTranspose, each the adjoint of the other.

With stride s, dilation d, kernel k, pads p0 and p1, an output position o of Conv reads the inputs
o·s + j·d − p0 (j < k), so ConvTranspose with the same weight, stride and dilation spreads a gradient to where it
came from; output_padding makes up for the inputs the last window did not reach. Where the stride is 1 the same
sum is a Conv with the kernel turned round and d·(k−1) − p pads, which runs faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onnx_clp.gradient.tape import BackStep, Gradients, Rules, sizes
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read, windows
from onnx_clp.operators.windows import Window


def window_of(step: BackStep, kernel: Sequence[int] | None = None) -> Window:
    """The window of a convolution of `kernel` or of a pool, auto_pad worked out where the input's sizes are known."""
    found = windows.window(step.node, kernel)
    totals = _same_totals(step, found) if found.begins is None else None
    if totals is None:
        return found
    less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return found.padded(less, more) if found.upper else found.padded(more, less)


def _same_totals(step: BackStep, window: Window) -> tuple[int, ...] | None:
    """Padding of SAME_*: so much that the output has ceil(input / stride) positions."""
    known = sizes(step, 0, range(2, 2 + len(window.kernel)))
    if known is None:
        if all(s == 1 for s in window.strides):
            return tuple(r - 1 for r in window.reach)
        return None
    counts = [-(-size // s) for size, s in zip(known, window.strides, strict=True)]
    return tuple(
        max((o - 1) * s + r - size, 0)
        for o, s, r, size in zip(counts, window.strides, window.reach, known, strict=True)
    )


def _conv(step: BackStep) -> Gradients:
    step.only(0, 2)
    out = {}
    if step.wants(0):
        out[0] = _conv_input(step)
    if step.wants(2):
        out[2] = step.gradient.sum([0, *range(2, step.rank(1))])
    return out


def _conv_input(step: BackStep) -> Term:
    weight = sizes(step, 1)
    if weight is None:
        raise step.refuse("the shape of its weight is not known")
    window = window_of(step, weight[2:])
    group = read.groups(step.node)
    if _turns(window):
        return _turned_conv(step, window, weight, group)
    return spread(step, step.gradient, step.input(1), window, group)


def _turns(window: Window) -> bool:
    """Whether the adjoint can be a Conv: stride 1 and no more padding than the window reaches."""
    if window.begins is None or window.ends is None or any(s != 1 for s in window.strides):
        return False
    return all(max(b, e) < r for b, e, r in zip(window.begins, window.ends, window.reach, strict=True))


def _turned_conv(step: BackStep, window: Window, weight: tuple[int, ...], group: int) -> Term:
    assert window.begins is not None
    assert window.ends is not None
    turned = _turned_weight(step.input(1), weight, group)
    begins = [r - 1 - b for r, b in zip(window.reach, window.begins, strict=True)]
    ends = [r - 1 - e for r, e in zip(window.reach, window.ends, strict=True)]
    return step.gradient.op(
        "Conv",
        turned,
        group=group,
        kernel_shape=list(window.kernel),
        dilations=list(window.dilations),
        strides=list(window.strides),
        pads=begins + ends,
    )


def _turned_weight(value: Term, weight: tuple[int, ...], group: int) -> Term:
    """(O, I/g, kernel) to (I, O/g, kernel), the kernel turned round."""
    outputs, inputs, *kernel = weight
    rank = len(weight)
    if group == 1:
        value = value.transpose([1, 0, *range(2, rank)])
    elif outputs != group or inputs != 1:
        value = value.reshape([group, outputs // group, inputs, *kernel]).transpose([0, 2, 1, *range(3, rank + 1)])
        value = value.reshape([group * inputs, outputs // group, *kernel])
    long = [2 + at for at, k in enumerate(kernel) if k > 1]
    if not long:
        return value
    count, lowest = len(long), -(2**63)
    return value.slice([-1] * count, [lowest] * count, long, [-1] * count)


def spread(step: BackStep, gradient: Term, weight: Term, window: Window, group: int) -> Term:
    """ConvTranspose of a gradient to the shape of the node's first input."""
    spatial = len(window.kernel)
    axes = range(2, 2 + spatial)
    inputs, outputs = sizes(step, 0, axes), step.writer.values.static(step.node.output[0], axes)
    common: dict[str, Any] = {
        "group": group,
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
    }
    if inputs is None or outputs is None or window.begins is None:
        whole = gradient.op("ConvTranspose", weight, output_padding=[s - 1 for s in window.strides], **common)
        return _cut(step, whole, window)
    reached = [(o - 1) * s + r for o, s, r in zip(outputs, window.strides, window.reach, strict=True)]
    beyond = [r - b - size for r, b, size in zip(reached, window.begins, inputs, strict=True)]
    pads = [*window.begins, *(max(b, 0) for b in beyond)]
    return gradient.op("ConvTranspose", weight, pads=pads, output_padding=[max(-b, 0) for b in beyond], **common)


def _cut(step: BackStep, whole: Term, window: Window) -> Term:
    """The part of an unpadded ConvTranspose's result that lies on the input, sizes read while the model runs."""
    writer, spatial = step.writer, len(window.kernel)
    axes = writer.ints(range(2, 2 + spatial))
    size = writer.shape(step.input()).slice([2], [2 + spatial], [0], [1])
    begins = writer.ints(window.begins) if window.begins is not None else _same_begins(step, size, window)
    return whole.op("Slice", begins, begins + size, axes)


def _same_begins(step: BackStep, size: Term, window: Window) -> Term:
    """The begin padding of SAME_*: total = max((ceil(size/s) − 1)·s + reach − size, 0), half of it in front."""
    writer = step.writer
    strides, reach = writer.ints(window.strides), writer.ints(window.reach)
    counts = (size + strides - writer.ints([1])) / strides
    total = ((counts - writer.ints([1])) * strides + reach - size).op("Max", writer.ints([0]))
    return (total if window.upper else total + writer.ints([1])) / writer.ints([2])


# ConvTranspose


def _conv_transpose(step: BackStep) -> Gradients:
    step.only(0, 2)
    out = {}
    if step.wants(0):
        out[0] = _gathered(step)
    if step.wants(2):
        out[2] = step.gradient.sum([0, *range(2, step.rank(1))])
    return out


def _gathered(step: BackStep) -> Term:
    """Conv with the same weight, strides and dilations: input i went to the outputs i·s + j·d − p0 (j < k)."""
    weight = sizes(step, 1)
    if weight is None:
        raise step.refuse("the shape of its weight is not known")
    spatial = len(weight) - 2
    window = _transposed_pads(step, windows.window(step.node, weight[2:]))
    assert window.begins is not None
    assert window.ends is not None
    gradient = step.gradient.op(
        "Conv",
        step.input(1),
        group=read.groups(step.node),
        kernel_shape=list(window.kernel),
        strides=list(window.strides),
        dilations=list(window.dilations),
        pads=[*window.begins, *(max(e, 0) for e in window.ends)],
    )
    if all(-e < s for e, s in zip(window.ends, window.strides, strict=True)):
        return gradient
    size = step.writer.shape(step.input()).slice([2], [2 + spatial], [0], [1])
    axes = step.writer.ints(range(2, 2 + spatial))
    return gradient.op("Slice", step.writer.ints([0] * spatial), size, axes)


def _transposed_pads(step: BackStep, window: Window) -> Window:
    """The padding that gives ConvTranspose's input its size back; ends are negative where outputs are read by none.

    An output has (input − 1)·s + reach + output_padding − p0 − p1 positions; auto_pad SAME_* and output_shape name
    that number instead and leave p0 and p1 to be worked out (operator version 11).
    """
    added = windows.output_padding(step.node, len(window.kernel))
    if windows.output_shape(step.node) is None and window.begins is not None and window.ends is not None:
        return window.padded(window.begins, tuple(p - a for p, a in zip(window.ends, added, strict=True)))
    totals = _transposed_totals(step, window, added)
    upper = window.begins is None and window.upper
    begins = tuple(max(t, 0) // 2 if upper else max(t, 0) - max(t, 0) // 2 for t in totals)
    return window.padded(begins, tuple(t - b - a for t, b, a in zip(totals, begins, added, strict=True)))


def _transposed_totals(step: BackStep, window: Window, added: tuple[int, ...]) -> list[int]:
    """p0 + p1 of a ConvTranspose whose output size is named."""
    reach, strides = window.reach, window.strides
    named = windows.output_shape(step.node)
    if named is None:
        return [r + a - s for r, a, s in zip(reach, added, strides, strict=True)]
    inputs, outputs = sizes(step, 0, range(2, 2 + len(reach))), named[-len(reach) :]
    if inputs is None:
        raise step.refuse("it names its output_shape and the sizes of its input are not known")
    return [(i - 1) * s + r + a - o for i, o, s, r, a in zip(inputs, outputs, strides, reach, added, strict=True)]


GRADIENTS: Final[Rules] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
