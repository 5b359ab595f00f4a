"""Where an operator keeps its parameters: an attribute in one opset, an input in another.

The only place that reads attributes by name, with `windows` and `compute` beside it; `check` looks before at whether
they can be read at all. Each reader is for the operators that its docstring names. `known` gives the value of a
constant by its name (`GraphIndex.constant`), None where it is none. Defaults are those of the ONNX operator
specifications, opset 1 to 26.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import attribute, input_name, set_attribute, text_attribute

Array = NDArray[Any]
Known = Callable[[str], "Array | None"]

_LONGEST: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class IntList:
    """A list of integers: the attribute `name`, in later opsets the input `slot` (None: always an attribute).

    `elsewhere` names the operators that keep it at another slot, `older` what the attribute was called in opset 1.
    """

    name: str
    slot: int | None = 1
    elsewhere: Mapping[str, int | None] = field(default_factory=dict)
    older: str = ""

    def of(self, node: NodeProto, known: Known) -> tuple[int, ...] | None:
        """The integers; None where the node leaves them out, or its input is no constant list of integers."""
        listed = self.listed(node)
        if listed is not None:
            return listed
        name = self.input(node)
        value = known(name) if name else None
        if value is None or value.dtype.kind not in "iu" or value.size > _LONGEST:
            return None
        return tuple(value.reshape(-1).tolist())

    def listed(self, node: NodeProto) -> tuple[int, ...] | None:
        """What the attribute lists; None where there is none."""
        found = attribute(node, self.name)
        if found is None and self.older:
            found = attribute(node, self.older)
        if found is None:
            return None
        return tuple(int(v) for v in (found if isinstance(found, list) else [found]))

    def input(self, node: NodeProto) -> str:
        """The name at the input slot; "" where the node has none there."""
        slot = self.elsewhere.get(node.op_type, self.slot)
        return "" if slot is None else input_name(node, slot)

    def left_out(self, node: NodeProto) -> bool:
        """Whether the node states none, neither as attribute nor as input."""
        return not self.input(node) and self.listed(node) is None

    def set(self, node: NodeProto, values: list[int]) -> None:
        """State them as attribute."""
        set_attribute(node, self.name, values)


AXES: Final = IntList("axes", 1, {"Slice": 3, "Pad": 3, "Resize": None})
"""Squeeze, Unsqueeze, Reduce*, Slice, Pad, Resize."""
PADS: Final = IntList("pads", 1, older="paddings")
"""Pad: before each axis, then behind each."""
SPLIT: Final = IntList("split")
"""Split: the size of each part."""
SHAPE: Final = IntList("shape")
"""Reshape: the sizes asked for, 0 and -1 included."""
STARTS: Final = IntList("starts", 1)
"""Slice."""
ENDS: Final = IntList("ends", 2)
"""Slice."""
STEPS: Final = IntList("steps", 4)
"""Slice: 1 each where left out."""
SIZES: Final = IntList("sizes", 3)
"""Resize, opset 11 and up."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound of a Clip: the attribute `name` below opset 11, the input `slot` from there on."""

    name: str
    slot: int

    def of(self, node: NodeProto, known: Known) -> Array | None:
        """The bound, of the type it is stored in; None where there is none, or it is no constant."""
        name = input_name(node, self.slot)
        if name:
            return known(name)
        found = attribute(node, self.name)
        return None if found is None else np.asarray(found)

    def left_out(self, node: NodeProto) -> bool:
        """Whether the node states none."""
        return not input_name(node, self.slot) and attribute(node, self.name) is None

    def set(self, node: NodeProto, value: float) -> None:
        """State it as attribute."""
        set_attribute(node, self.name, float(value))


LOW: Final = Limit("min", 1)
HIGH: Final = Limit("max", 2)


def clip_limits(node: NodeProto, known: Known) -> tuple[float | None, float | None]:
    """Clip's lower and upper bound, ∓inf where left out; None for one that is no constant number."""
    return _number(node, LOW, -math.inf, known), _number(node, HIGH, math.inf, known)


def _number(node: NodeProto, limit: Limit, absent: float, known: Known) -> float | None:
    if limit.left_out(node):
        return absent
    found = limit.of(node, known)
    return None if found is None or found.size != 1 else float(as_float64(found).reshape(-1)[0])


# Axes


_AXIS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("Concat", "Flatten", "QuantizeLinear", "DequantizeLinear"), 1),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "LpNormalization", "OneHot", "TopK"), -1),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), -1),
}


def axis(node: NodeProto) -> int:
    """Concat, Split, Gather, Flatten, LayerNormalization, ArgMax and the like: the axis, as written.

    Of Softmax, LogSoftmax and Hardmax of opset 13 and up; below they work on all axes from a first one on.
    """
    return int(attribute(node, "axis", _AXIS.get(node.op_type, 0)))


def axis_of_quantization(node: NodeProto, rank: int) -> int:
    """QuantizeLinear, DequantizeLinear: the axis of the scales, from the first, of a value of `rank` axes."""
    return int(attribute(node, "axis", 1)) % max(rank, 1)


def old_broadcast(node: NodeProto) -> tuple[bool, int | None]:
    """Add, Mul, Pow and the like below opset 7: whether the second operand broadcasts, and from which axis on."""
    start = attribute(node, "axis")
    return bool(attribute(node, "broadcast", 0)), None if start is None else int(start)


def perm(node: NodeProto, rank: int | None) -> tuple[int, ...] | None:
    """Transpose: the input axis behind each output axis; None where all are turned round and `rank` is not known."""
    listed = attribute(node, "perm")
    if listed is not None:
        return tuple(int(a) for a in listed)
    return None if rank is None else tuple(reversed(range(rank)))


def keeps_dims(node: NodeProto) -> bool:
    """Reduce*, ArgMax, ArgMin: whether the axes stay, with one entry each."""
    return bool(attribute(node, "keepdims", 1))


def idle_without_axes(node: NodeProto) -> bool:
    """Reduce*: whether it does nothing where it names no axes, instead of reducing all."""
    return bool(attribute(node, "noop_with_empty_axes", 0))


def equal_parts(size: int, parts: int) -> list[int]:
    """Split: the sizes where none are stated, equal, the last one smaller (opset 18)."""
    each = -(-size // parts)
    return [each] * (parts - 1) + [size - each * (parts - 1)]


def zero_is_a_size(node: NodeProto) -> bool:
    """Reshape: whether a 0 asks for no entries, instead of for the size that was there."""
    return bool(attribute(node, "allowzero", 0))


def shape_part(node: NodeProto, rank: int) -> slice:
    """Shape: which axes of an input of `rank` axes it gives the sizes of."""
    return slice(int(attribute(node, "start", 0)), int(attribute(node, "end", rank)))


# Numbers

_ALPHA: Final[Mapping[str, float]] = {
    "LeakyRelu": 0.01,
    "QLinearLeakyRelu": 0.01,
    "HardSigmoid": 0.2,
    "Selu": 1.67326319217681884765625,
    "QuickGelu": 1.702,
}
_BETA: Final[Mapping[str, float]] = {"HardSigmoid": 0.5}


def alpha(node: NodeProto) -> float:
    """LeakyRelu, Elu, Celu, Selu, ThresholdedRelu, HardSigmoid, Swish, QuickGelu, Gemm."""
    return float(attribute(node, "alpha", _ALPHA.get(node.op_type, 1.0)))


def beta(node: NodeProto) -> float:
    """HardSigmoid, Gemm."""
    return float(attribute(node, "beta", _BETA.get(node.op_type, 1.0)))


def gamma(node: NodeProto) -> float:
    """Selu."""
    return float(attribute(node, "gamma", 1.05070102214813232421875))


def epsilon(node: NodeProto) -> float:
    """BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization, RMSNormalization."""
    return float(attribute(node, "epsilon", 1e-5))


# What else there is


def transposed(node: NodeProto) -> tuple[bool, bool]:
    """Gemm: whether A, and whether B comes in transposed."""
    return bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0))


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """Constant: the tensor it holds; None where it holds its value in another form."""
    found = attribute(node, "value")
    return found if isinstance(found, TensorProto) else None


def cast_type(node: NodeProto) -> int | None:
    """Cast: the TensorProto.DataType it gives; None where it states none, as a number (opset 1 has a text)."""
    found = attribute(node, "to")
    return found if isinstance(found, int) else None


def quantized_type(node: NodeProto) -> int:
    """QuantizeLinear, DequantizeLinear: the TensorProto.DataType stated for the output, 0 where none is."""
    return int(attribute(node, "output_dtype", 0))


def quantized_block(node: NodeProto) -> int:
    """QuantizeLinear, DequantizeLinear: how many entries along the axis share a scale, 0 for no blocks."""
    return int(attribute(node, "block_size", 0))


def groups(node: NodeProto) -> int:
    """Conv, ConvTranspose, ConvInteger, QLinearConv, DeformConv, FusedConv."""
    return int(attribute(node, "group", 1))


def set_groups(node: NodeProto, count: int) -> None:
    """State the groups of a convolution."""
    set_attribute(node, "group", count)


def normalised_groups(node: NodeProto) -> int:
    """GroupNormalization."""
    return int(attribute(node, "num_groups"))


def marked_as_test(node: NodeProto) -> bool:
    """Dropout, BatchNormalization below opset 7: whether it runs as in inference."""
    return bool(attribute(node, "is_test", 0))


def trains(node: NodeProto) -> bool:
    """BatchNormalization of opset 14 and up: whether it normalises by the batch it sees."""
    return bool(attribute(node, "training_mode", 0))


def by_channel(node: NodeProto) -> bool:
    """BatchNormalization below opset 9: whether its parameters are one a channel, not one a position."""
    return bool(attribute(node, "spatial", 1))


def scan_inputs(node: NodeProto) -> int:
    """Scan: how many of its last inputs it walks along."""
    return int(attribute(node, "num_scan_inputs", 0))


def gelu_by_tanh(node: NodeProto) -> bool | None:
    """Gelu: whether it is the approximation by Tanh; None for a form that the specification does not know."""
    return {"none": False, "tanh": True}.get(text_attribute(node, "approximate", "none"))


def fused_activation(node: NodeProto) -> str:
    """FusedConv and FusedGemm (com.microsoft): the activation that is part of it, "" for none."""
    return text_attribute(node, "activation", "")
