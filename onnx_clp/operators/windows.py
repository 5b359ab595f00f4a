"""Parameters of operators that work on images: windows, borders, blocks and scales.

Like `read`, which it is a part of, with the same `known`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from onnx import AttributeProto, NodeProto

from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import attribute, input_name, text_attribute
from onnx_clp.operators.read import Known

WEIGHT_INPUT: Final = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}
"""Operators that slide a weight, and the input it is."""
SLIDING: Final = frozenset(("AveragePool", "MaxPool", "LpPool", "MaxUnpool", *WEIGHT_INPUT))
"""Operators that have what `window` reads."""
ATTRIBUTE_TYPES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "pads"), AttributeProto.INTS),
    **dict.fromkeys(("output_padding", "output_shape"), AttributeProto.INTS),
    "group": AttributeProto.INT,
    "auto_pad": AttributeProto.STRING,
}
"""Of the attributes of a window: what type each has to be before anything here, or `read.groups`, may read it."""
_SAME: Final = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """The window that slides over an image, one number a spatial axis.

    `begins` and `ends`, how many entries are added before and behind the image, are both None for auto_pad SAME_*,
    which adds as many as make ceil(size / stride) places; the odd one goes behind where `upper` says so, else in front.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...] | None
    ends: tuple[int, ...] | None
    upper: bool = True

    @property
    def reach(self) -> tuple[int, ...]:
        """How many inputs a window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads_nothing(self) -> bool:
        """Whether nothing is added around the image; False where that depends on its size."""
        return self.begins is not None and self.ends is not None and not any((*self.begins, *self.ends))

    def padded(self, begins: tuple[int, ...] | None, ends: tuple[int, ...] | None) -> Window:
        """The same window with other pads."""
        return replace(self, begins=begins, ends=ends)


def window(node: NodeProto, kernel: Sequence[int] | None = None) -> Window:
    """The window of a convolution, of `kernel`, or of a pool (ONNX Conv, ConvTranspose, MaxPool: opset 1 to 22)."""
    kernel = tuple(kernel_shape(node) or () if kernel is None else kernel)
    count = len(kernel)
    strides, dilations = (_ints(node, name) or (1,) * count for name in ("strides", "dilations"))
    plain = Window(kernel, strides, dilations, (0,) * count, (0,) * count)
    mode = auto_pad(node)
    if mode in _SAME:
        return replace(plain, begins=None, ends=None, upper=mode == "SAME_UPPER")
    pads = _ints(node, "pads")
    if mode == "VALID" or not pads:
        return plain
    half = len(pads) // 2
    return plain.padded(pads[:half], pads[half:])


def stated(node: NodeProto) -> dict[str, tuple[int, ...]]:
    """The lists of a window without defaults, by the names in `ATTRIBUTE_TYPES`; () for what is left out."""
    return {name: _ints(node, name) for name, kind in ATTRIBUTE_TYPES.items() if kind == AttributeProto.INTS}


def auto_pad(node: NodeProto) -> str:
    """Convolutions and pools: how pads are found, "NOTSET" for not at all."""
    return text_attribute(node, "auto_pad", "NOTSET")


def _ints(node: NodeProto, name: str) -> tuple[int, ...]:
    return tuple(int(v) for v in attribute(node, name) or ())


def kernel_shape(node: NodeProto) -> tuple[int, ...] | None:
    """Pools and convolutions: the sizes of the window; None where left out, as a convolution may."""
    return _ints(node, "kernel_shape") or None


def rounds_up(node: NodeProto) -> bool:
    """Pools: whether a last window that begins inside counts though it ends outside."""
    return bool(attribute(node, "ceil_mode", 0))


def counts_padding(node: NodeProto) -> bool:
    """AveragePool: whether added zeros count in the average."""
    return bool(attribute(node, "count_include_pad", 0))


def attributes_of_plain_average(node: NodeProto) -> dict[str, Any]:
    """AveragePool: its attributes, but whether added zeros count."""
    return {one.name: attribute(node, one.name) for one in node.attribute if one.name != "count_include_pad"}


def column_major(node: NodeProto) -> bool:
    """MaxPool: whether its indices count column by column."""
    return bool(attribute(node, "storage_order", 0))


def channels_last(node: NodeProto) -> bool:
    """Pools on integers (com.microsoft): whether the channels are the last axis."""
    return bool(attribute(node, "channels_last", 0))


def output_padding(node: NodeProto, count: int) -> tuple[int, ...]:
    """ConvTranspose: entries added behind the output, one number for each of `count` spatial axes."""
    return _ints(node, "output_padding") or (0,) * count


def output_shape(node: NodeProto) -> tuple[int, ...] | None:
    """ConvTranspose: the sizes asked for instead of pads; None where left out."""
    return _ints(node, "output_shape") or None


# Pad


def pad_mode(node: NodeProto) -> str:
    """Pad: "constant", "edge", "reflect" or "wrap"."""
    return text_attribute(node, "mode", "constant")


def pad_value(node: NodeProto, known: Known) -> float | None:
    """Pad: the number put around (opset 1 to 10 an attribute, then input 2); None where it is not constant."""
    if not input_name(node, 2):
        return float(attribute(node, "value", 0.0))
    value = known(node.input[2])
    return None if value is None or value.size != 1 else float(as_float64(value).reshape(-1)[0])


# Resize and Upsample


def scales_slot(node: NodeProto, opset: int) -> int:
    """Where Resize and Upsample have their scales as an input."""
    return 1 if node.op_type == "Upsample" or opset < 11 else 2


def scales(node: NodeProto, known: Known, opset: int) -> tuple[float, ...] | None:
    """Resize, Upsample: a factor an axis; None where left out (sizes are given instead) or not constant."""
    listed = attribute(node, "scales")
    if listed is not None:
        return tuple(float(v) for v in listed)
    name = input_name(node, scales_slot(node, opset))
    value = known(name) if name else None
    return None if value is None or not value.size else tuple(np.asarray(as_float64(value)).reshape(-1).tolist())


def crops(node: NodeProto) -> bool:
    """Resize: whether it takes a part of the image (coordinate_transformation_mode tf_crop_and_resize)."""
    return text_attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def keeps_ratio(node: NodeProto) -> bool:
    """Resize: whether the sizes it gives are not those asked for, so that the image keeps its proportions."""
    return text_attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch"


def attributes_of_all_axes(node: NodeProto) -> dict[str, Any]:
    """Resize: its attributes, but which axes it works on."""
    return {one.name: attribute(node, one.name) for one in node.attribute if one.name != "axes"}


# DepthToSpace and SpaceToDepth


def block_edge(node: NodeProto) -> int:
    """DepthToSpace, SpaceToDepth: places along an edge of a block."""
    return int(attribute(node, "blocksize", 1))


def column_first(node: NodeProto) -> bool:
    """DepthToSpace: whether the channels of a block lie together (mode CRD), instead of apart (DCR)."""
    return text_attribute(node, "mode", "DCR") == "CRD"
