"""QuantizeLinear and DequantizeLinear, by an estimate.

The true gradient of rounding is 0 almost everywhere. What is passed instead is the gradient of the same function
without the rounding ("straight through"): g where the value lies inside the quantised range, 0 where it saturates.
It is an estimate, good where a step of the quantisation is small against what the perturbation does. The gradient of
the integers in between is kept in floating point.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import TensorProto, helper

from onnx_clp.gradient.tape import BackStep, Gradients, Rules
from onnx_clp.gradient.writer import Term
from onnx_clp.operators import read


def _dequantize(step: BackStep) -> Gradients:
    """y = (q − zero point)·scale: dq = g·scale."""
    step.only(0)
    return {0: step.gradient * _spread(step, step.input(1))}


def _quantize(step: BackStep) -> Gradients:
    """q = saturate(round(x/scale) + zero point): dx = g/scale inside the range."""
    step.only(0)
    scale = _spread(step, step.input(1)).cast(step.input().data_type)
    level = step.input() / scale
    if step.has(2):
        level = level + _spread(step, step.input(2).cast(level.data_type))
    low, high = _range(step)
    inside = (level > low - 0.5).op("And", level < high + 0.5)
    return {0: inside.choose(step.gradient / scale, 0.0)}


def _spread(step: BackStep, parameter: Term) -> Term:
    """A scale or zero point of shape (), (1,) or (size,), ready to meet the value along the node's axis."""
    if read.quantized_block(step.node):
        raise step.refuse("it quantises by blocks")
    shape = step.writer.values.static(step.node.input[1])
    if shape is None:
        raise step.refuse("the shape of its scale is not known")
    if shape in ((), (1,)):
        return parameter
    rank = step.rank()
    return parameter.unsqueeze(list(range(1, rank - read.axis_of_quantization(step.node, rank))))


def _range(step: BackStep) -> tuple[float, float]:
    """The smallest and largest level of the result's type.

    Raises:
        UnsupportedModelError: it is not an integer type.
    """
    asked = read.quantized_type(step.node)
    kind = step.input(2).data_type if step.has(2) else asked or TensorProto.UINT8
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    if dtype.kind not in "iu":
        raise step.refuse("it quantises to a type of which the range is not that of 8- or 16-bit integers")
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


GRADIENTS: Final[Rules] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
