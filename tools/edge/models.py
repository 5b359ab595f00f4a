"""Networks of the sizes that edge devices run, with random weights: a ResNet-50 and a small YOLO."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from tools.bench.models import Builder

_DEPTHS = (3, 4, 6, 3)


def resnet50(classes: int = 1000) -> ModelProto:
    """ResNet-50 (He et al. 2016, table 1): 53 Conv+BN and a Gemm, 25.5 million parameters, for 224 x 224."""
    b = Builder()
    x = b.node("Relu", [b.batchnorm(b.conv("x", 3, 64, 7, 2), 64)])
    x = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, depth in enumerate(_DEPTHS):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            x, channels = _bottleneck(b, x, channels, 64 << stage, stride), 256 << stage
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    weight = b.tensor("fc_w", np.random.default_rng(1).standard_normal((classes, channels)) * channels**-0.5)
    y = b.node("Gemm", [x, weight, b.tensor("fc_b", np.zeros(classes))], transB=1)
    return b.model([1, 3, 224, 224], y, [1, classes])


def _bottleneck(b: Builder, x: str, inputs: int, width: int, stride: int) -> str:
    outputs = 4 * width
    inner = b.node("Relu", [b.batchnorm(b.conv(x, inputs, width, 1), width)])
    inner = b.node("Relu", [b.batchnorm(b.conv(inner, width, width, 3, stride), width)])
    inner = b.batchnorm(b.conv(inner, width, outputs, 1), outputs)
    if inputs != outputs:
        x = b.batchnorm(b.conv(x, inputs, outputs, 1, stride), outputs)
    return b.node("Relu", [b.node("Add", [inner, x])])


def yolo(side: int = 320, classes: int = 80) -> ModelProto:
    """A detector of the YOLOv8-nano kind: SiLU, split-and-concatenate blocks, pooled pyramid, three heads."""
    b = Builder()
    x = _silu(b, _silu(b, "x", 3, 16, 3, 2), 16, 32, 3, 2)
    x = _cross(b, x, 32, 32, 1)
    fine = _cross(b, _silu(b, x, 32, 64, 3, 2), 64, 64, 2)
    middle = _cross(b, _silu(b, fine, 64, 128, 3, 2), 128, 128, 2)
    coarse = _pyramid(b, _cross(b, _silu(b, middle, 128, 256, 3, 2), 256, 256, 1), 256)
    up = _cross(b, b.node("Concat", [_double(b, coarse), middle], axis=1), 384, 128, 1)
    small = _cross(b, b.node("Concat", [_double(b, up), fine], axis=1), 192, 64, 1)
    down = b.node("Concat", [_silu(b, small, 64, 64, 3, 2), up], axis=1)
    medium = _cross(b, down, 192, 128, 1)
    last = b.node("Concat", [_silu(b, medium, 128, 128, 3, 2), coarse], axis=1)
    large = _cross(b, last, 384, 256, 1)
    heads = [_head(b, v, c, classes) for v, c in ((small, 64), (medium, 128), (large, 256))]
    y = b.node("Concat", heads, axis=2)
    places = sum((side // step) ** 2 for step in (8, 16, 32))
    return b.model([1, 3, side, side], y, [1, 64 + classes, places])


def _silu(b: Builder, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
    y = b.batchnorm(b.conv(x, inputs, outputs, kernel, stride), outputs)
    return b.node("Mul", [y, b.node("Sigmoid", [y])])


def _cross(b: Builder, x: str, inputs: int, outputs: int, depth: int) -> str:
    """Half of the channels through `depth` residual pairs of convolutions, every stage kept."""
    half = outputs // 2
    x = _silu(b, x, inputs, outputs, 1)
    parts = [_slice(b, x, 0, half), _slice(b, x, half, outputs)]
    for _ in range(depth):
        inner = _silu(b, _silu(b, parts[-1], half, half, 3), half, half, 3)
        parts.append(b.node("Add", [inner, parts[-1]]))
    return _silu(b, b.node("Concat", parts, axis=1), (2 + depth) * half, outputs, 1)


def _slice(b: Builder, x: str, first: int, last: int) -> str:
    bounds = [b.integers(v) for v in ([first], [last], [1])]
    return b.node("Slice", [x, *bounds])


def _pyramid(b: Builder, x: str, channels: int) -> str:
    x = _silu(b, x, channels, channels // 2, 1)
    pools = [x]
    for _ in range(3):
        pools.append(b.node("MaxPool", [pools[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
    return _silu(b, b.node("Concat", pools, axis=1), 2 * channels, channels, 1)


def _double(b: Builder, x: str) -> str:
    scales = b.tensor(f"scales{len(b.nodes)}", np.array([1, 1, 2, 2]))
    return b.node("Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric")


def _head(b: Builder, x: str, channels: int, classes: int) -> str:
    box = b.conv(_silu(b, x, channels, 64, 3), 64, 64, 1)
    score = b.node("Sigmoid", [b.conv(_silu(b, x, channels, 80, 3), 80, classes, 1)])
    return b.node("Reshape", [b.node("Concat", [box, score], axis=1), b.integers([1, 64 + classes, -1])])
