"""What each operator is: one row an operator, asked by every pass (ONNX operator specifications, opset 1 to 26).

What a pass does about an operator (its gradient, what a cut takes, how it is computed) stays in the pass, under its
key. `tests/test_table.py` holds every row to ONNX's reference implementation and shape inference, both ways: what a row
claims is so, and what it does not claim has a counterexample. `docs/operators.md` is written from it.
"""

from __future__ import annotations

from typing import Final

from onnx import NodeProto

from onnx_clp.operators.nodes import MICROSOFT, STANDARD_DOMAINS
from onnx_clp.operators.traits import ENTRY, Kind, Operator, Trait

_K, _T = Kind, Trait
_ODD: Final = ENTRY | _T.ZERO | _T.SIGN | _T.ORDER
_MOVED: Final = _T.TYPE | _T.ZERO | _T.EVEN | _T.SCALE
_POOLED: Final = _T.TYPE | _T.RANK | _T.CHANNELS | _T.ZERO | _T.SCALE
_REDUCED: Final = _T.TYPE | _T.ZERO | _T.SCALE

_ROWS: Final = (
    # Entry by entry
    Operator("Relu", _K.POINTWISE, _ODD | _T.SCALE),
    Operator("LeakyRelu", _K.POINTWISE, _ODD | _T.SCALE),
    Operator("PRelu", _K.POINTWISE, ENTRY | _T.ZERO | _T.SCALE),
    Operator("ThresholdedRelu", _K.POINTWISE, _ODD),
    Operator("Elu", _K.POINTWISE, _ODD),
    Operator("Selu", _K.POINTWISE, _ODD),
    Operator("Celu", _K.POINTWISE, _ODD),
    Operator("Clip", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("Shrink", _K.POINTWISE, ENTRY | _T.ZERO),
    Operator("Sigmoid", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("HardSigmoid", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("HardSwish", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN),
    Operator("Tanh", _K.POINTWISE, _ODD),
    Operator("Softplus", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("Softsign", _K.POINTWISE, _ODD),
    Operator("Gelu", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN),
    Operator("Mish", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN),
    Operator("Swish", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN),
    Operator("Erf", _K.POINTWISE, _ODD),
    Operator("Abs", _K.POINTWISE, ENTRY | _T.ZERO | _T.SCALE),
    Operator("Neg", _K.POINTWISE, ENTRY | _T.ZERO | _T.SCALE),
    Operator("Sign", _K.POINTWISE, _ODD),
    Operator("Exp", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("Log", _K.POINTWISE, ENTRY | _T.ORDER),
    Operator("Sqrt", _K.POINTWISE, _ODD),
    Operator("Reciprocal", _K.POINTWISE, ENTRY | _T.SIGN),
    Operator("Floor", _K.POINTWISE, _ODD),
    Operator("Ceil", _K.POINTWISE, _ODD),
    Operator("Round", _K.POINTWISE, _ODD),
    Operator("Sin", _K.POINTWISE, ENTRY | _T.ZERO),
    Operator("Cos", _K.POINTWISE, ENTRY),
    Operator("Tan", _K.POINTWISE, ENTRY | _T.ZERO),
    Operator("Asin", _K.POINTWISE, _ODD),
    Operator("Acos", _K.POINTWISE, ENTRY),
    Operator("Atan", _K.POINTWISE, _ODD),
    Operator("Sinh", _K.POINTWISE, _ODD),
    Operator("Cosh", _K.POINTWISE, ENTRY),
    Operator("Asinh", _K.POINTWISE, _ODD),
    Operator("Acosh", _K.POINTWISE, ENTRY | _T.ORDER | _T.SIGN),
    Operator("Atanh", _K.POINTWISE, _ODD),
    Operator("IsNaN", _K.POINTWISE, ENTRY & ~_T.TYPE | _T.ZERO),
    Operator("IsInf", _K.POINTWISE, ENTRY & ~_T.TYPE | _T.ZERO),
    Operator("Not", _K.POINTWISE, ENTRY),
    Operator("BitwiseNot", _K.POINTWISE, ENTRY),
    Operator("Cast", _K.RETYPE, ENTRY & ~_T.TYPE | _T.ZERO | _T.SIGN | _T.ORDER),
    Operator("CastLike", _K.RETYPE, ENTRY & ~_T.TYPE | _T.ZERO | _T.SIGN | _T.ORDER),
    # Entry by entry, of several operands
    Operator("Add", _K.JOINT, _T.TYPE),
    Operator("Sub", _K.JOINT, _T.TYPE),
    Operator("Mul", _K.JOINT, _T.TYPE | _T.ZERO | _T.SCALE),
    Operator("Div", _K.JOINT, _T.TYPE | _T.ZERO | _T.SCALE),
    Operator("Pow", _K.JOINT, _T.TYPE),
    Operator("Mod", _K.JOINT, _T.TYPE | _T.ZERO),
    Operator("Max", _K.JOINT, _T.TYPE),
    Operator("Min", _K.JOINT, _T.TYPE),
    Operator("Sum", _K.JOINT, _T.TYPE),
    Operator("Mean", _K.JOINT, _T.TYPE),
    Operator("Where", _K.JOINT),
    Operator("And", _K.JOINT, _T.TYPE | _T.ZERO),
    Operator("Or", _K.JOINT, _T.TYPE),
    Operator("Xor", _K.JOINT, _T.TYPE),
    Operator("Equal", _K.COMPARE),
    Operator("Greater", _K.COMPARE),
    Operator("Less", _K.COMPARE),
    Operator("GreaterOrEqual", _K.COMPARE),
    Operator("LessOrEqual", _K.COMPARE),
    # Sums of products
    Operator("Conv", _K.LINEAR, _T.TYPE | _T.RANK),
    Operator("ConvTranspose", _K.LINEAR, _T.TYPE | _T.RANK),
    Operator("DeformConv", _K.LINEAR, _T.TYPE | _T.RANK),
    Operator("Gemm", _K.LINEAR, _T.TYPE | _T.RANK),
    Operator("MatMul", _K.LINEAR, _T.TYPE | _T.ZERO | _T.SCALE),
    Operator("Einsum", _K.LINEAR, _T.TYPE | _T.ZERO | _T.SCALE),
    Operator("ConvInteger", _K.LINEAR, _T.RANK),
    Operator("MatMulInteger", _K.LINEAR),
    Operator("QLinearConv", _K.LINEAR, _T.RANK | _T.ROUNDS, weight=3),
    Operator("QLinearMatMul", _K.LINEAR, _T.ROUNDS, weight=3),
    Operator("Attention", _K.ATTEND, _T.TYPE | _T.RANK | _T.CHANNELS),
    Operator("LSTM", _K.RECURRENT, _T.TYPE),
    Operator("GRU", _K.RECURRENT, _T.TYPE),
    Operator("RNN", _K.RECURRENT, _T.TYPE),
    # Moving entries
    Operator("Identity", _K.LAYOUT, _ODD | _MOVED | _T.MOVES),
    Operator("Dropout", _K.LAYOUT, _ODD | _MOVED | _T.MOVES),
    Operator("Transpose", _K.LAYOUT, _MOVED | _T.RANK | _T.MOVES),
    Operator("Reshape", _K.LAYOUT, _MOVED | _T.MOVES),
    Operator("Flatten", _K.LAYOUT, _MOVED | _T.MOVES),
    Operator("Squeeze", _K.LAYOUT, _MOVED | _T.MOVES),
    Operator("Unsqueeze", _K.LAYOUT, _MOVED | _T.MOVES),
    Operator("DepthToSpace", _K.LAYOUT, _MOVED | _T.RANK | _T.MOVES),
    Operator("SpaceToDepth", _K.LAYOUT, _MOVED | _T.RANK | _T.MOVES),
    Operator("ReverseSequence", _K.LAYOUT, _MOVED | _T.RANK | _T.SHAPE | _T.MOVES),
    Operator("Concat", _K.LAYOUT, _T.TYPE | _T.RANK),
    Operator("Split", _K.LAYOUT, _MOVED | _T.RANK, every_output=True),
    Operator("Slice", _K.LAYOUT, _MOVED | _T.RANK),
    Operator("Gather", _K.LAYOUT, _MOVED),
    Operator("GatherElements", _K.LAYOUT, _MOVED | _T.RANK),
    Operator("GatherND", _K.LAYOUT, _MOVED),
    Operator("Compress", _K.LAYOUT, _MOVED | _T.SIZED_BY_DATA),
    Operator("Expand", _K.LAYOUT, _MOVED),
    Operator("Tile", _K.LAYOUT, _MOVED | _T.RANK),
    Operator("Trilu", _K.LAYOUT, _ODD | _T.SCALE),
    Operator("Pad", _K.LAYOUT, _T.TYPE | _T.RANK),
    Operator("ScatterElements", _K.SCATTER, ENTRY),
    Operator("ScatterND", _K.SCATTER, ENTRY),
    # Images
    Operator("Resize", _K.RESAMPLE, _MOVED | _T.RANK),
    Operator("Upsample", _K.RESAMPLE, _MOVED | _T.RANK),
    Operator("GridSample", _K.RESAMPLE, _POOLED),
    Operator("RoiAlign", _K.RESAMPLE, _POOLED),
    Operator("MaxRoiPool", _K.RESAMPLE, _POOLED),
    Operator("MaxUnpool", _K.RESAMPLE, _POOLED),
    Operator("MaxPool", _K.POOL, _POOLED | _T.EVEN),
    Operator("AveragePool", _K.POOL, _POOLED | _T.EVEN),
    Operator("LpPool", _K.POOL, _POOLED),
    Operator("GlobalMaxPool", _K.GLOBAL_POOL, _POOLED | _T.EVEN),
    Operator("GlobalAveragePool", _K.GLOBAL_POOL, _POOLED | _T.EVEN),
    Operator("GlobalLpPool", _K.GLOBAL_POOL, _POOLED | _T.NEUTRAL),
    # Along axes
    Operator("ReduceMean", _K.REDUCE, _REDUCED | _T.EVEN),
    Operator("ReduceMax", _K.REDUCE, _REDUCED | _T.EVEN),
    Operator("ReduceMin", _K.REDUCE, _REDUCED | _T.EVEN),
    Operator("ReduceSum", _K.REDUCE, _REDUCED | _T.NEUTRAL),
    Operator("ReduceL1", _K.REDUCE, _REDUCED | _T.NEUTRAL),
    Operator("ReduceL2", _K.REDUCE, _REDUCED | _T.NEUTRAL),
    Operator("ReduceSumSquare", _K.REDUCE, _T.TYPE | _T.ZERO | _T.NEUTRAL),
    Operator("ReduceProd", _K.REDUCE, _T.TYPE | _T.ZERO),
    Operator("ReduceLogSum", _K.REDUCE, _T.TYPE | _T.NEUTRAL),
    Operator("ReduceLogSumExp", _K.REDUCE, _T.TYPE),
    Operator("CumSum", _K.RUNNING, _T.TYPE | _T.RANK | _T.SHAPE | _T.ZERO | _T.SCALE),
    Operator("Softmax", _K.SHARE, _T.TYPE | _T.RANK | _T.SHAPE),
    Operator("LogSoftmax", _K.SHARE, _T.TYPE | _T.RANK | _T.SHAPE),
    Operator("Hardmax", _K.SHARE, _T.TYPE | _T.RANK | _T.SHAPE),
    Operator("ArgMax", _K.PICK),
    Operator("ArgMin", _K.PICK),
    Operator("TopK", _K.PICK, _MOVED | _T.RANK),
    # With statistics, or a scale
    Operator("BatchNormalization", _K.NORMALISE, ENTRY),
    Operator("InstanceNormalization", _K.NORMALISE, ENTRY),
    Operator("GroupNormalization", _K.NORMALISE, ENTRY & ~_T.CHANNELS),
    Operator("LayerNormalization", _K.NORMALISE, ENTRY & ~_T.CHANNELS),
    Operator("RMSNormalization", _K.NORMALISE, ENTRY & ~_T.CHANNELS | _T.ZERO),
    Operator("LpNormalization", _K.NORMALISE, ENTRY & ~_T.CHANNELS | _T.ZERO),
    Operator("LRN", _K.NORMALISE, ENTRY & ~_T.CHANNELS | _T.ZERO),
    Operator("MeanVarianceNormalization", _K.NORMALISE, ENTRY | _T.ZERO),
    Operator("QuantizeLinear", _K.QUANTISE, ENTRY & ~_T.TYPE | _T.ORDER | _T.ROUNDS),
    Operator("DequantizeLinear", _K.QUANTISE, ENTRY & ~_T.TYPE | _T.ORDER),
    Operator("DynamicQuantizeLinear", _K.QUANTISE, _T.RANK | _T.SHAPE | _T.ROUNDS),
    # What looks at places, sizes or nothing
    Operator("NonZero", _K.SEARCH, _T.SIZED_BY_DATA),
    Operator("NonMaxSuppression", _K.SEARCH, _T.SIZED_BY_DATA),
    Operator("Unique", _K.SEARCH, _MOVED | _T.SIZED_BY_DATA),
    Operator("Shape", _K.SIZES, _T.READS_SHAPE),
    Operator("Size", _K.SIZES, _T.READS_SHAPE),
    Operator("EyeLike", _K.MAKE, _T.RANK | _T.SHAPE | _T.READS_SHAPE),
    Operator("RandomNormalLike", _K.MAKE, _T.RANK | _T.SHAPE | _T.READS_SHAPE | _T.RANDOM),
    Operator("RandomUniformLike", _K.MAKE, _T.RANK | _T.SHAPE | _T.READS_SHAPE | _T.RANDOM),
    Operator("RandomNormal", _K.MAKE, _T.RANDOM),
    Operator("RandomUniform", _K.MAKE, _T.RANDOM),
    Operator("Multinomial", _K.MAKE, _T.RANK | _T.RANDOM),
    Operator("Bernoulli", _K.MAKE, _T.RANK | _T.SHAPE | _T.RANDOM),
    Operator("If", _K.CONTROL, _T.SIZED_BY_DATA),
    Operator("Loop", _K.CONTROL, _T.SIZED_BY_DATA),
    Operator("Scan", _K.CONTROL),
    Operator("SequenceMap", _K.CONTROL, _T.SIZED_BY_DATA),
)

_MICROSOFT: Final = tuple(
    Operator(name, kind, traits, MICROSOFT, weight)
    for name, kind, traits, weight in (
        ("FusedConv", _K.LINEAR, _T.TYPE | _T.RANK, 1),
        ("FusedGemm", _K.LINEAR, _T.TYPE | _T.RANK, 1),
        ("FusedMatMul", _K.LINEAR, _T.TYPE | _T.ZERO | _T.SCALE, 1),
        ("MatMulIntegerToFloat", _K.LINEAR, Trait(0), 1),
        ("DynamicQuantizeMatMul", _K.LINEAR, _T.TYPE, 1),
        ("QLinearConv", _K.LINEAR, _T.ROUNDS, 3),
        ("QGemm", _K.LINEAR, _T.RANK | _T.ROUNDS, 3),
        ("Gelu", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN, 1),
        ("QuickGelu", _K.POINTWISE, ENTRY | _T.ZERO | _T.SIGN, 1),
        ("FastGelu", _K.POINTWISE, ENTRY, 1),
        ("BiasGelu", _K.POINTWISE, ENTRY, 1),
        ("QLinearLeakyRelu", _K.POINTWISE, ENTRY | _T.ORDER | _T.ROUNDS, 1),
        ("QLinearSigmoid", _K.POINTWISE, ENTRY | _T.ORDER | _T.ROUNDS, 1),
        ("QLinearSoftmax", _K.SHARE, ENTRY & ~_T.CHANNELS | _T.ROUNDS, 1),
        ("QLinearAdd", _K.JOINT, _T.TYPE | _T.ROUNDS, 1),
        ("QLinearMul", _K.JOINT, _T.TYPE | _T.ROUNDS, 1),
        ("QLinearConcat", _K.LAYOUT, _T.ROUNDS, 1),
        ("QLinearAveragePool", _K.POOL, _T.TYPE | _T.RANK | _T.CHANNELS | _T.ROUNDS, 1),
        ("QLinearGlobalAveragePool", _K.GLOBAL_POOL, _T.TYPE | _T.RANK | _T.CHANNELS | _T.ROUNDS, 1),
        ("QLinearReduceMean", _K.REDUCE, _T.TYPE | _T.ROUNDS, 1),
        ("QuantizeLinear", _K.QUANTISE, ENTRY & ~_T.TYPE | _T.ORDER | _T.ROUNDS, 1),
        ("DequantizeLinear", _K.QUANTISE, ENTRY & ~_T.TYPE | _T.ORDER, 1),
    )
)

TABLE: Final = {(row.domain, row.name): row for row in (*_ROWS, *_MICROSOFT)}
"""By domain ("" for ONNX's own) and name."""


def key(node: NodeProto) -> tuple[str, str]:
    """Domain and name of a node's operator, as tables have them."""
    return ("" if node.domain in STANDARD_DOMAINS else node.domain, node.op_type)


def row(node: NodeProto) -> Operator | None:
    """What is known of a node's operator; None for one that is not in the table."""
    return TABLE.get(key(node))


def is_a(node: NodeProto, *kinds: Kind) -> bool:
    """Whether the node's operator is of one of the kinds."""
    found = row(node)
    return found is not None and found.kind in kinds


def keeps(node: NodeProto, trait: Trait, output: str | None = None) -> bool:
    """Whether the node's operator has all of the traits.

    They are of its first output; of another one, `output`, only where every output is alike.
    """
    found = row(node)
    if found is None or trait not in found.traits:
        return False
    return output is None or found.every_output or output == node.output[0]


def weight_slot(node: NodeProto) -> int:
    """Where what sums products has its second factor."""
    found = row(node)
    return 1 if found is None else found.weight


def names(*kinds: Kind, domain: str = "") -> tuple[str, ...]:
    """The operators of some kinds, in a domain."""
    return tuple(one.name for one in TABLE.values() if one.domain == domain and one.kind in kinds)
