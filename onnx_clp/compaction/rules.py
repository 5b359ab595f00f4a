"""Which rule follows channels through which operator."""

from __future__ import annotations

from typing import Final

from onnx_clp.compaction import counts, elementwise, integers, joining, linear, reshaping, scaling, spatial
from onnx_clp.compaction.survey import Rule
from onnx_clp.operators.table import names
from onnx_clp.operators.traits import Kind

_STANDARD: Final[dict[str, Rule]] = {
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "Gemm": linear.gemm,
    "MatMul": linear.matmul,
    **dict.fromkeys(names(Kind.POINTWISE, Kind.RETYPE), elementwise.unary),
    **dict.fromkeys(("Identity", "Dropout"), elementwise.unary),
    "Clip": elementwise.clip,
    **dict.fromkeys((*names(Kind.JOINT, Kind.COMPARE), "PRelu"), elementwise.joint),
    "BatchNormalization": scaling.batch_normalization,
    "InstanceNormalization": scaling.instance_normalization,
    "QuantizeLinear": scaling.quantize,
    "DequantizeLinear": scaling.dequantize,
    "DynamicQuantizeLinear": scaling.dynamic_quantize,
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), integers.rounded),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), integers.products),
    **dict.fromkeys(names(Kind.POOL, Kind.GLOBAL_POOL), spatial.pool),
    **dict.fromkeys(names(Kind.REDUCE), spatial.reduce),
    **dict.fromkeys((*names(Kind.SHARE), "LpNormalization"), spatial.along_others),
    "Transpose": spatial.transpose,
    "Squeeze": spatial.squeeze,
    "Unsqueeze": spatial.unsqueeze,
    "Pad": spatial.pad,
    "Resize": spatial.resize,
    "Upsample": spatial.resize,
    "Shape": counts.shape,
    "Flatten": reshaping.flatten,
    "Reshape": reshaping.reshape,
    "Expand": reshaping.expand,
    "Concat": joining.concat,
    "Split": joining.split,
    "Slice": joining.slice_,
    "Gather": joining.gather,
    "DepthToSpace": joining.depth_to_space,
    "SpaceToDepth": joining.space_to_depth,
}
_MICROSOFT: Final[dict[str, Rule]] = {
    "FusedConv": linear.conv,
    **dict.fromkeys(("Gelu", "QuickGelu"), elementwise.unary),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), integers.added),
    **dict.fromkeys(
        ("QLinearLeakyRelu", "QLinearSigmoid", "QLinearGlobalAveragePool", "QLinearAveragePool"), integers.activated
    ),
    "QuantizeLinear": scaling.quantize,
    "DequantizeLinear": scaling.dequantize,
}
FOLLOWED: Final[dict[tuple[str, str], Rule]] = {
    **{("", name): rule for name, rule in _STANDARD.items()},
    **{("com.microsoft", name): rule for name, rule in _MICROSOFT.items()},
}
# Operators that make channels of their own, whatever they read.
STARTERS: Final = frozenset(
    [("com.microsoft", "FusedConv")]
    + [("", name) for name in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul")]
    + [("", name) for name in ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")]
)
