"""Which rule follows channels through which operator."""

from __future__ import annotations

from typing import Final

from onnx_clp.compaction import elementwise, joining, linear, reshaping, spatial
from onnx_clp.compaction.survey import Rule

_STANDARD: Final[dict[str, Rule]] = {
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "Gemm": linear.gemm,
    "MatMul": linear.matmul,
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    "Dropout": elementwise.unary,
    "Clip": elementwise.clip,
    **dict.fromkeys(elementwise.JOINT, elementwise.joint),
    "BatchNormalization": elementwise.batch_normalization,
    "InstanceNormalization": elementwise.instance_normalization,
    "QuantizeLinear": elementwise.quantize,
    "DequantizeLinear": elementwise.dequantize,
    "DynamicQuantizeLinear": elementwise.dynamic_quantize,
    **dict.fromkeys(
        ["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], spatial.pool
    ),
    **dict.fromkeys(
        ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"], spatial.reduce
    ),
    **dict.fromkeys(["Softmax", "LogSoftmax", "LpNormalization"], spatial.along_others),
    "Transpose": spatial.transpose,
    "Squeeze": spatial.squeeze,
    "Unsqueeze": spatial.unsqueeze,
    "Pad": spatial.pad,
    "Resize": spatial.resize,
    "Upsample": spatial.resize,
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
    "QuantizeLinear": elementwise.quantize,
    "DequantizeLinear": elementwise.dequantize,
}
RULES: Final[dict[tuple[str, str], Rule]] = {
    **{("", name): rule for name, rule in _STANDARD.items()},
    **{("com.microsoft", name): rule for name, rule in _MICROSOFT.items()},
}
STARTERS: Final = frozenset(
    [("", "Conv"), ("", "ConvTranspose"), ("", "Gemm"), ("", "MatMul"), ("com.microsoft", "FusedConv")]
)
