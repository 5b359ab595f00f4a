"""For every row of the table of operators, nodes with inputs that show what it keeps and what it does not.

The first input is the one that traits are about. Together an operator's examples must hold a counterexample to every
trait that the row does not claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.operators.nodes import MICROSOFT
from onnx_clp.operators.table import TABLE, names
from onnx_clp.operators.traits import Kind, Trait

Array = NDArray[Any]
Value = Array | np.generic | str
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """One node: its inputs ("" for one left out), attributes, and how many outputs it has."""

    inputs: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 21
    runtime: bool = False


def draw(*shape: int, seed: int = 0) -> Array:
    """Distinct numbers between -1 and 1, of both signs."""
    values = np.linspace(-0.9, 0.95, int(np.prod(shape)), dtype=np.float32)
    return np.random.default_rng(seed + 1).permutation(values).reshape(shape)


def whole(*shape: int, low: int = 0, high: int = 250, dtype: Any = np.uint8) -> Array:
    return (
        np.random.default_rng(5).permutation(np.linspace(low, high, int(np.prod(shape)))).astype(dtype).reshape(shape)
    )


def ex(*inputs: Value, outputs: int = 1, opset: int = 21, runtime: bool = False, **attributes: Any) -> Example:
    return Example(inputs, attributes, outputs, opset, runtime)


X: Final = draw(2, 3, 4, 4)
WIDE: Final = 8 * draw(2, 3, 4, 4)
ABOVE: Final = 1.5 + np.abs(WIDE)
FLAGS: Final = X > 0
LONG: Final = np.array([2, 3, 4, 4], np.int64)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


ONE: Final = np.float32(0.02)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


_PLAIN: Final = {name: ex(WIDE) for name in names(Kind.POINTWISE)}
_BETWEEN: Final = dict.fromkeys(("Asin", "Acos", "Atanh"), ex(X))
_POSITIVE: Final = {"Log": ex(np.abs(X)), **dict.fromkeys(("Sqrt", "Acosh"), ex(ABOVE)), "Reciprocal": ex(ABOVE)}
_SEVERAL: Final = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum"), (ex(X, draw(5, 2, 3, 4, 4)),)),
    "Mean": (ex(X, draw(5, 2, 3, 4, 4), runtime=True),),
    "Mod": (ex(whole(2, 3, 4, 4, dtype=np.int32), whole(5, 1, 3, 4, 4, low=3, dtype=np.int32)),),
    **dict.fromkeys(("And", "Or", "Xor"), (ex(FLAGS, draw(5, 2, 3, 4, 4) > 0),)),
    **dict.fromkeys(
        ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"),
        (ex(np.round(WIDE), np.round(8 * draw(5, 2, 3, 4, 4))),),
    ),
    "Where": (ex(FLAGS, draw(5, 2, 3, 4, 4), draw(1)),),
}
_REDUCTIONS: Final = (
    *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
    *("ReduceProd", "ReduceLogSum", "ReduceLogSumExp"),
)
_W: Final = draw(5, 3, 3, 3, seed=2)
_ROIS: Final = np.array([[0, 0, 3, 3], [2, 2, 12, 12]], np.float32)
_BOXES: Final = np.array([[[0, 0, 1, 1], [0, 0, 1, 1.01], [5, 5, 6, 6]]], np.float32)
_STEP: Final = f32(0.1, 0.2, 0.3)
_ZERO: Final = np.array([3, 100, 128], np.uint8)
_Q: Final = whole(2, 3, 4, 4)
_SPREAD: Final = f32(0.5, 1.5, 2.0)

STANDARD: Final[dict[str, tuple[Example, ...]]] = {
    **{name: (example,) for name, example in (_PLAIN | _BETWEEN | _POSITIVE).items()},
    **_SEVERAL,
    "PRelu": (ex(WIDE, draw(3, 1, 1)),),
    "Swish": (ex(WIDE, opset=24),),
    "Shrink": (ex(X, bias=0.7, lambd=0.1),),
    "Clip": (ex(WIDE, scalar(0.5), scalar(6)),),
    "Not": (ex(FLAGS),),
    "BitwiseNot": (ex(whole(2, 3, 4, 4, low=-90, high=90, dtype=np.int8)),),
    "IsNaN": (ex(np.where(X > 0.8, np.nan, X).astype(np.float32)),),
    "IsInf": (ex(np.where(X > 0.8, np.inf, X).astype(np.float32)),),
    "Cast": (ex(WIDE, to=7), ex(WIDE, to=11)),
    "CastLike": (ex(WIDE, ints(1)),),
    # Sums of products
    "Conv": (ex(X, _W, draw(5), strides=[2, 2]),),
    "ConvTranspose": (ex(X, draw(3, 5, 3, 3), draw(5), strides=[2, 2]),),
    "DeformConv": (ex(X, draw(5, 3, 3, 3), draw(2, 18, 2, 2), draw(5), opset=19),),
    "Gemm": (ex(draw(4, 3), draw(3, 5), draw(5)),),
    "MatMul": (ex(draw(4, 3), draw(2, 3, 5)),),
    "Einsum": (ex(draw(4, 3), draw(3, 5), equation="ij,jk->k"),),
    "ConvInteger": (ex(_Q, whole(5, 3, 3, 3), np.uint8(7).reshape(()), np.uint8(3).reshape(())),),
    "MatMulInteger": (ex(_Q, whole(5, 1, 1, 4, 6), np.uint8(7).reshape(()), np.uint8(3).reshape(())),),
    "QLinearConv": (
        ex(_Q, ONE, np.uint8(9), whole(5, 3, 3, 3, low=-90, high=90, dtype=np.int8), ONE, np.int8(1), ONE, np.int8(9)),
    ),
    "QLinearMatMul": (ex(_Q, ONE, np.uint8(9), whole(5, 1, 1, 4, 6), ONE, np.uint8(1), ONE, np.uint8(99)),),
    "Attention": (ex(draw(2, 3, 4, 8), draw(2, 3, 6, 8), draw(2, 3, 6, 5), opset=23),),
    "LSTM": (ex(draw(4, 2, 3), draw(1, 20, 3), draw(1, 20, 5), draw(1, 40), hidden_size=5),),
    "GRU": (ex(draw(4, 2, 3), draw(1, 15, 3), draw(1, 15, 5), draw(1, 30), hidden_size=5),),
    "RNN": (ex(draw(4, 2, 3), draw(1, 5, 3), draw(1, 5, 5), draw(1, 10), hidden_size=5),),
    # Moving entries
    "Identity": (ex(WIDE),),
    "Dropout": (ex(WIDE), ex(WIDE, scalar(0.5), np.array(False))),
    "Transpose": (ex(X, perm=[0, 2, 3, 1]), ex(draw(2, 3))),
    "Reshape": (ex(X, ints(0, -1)), ex(X, ints(3, 2, 1, 4, 4))),
    "Flatten": (ex(X),),
    "Squeeze": (ex(draw(2, 1, 3), ints(1)),),
    "Unsqueeze": (ex(draw(2, 3), ints(0, 2)),),
    "DepthToSpace": (ex(draw(1, 8, 2, 2), blocksize=2), ex(draw(1, 8, 2, 2), blocksize=2, mode="CRD")),
    "SpaceToDepth": (ex(X, blocksize=2),),
    "ReverseSequence": (ex(draw(4, 3, 2), ints(4, 2, 3)), ex(draw(3, 4, 2), ints(4, 2, 3), time_axis=1, batch_axis=0)),
    "Concat": (ex(X, draw(2, 1, 4, 4), axis=1),),
    "Split": (ex(X, ints(1, 2), axis=1, outputs=2),),
    "Slice": (ex(X, ints(1), ints(3), ints(1)),),
    "Gather": (ex(X, np.array([[0, 2]]), axis=1),),
    "GatherElements": (ex(X, np.zeros((2, 2, 4, 4), np.int64), axis=1),),
    "GatherND": (ex(X, np.array([[1, 2]])),),
    "Compress": (ex(X, np.array([True, False, True]), axis=1), ex(X, np.array([False, True]))),
    "Expand": (ex(draw(3, 1, 4), ints(2, 3, 5, 4)),),
    "Tile": (ex(X, ints(1, 2, 1, 1)),),
    "Trilu": (ex(X),),
    "Pad": (ex(X, ints(0, 1, 1, 1, 0, 0, 0, 0), scalar(0.5)),),
    "ScatterElements": (ex(X, np.zeros((2, 2, 4, 4), np.int64), draw(2, 2, 4, 4), axis=1),),
    "ScatterND": (ex(X, np.array([[1, 2]]), draw(1, 4, 4)),),
    # Images
    "Resize": (
        ex(X, "", f32(1, 1, 2, 2)),
        ex(X, "", f32(1, 2, 1, 1), mode="linear"),
        ex(X, "", "", ints(2, 3, 2, 7), mode="linear"),
    ),
    "Upsample": (ex(X, f32(1, 2, 2, 2), opset=9, runtime=True),),
    "GridSample": (ex(X, 2 * draw(2, 3, 5, 2)),),
    "RoiAlign": (ex(X, _ROIS, ints(0, 1), output_height=2, output_width=2),),
    "MaxRoiPool": (
        ex(np.abs(X), np.array([[0, 0, 0, 3, 3], [1, 9, 9, 9, 9]], np.float32), pooled_shape=[2, 2], runtime=True),
    ),
    "MaxUnpool": (
        ex(
            draw(1, 2, 2, 2),
            np.array([[[[5, 7], [13, 15]], [[21, 23], [29, 31]]]]),
            kernel_shape=[2, 2],
            strides=[2, 2],
        ),
    ),
    "MaxPool": (ex(X, kernel_shape=[2, 2]), ex(X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])),
    "AveragePool": (ex(X, kernel_shape=[2, 2]), ex(X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])),
    "LpPool": (ex(X, kernel_shape=[2, 2]),),
    "GlobalMaxPool": (ex(X), ex(-np.abs(X))),
    "GlobalAveragePool": (ex(X),),
    "GlobalLpPool": (ex(X, runtime=True),),
    # Along axes
    **dict.fromkeys(_REDUCTIONS, (ex(ABOVE, keepdims=0), ex(ABOVE, ints(1, -1)), ex(ABOVE, ints(2, 3), keepdims=0))),
    "ReduceMax": (ex(ABOVE, keepdims=0), ex(-ABOVE, ints(2, 3), keepdims=0)),
    "CumSum": (ex(X, np.array(1)), ex(X, np.array(3))),
    "Softmax": (ex(X, axis=1), ex(X)),
    "LogSoftmax": (ex(X, axis=1), ex(X)),
    "Hardmax": (ex(X, axis=1), ex(X)),
    "ArgMax": (ex(X, axis=1, keepdims=0), ex(X, axis=1, select_last_index=1)),
    "ArgMin": (ex(X, axis=1, keepdims=0), ex(X, axis=1, select_last_index=1)),
    "TopK": (ex(X, ints(2), axis=1, outputs=2),),
    # With statistics, or a scale
    "BatchNormalization": (ex(X, _SPREAD, draw(3), draw(3, seed=4), _SPREAD),),
    "InstanceNormalization": (ex(X, _SPREAD, draw(3)),),
    "GroupNormalization": (ex(draw(2, 4, 3, 3), f32(1, 2, 3, 4), draw(4), num_groups=2),),
    "LayerNormalization": (ex(X, draw(3, 4, 4), draw(3, 4, 4, seed=4), axis=1),),
    "RMSNormalization": (ex(X, draw(3, 4, 4), axis=1, opset=23),),
    "LpNormalization": (ex(X, axis=1, runtime=True),),
    "LRN": (ex(X, size=3),),
    "MeanVarianceNormalization": (ex(X),),
    "QuantizeLinear": (ex(WIDE, _STEP, _ZERO), ex(WIDE, _STEP)),
    "DequantizeLinear": (ex(_Q, _STEP, _ZERO), ex(_Q, _STEP)),
    "DynamicQuantizeLinear": (ex(WIDE, outputs=3),),
    # What looks at places, sizes or nothing
    "NonZero": (ex(np.maximum(X, 0)),),
    "NonMaxSuppression": (ex(_BOXES, f32(0.9, 0.8, 0.7).reshape(1, 1, 3), ints(3), f32(0.5), f32(0.0)),),
    "Unique": (ex(np.round(X)),),
    "Shape": (ex(X),),
    "Size": (ex(X),),
    "EyeLike": (ex(draw(4, 4)), ex(draw(4, 4), dtype=7)),
    "RandomNormalLike": (ex(X, dtype=11),),
    "RandomUniformLike": (ex(X, dtype=11),),
    "RandomNormal": (ex(shape=[2, 3]),),
    "RandomUniform": (ex(shape=[2, 3]),),
    "Multinomial": (ex(X.reshape(2, -1), sample_size=30, runtime=True),),
    "Bernoulli": (ex(np.abs(X), dtype=6),),
}
_HALF: Final = np.uint8(128)
_BY_ORT: Final[dict[str, tuple[Example, ...]]] = {
    "FusedConv": (ex(X, _W, draw(5), strides=[2, 2], activation="Relu", runtime=True),),
    "FusedGemm": (ex(draw(4, 3), draw(3, 5), draw(5), activation="Relu", runtime=True),),
    "FusedMatMul": (ex(draw(4, 3), draw(2, 3, 5), runtime=True),),
    "MatMulIntegerToFloat": (
        ex(whole(2, 4), whole(4, 5), scalar(0.1), scalar(0.2), np.uint8(7), np.uint8(3), draw(5), runtime=True),
    ),
    "DynamicQuantizeMatMul": (ex(draw(2, 2, 4), whole(4, 5), scalar(0.1), np.uint8(7), draw(5), runtime=True),),
    "QGemm": (
        ex(
            *(whole(2, 4), ONE, np.uint8(9), whole(4, 5), ONE, np.uint8(3), np.full(5, 40, np.int32), ONE, np.uint8(9)),
            runtime=True,
        ),
    ),
    "Gelu": (ex(WIDE, runtime=True),),
    "QuickGelu": (ex(WIDE, runtime=True),),
    "FastGelu": (ex(draw(2, 3, 4), 3 * draw(4), runtime=True),),
    "BiasGelu": (ex(draw(2, 3, 4), 3 * draw(4), runtime=True),),
    "QLinearLeakyRelu": (ex(_Q, ONE, _HALF, ONE, np.uint8(100), runtime=True),),
    "QLinearSigmoid": (ex(_Q, ONE, _HALF, np.float32(0.004), np.uint8(3), runtime=True),),
    "QLinearSoftmax": (
        Example((_Q, ONE, _HALF, np.float32(0.004), np.uint8(3)), {"opset": 13, "axis": 1}, runtime=True),
    ),
    "QLinearAdd": (ex(_Q, ONE, _HALF, whole(5, 2, 3, 4, 4), ONE, np.uint8(7), ONE, np.uint8(100), runtime=True),),
    "QLinearMul": (ex(_Q, ONE, _HALF, whole(5, 2, 3, 4, 4), ONE, np.uint8(7), ONE, np.uint8(100), runtime=True),),
    "QLinearAveragePool": (ex(_Q, ONE, _HALF, np.float32(0.03), np.uint8(100), kernel_shape=[2, 2], runtime=True),),
    "QLinearGlobalAveragePool": (ex(_Q, ONE, _HALF, np.float32(0.03), np.uint8(100), runtime=True),),
    "QuantizeLinear": (ex(WIDE, ONE, np.uint8(9), runtime=True),),
    "DequantizeLinear": (ex(_Q, ONE, np.uint8(9), runtime=True),),
}
UNTRIED: Final = {("", "If"), ("", "Loop"), ("", "Scan"), ("", "SequenceMap")} | {
    (MICROSOFT, "QLinearConv"),  # ONNX Runtime takes it in another layout only
    (MICROSOFT, "QLinearReduceMean"),  # ONNX Runtime has it for no processor
    (MICROSOFT, "QLinearConcat"),  # its first operand is a scale
}
"""Rows without an example: what they say is their definition."""
UNSHOWN: Final = {
    (("", "QLinearMatMul"), Trait.TYPE),  # the type is that of the last zero point
    (("", "DynamicQuantizeLinear"), Trait.ZERO),  # the specification divides 0 by 0
    (("", "NonZero"), Trait.ZERO),  # there are no entries then
    ((MICROSOFT, "MatMulIntegerToFloat"), Trait.RANK),  # a vector would lose its axis
    ((MICROSOFT, "DynamicQuantizeMatMul"), Trait.RANK),
    ((MICROSOFT, "QGemm"), Trait.TYPE),  # without a scale for the output it gives floats
    ((MICROSOFT, "QGemm"), Trait.ZERO),
}
"""What holds in the examples and not in general."""

EXAMPLES: Final[dict[Key, tuple[Example, ...]]] = {
    **{("", name): some for name, some in STANDARD.items() if ("", name) in TABLE},
    **{(MICROSOFT, name): some for name, some in _BY_ORT.items()},
}
