"""What image sizes convolutions and pools leave: windows that slide over an image.

Sizes are tuples of int, None for one that is not known; a value whose number of dimensions is not known has none.
"""

from __future__ import annotations

from onnx import NodeProto

from onnx_clp.compaction.extents import Extents, Sizes
from onnx_clp.operators.nodes import attribute, input_name, text_attribute


def _window(node: NodeProto, sizes: Sizes, kernel: list[int]) -> Sizes:
    """Spatial sizes after a convolution or pooling window (ONNX Conv, MaxPool: pads, auto_pad, ceil_mode)."""
    strides = attribute(node, "strides") or [1] * len(kernel)
    dilations = attribute(node, "dilations") or [1] * len(kernel)
    pads = attribute(node, "pads") or [0] * 2 * len(kernel)
    automatic = text_attribute(node, "auto_pad", "NOTSET")
    out: list[int | None] = []
    for at, size in enumerate(sizes):
        if size is None:
            out.append(None)
            continue
        reach = dilations[at] * (kernel[at] - 1) + 1
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            out.append(-(-size // strides[at]))
            continue
        room = size + (0 if automatic == "VALID" else pads[at] + pads[at + len(kernel)]) - reach
        # A last window that begins in the padding does not count, which not every version says alike.
        whole = room // strides[at] + 1
        out.append(whole if not attribute(node, "ceil_mode", 0) or room % strides[at] == 0 else None)
    return tuple(out)


def conv(extents: Extents, node: NodeProto) -> Sizes | None:
    """Conv (opset 1 to 22) and ConvInteger: the weight's outputs, and windows of its kernel."""
    sizes, weight = extents.of(node.input[0]), extents.of(input_name(node, 1))
    if weight is None or None in weight[2:]:
        return None
    kernel = [int(k or 0) for k in weight[2:]]
    if sizes is None or len(sizes) != len(weight):
        return (None, weight[0], *[None] * len(kernel))
    return (sizes[0], weight[0], *_window(node, sizes[2:], kernel))


def conv_transpose(extents: Extents, node: NodeProto) -> Sizes | None:
    """ConvTranspose (opset 1 to 22); the image is not known where its own sizes or padding are asked for."""
    sizes, weight = extents.of(node.input[0]), extents.of(input_name(node, 1))
    if weight is None or weight[1] is None:
        return None
    count = len(weight) - 2
    channels = weight[1] * int(attribute(node, "group", 1))
    plain = not any(attribute(node, name) for name in ("output_shape", "auto_pad"))
    if sizes is None or len(sizes) != len(weight) or not plain:
        return (None if sizes is None else sizes[0], channels, *[None] * count)
    strides, pads = attribute(node, "strides") or [1] * count, attribute(node, "pads") or [0] * 2 * count
    dilations, extra = attribute(node, "dilations") or [1] * count, attribute(node, "output_padding") or [0] * count
    out: list[int | None] = []
    for at, (size, taps) in enumerate(zip(sizes[2:], weight[2:], strict=True)):
        if size is None or taps is None:
            out.append(None)
            continue
        reach = dilations[at] * (taps - 1) + 1
        out.append(strides[at] * (size - 1) + extra[at] + reach - pads[at] - pads[at + count])
    return (sizes[0], channels, *out)


def pool(extents: Extents, node: NodeProto) -> Sizes | None:
    """MaxPool, AveragePool and LpPool (opset 1 to 22)."""
    sizes, kernel = extents.of(node.input[0]), attribute(node, "kernel_shape")
    if sizes is None or kernel is None or len(kernel) + 2 != len(sizes):
        return None
    return (*sizes[:2], *_window(node, sizes[2:], [int(k) for k in kernel]))


def global_pool(extents: Extents, node: NodeProto) -> Sizes | None:
    """GlobalAveragePool and the like: one place a channel."""
    sizes = extents.of(node.input[0])
    return None if sizes is None else (*sizes[:2], *[1] * (len(sizes) - 2))
