"""Linear layers: Conv, ConvTranspose, Gemm, MatMul and their quantised forms, as one kind of thing.

`find_layer` turns a node into a `LinearLayer`; a linear node that cannot be one (weight not constant, of an
unknown type, ...) gives a `Skipped` with the reason, any other node None.
"""

from __future__ import annotations

import math
import re
from typing import Final

from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.biases import AddedBias, Bias, GemmBias, InputBias
from onnx_clp.layers.layer import Finder, LinearLayer, read_geometry
from onnx_clp.layers.weights import FloatWeight, Weight
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import (
    MICROSOFT,
    STANDARD_DOMAINS,
    has_reference,
    identity,
    is_dequantizer,
    is_op,
    operator,
)
from onnx_clp.verdicts import Skipped, SkipReason

_CONVOLUTIONS: Final = ("Conv", "ConvTranspose", "DeformConv")
# Operators that multiply by a stored matrix or kernel, by their names in ONNX and in the domains of others.
_LINEAR_NAME: Final = re.compile(r"Conv|Gemm|MatMul|Einsum|FullyConnected|InnerProduct|^Dense$|^Linear$")
BLOCKED_DOMAIN: Final = "com.microsoft.nchwc"


def find_layer(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped | None:
    """The node as a linear layer, why it cannot be one, or None where it is another operator."""
    finder = _finder(node)
    if finder is None:
        return _unread(scope, node)
    if has_reference(node):
        return Skipped(SkipReason.REFERENCE_ATTRIBUTE, "an attribute takes its value from the function's call")
    return finder(scope, node)


def _finder(node: NodeProto) -> Finder | None:
    if is_op(node, *_CONVOLUTIONS) or (node.domain == MICROSOFT and node.op_type == "FusedConv"):
        return _find_convolution
    if is_op(node, "Gemm"):
        return _find_gemm
    if is_op(node, "MatMul"):
        return _find_matmul
    if is_op(node, "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"):
        from onnx_clp.layers import integers

        return integers.finder(node)
    return None


def _unread(scope: GraphIndex, node: NodeProto) -> Skipped | None:
    """Why a node that by its name and its constant operand is a linear layer is not read as one; None for others."""
    linear = _LINEAR_NAME.search(node.op_type) is not None
    if not linear or is_blocked(node) or all(not scope.is_constant(name) for name in node.input if name):
        return None
    if node.domain == MICROSOFT or node.domain.startswith("com.ms."):
        sentence = (
            f"{operator(node)} is ONNX Runtime's own and not read; give the file as it was before it optimised it"
        )
    elif node.domain in STANDARD_DOMAINS:
        sentence = f"{operator(node)} with a constant operand is not read as a linear layer"
    else:
        sentence = f"{operator(node)} is of a domain that this tool does not know"
    return Skipped(SkipReason.UNSUPPORTED_OPERATOR, sentence)


def float_or_dequantized(scope: GraphIndex, node: NodeProto, slot: int) -> Weight | Skipped:
    """The weight at an input slot: behind DequantizeLinear, or in floating point."""
    maker = scope.producer(node.input[slot]) if slot < len(node.input) else None
    if maker is not None and is_dequantizer(maker):
        from onnx_clp.layers import quantized, simulated

        if has_reference(maker):
            return Skipped(SkipReason.REFERENCE_ATTRIBUTE, "its weight's scale is laid out as the call says")
        rounded = simulated.find_simulated(scope, node, slot, maker)
        return quantized.DequantizedWeight.find(scope, node, slot, maker) if rounded is None else rounded
    if dequantized_further_up(scope, maker):
        return Skipped(SkipReason.QUANTIZED, "its weight is computed from a dequantised one")
    weight = FloatWeight.find(scope, node, slot)
    if isinstance(weight, FloatWeight) and 0 in weight.shape:
        # No bytes stand behind such a shape, so it may claim any number of channels.
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight of shape {weight.shape} holds nothing")
    return weight


def dequantized_further_up(scope: GraphIndex, maker: NodeProto | None) -> bool:
    """Whether a node, or one whose output it is computed from, is a DequantizeLinear."""
    stack, seen = [maker], set()
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if is_dequantizer(node):
            return True
        stack.extend(scope.producer(name) for name in node.input)
    return False


def _find_convolution(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    weight = float_or_dequantized(scope, node, 1)
    if isinstance(weight, Skipped):
        return weight
    if len(weight.shape) < 3:
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight has {len(weight.shape)} dimensions")
    groups = read.groups(node)
    transposed, deformable = node.op_type == "ConvTranspose", node.op_type == "DeformConv"
    first, second = weight.shape[:2]
    if groups < 1 or first % groups:
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"group {groups} does not divide {first} channels")
    layout = KernelLayout(1, 0, groups, True) if transposed else KernelLayout(0, 1, groups)
    rank = len(weight.shape)
    return LinearLayer(
        node=node,
        scope=scope,
        name=node.name or identity(node),
        operator=operator(node),
        layout=layout,
        weight=weight,
        bias=_input_bias(scope, node, 3 if deformable else 2),
        channels=second * groups if transposed else first,
        inputs=first if transposed else second * groups,
        geometry=read_geometry(node, tuple(weight.shape[2:])),
        rank=rank,
        axis_from_end=rank - 1,
        data_axis_from_end=rank - 1,
        no_padding=windows.window(node).pads_nothing and not transposed and not deformable,
        fused=read.fused_activation(node) != "" or (len(node.input) > 3 and not deformable),
    )


def _input_bias(scope: GraphIndex, node: NodeProto, slot: int) -> Bias:
    maker = scope.producer(node.input[slot]) if len(node.input) > slot else None
    if maker is not None and is_dequantizer(maker):
        from onnx_clp.layers.dequantized import DequantizedBias

        scale = scope.constant(maker.input[1])
        if scale is not None:
            return DequantizedBias(scope, node, slot, maker, scale)
    return InputBias(scope, node, slot)


def _find_gemm(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    weight = float_or_dequantized(scope, node, 1)
    if isinstance(weight, Skipped):
        return weight
    if len(weight.shape) != 2:
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight has {len(weight.shape)} dimensions")
    data_turned, turned = read.transposed(node)
    return LinearLayer(
        node=node,
        scope=scope,
        name=node.name or identity(node),
        operator=operator(node),
        layout=KernelLayout(0, 1) if turned else KernelLayout(1, 0),
        weight=weight,
        bias=GemmBias(scope, node, 2),
        channels=weight.shape[0 if turned else 1],
        inputs=weight.shape[1 if turned else 0],
        geometry=None,
        rank=2,
        axis_from_end=1,
        data_axis_from_end=2 if data_turned else 1,
        gain=read.alpha(node),
    )


def _find_matmul(scope: GraphIndex, node: NodeProto) -> LinearLayer | Skipped:
    if scope.is_constant(node.input[0]) and not scope.is_constant(node.input[1]):
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, "its weight is the left operand")
    weight = float_or_dequantized(scope, node, 1)
    if isinstance(weight, Skipped):
        return weight
    rank = len(weight.shape)
    if rank < 2 or math.prod(weight.shape[:-2]) != 1:
        return Skipped(SkipReason.UNSUPPORTED_WEIGHT, f"its weight has shape {weight.shape}")
    made = scope.ranks.of(node.output[0])
    bias = AddedBias.after(scope, node, weight.shape[-1], rank=made)
    return LinearLayer(
        node=node,
        scope=scope,
        name=node.name or identity(node),
        operator=operator(node),
        layout=KernelLayout(rank - 1, rank - 2),
        weight=weight,
        bias=bias,
        channels=weight.shape[-1],
        inputs=weight.shape[-2],
        geometry=None,
        rank=made,
        axis_from_end=1,
        data_axis_from_end=1,
        inside=[] if bias.adder is None else [bias.adder],
    )


def is_blocked(node: NodeProto) -> bool:
    """Whether the node works on ONNX Runtime's blocked layout, whose weights are reordered for one machine."""
    return node.domain == BLOCKED_DOMAIN
