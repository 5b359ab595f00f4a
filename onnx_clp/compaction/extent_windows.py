"""What image sizes convolutions and pools leave: windows that slide over an image.

Sizes are tuples of int, None for one that is not known; a value whose number of dimensions is not known has none.
"""

from __future__ import annotations

from onnx import NodeProto

from onnx_clp.compaction.extents import Extents, Sizes
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import input_name


def _after(node: NodeProto, sizes: Sizes, kernel: tuple[int, ...]) -> Sizes:
    """Spatial sizes after a convolution or pooling window."""
    window = windows.window(node, kernel)
    out: list[int | None] = []
    for at, (size, stride) in enumerate(zip(sizes, window.strides, strict=True)):
        if size is None:
            out.append(None)
        elif window.begins is None or window.ends is None:
            out.append(-(-size // stride))
        else:
            room = size + window.begins[at] + window.ends[at] - window.reach[at]
            # A last window that begins in the padding does not count, which not every version says alike.
            out.append(room // stride + 1 if not windows.rounds_up(node) or room % stride == 0 else None)
    return tuple(out)


def conv(extents: Extents, node: NodeProto) -> Sizes | None:
    """Conv (opset 1 to 22) and ConvInteger: the weight's outputs, and windows of its kernel."""
    sizes, weight = extents.of(node.input[0]), extents.of(input_name(node, 1))
    if weight is None or None in weight[2:]:
        return None
    kernel = tuple(int(k or 0) for k in weight[2:])
    if sizes is None or len(sizes) != len(weight):
        return (None, weight[0], *[None] * len(kernel))
    return (sizes[0], weight[0], *_after(node, sizes[2:], kernel))


def conv_transpose(extents: Extents, node: NodeProto) -> Sizes | None:
    """ConvTranspose (opset 1 to 22); the image is not known where its own sizes or padding are asked for."""
    sizes, weight = extents.of(node.input[0]), extents.of(input_name(node, 1))
    if weight is None or weight[1] is None:
        return None
    count = len(weight) - 2
    channels = weight[1] * read.groups(node)
    window, more = windows.window(node, [taps or 0 for taps in weight[2:]]), windows.output_padding(node, count)
    plain = windows.output_shape(node) is None
    if sizes is None or len(sizes) != len(weight) or window.begins is None or window.ends is None or not plain:
        return (None if sizes is None else sizes[0], channels, *[None] * count)
    out: list[int | None] = []
    for at, (size, taps) in enumerate(zip(sizes[2:], weight[2:], strict=True)):
        if size is None or taps is None:
            out.append(None)
            continue
        whole = window.strides[at] * (size - 1) + more[at] + window.reach[at]
        out.append(whole - window.begins[at] - window.ends[at])
    return (sizes[0], channels, *out)


def pool(extents: Extents, node: NodeProto) -> Sizes | None:
    """MaxPool, AveragePool and LpPool (opset 1 to 22)."""
    sizes, kernel = extents.of(node.input[0]), windows.kernel_shape(node)
    if sizes is None or kernel is None or len(kernel) + 2 != len(sizes):
        return None
    return (*sizes[:2], *_after(node, sizes[2:], kernel))


def global_pool(extents: Extents, node: NodeProto) -> Sizes | None:
    """GlobalAveragePool and the like: one place a channel."""
    sizes = extents.of(node.input[0])
    return None if sizes is None else (*sizes[:2], *[1] * (len(sizes) - 2))
