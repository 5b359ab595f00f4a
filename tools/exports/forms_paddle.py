"""A small random network through paddle2onnx (paddlepaddle, paddle2onnx).

python -m tools.exports.forms_paddle FORM OUT.onnx
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import paddle
import paddle2onnx
from paddle import nn

from tools.exports import statistics

FORMS = {"paddle": "None"}
"""Form -> paddle2onnx's `optimize_tool`; with "onnxoptimizer" 2.1.0 wrote the same bytes, so there is one form."""


def network() -> Any:
    """Conv, depthwise Conv and transposed Conv, each followed by BatchNorm."""
    paddle.seed(0)
    model = nn.Sequential(
        nn.Conv2D(3, 16, 3, padding=1),
        nn.BatchNorm2D(16),
        nn.ReLU(),
        nn.Conv2D(16, 16, 3, padding=1, groups=16, bias_attr=False),
        nn.BatchNorm2D(16),
        nn.ReLU(),
        nn.Conv2DTranspose(16, 12, 2, 2),
        nn.BatchNorm2D(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )
    norms = [part for part in model if isinstance(part, nn.BatchNorm2D)]
    for seed, norm in enumerate(norms):
        values = statistics.normalisation(norm.weight.shape[0], seed, outlier=seed == 0)
        for tensor, value in zip((norm.weight, norm.bias, norm._mean, norm._variance), values, strict=True):
            tensor.set_value(value)
    model.eval()
    return model


def export(path: Path, tool: str) -> None:
    """Write `path` by way of paddle's own inference format."""
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "model"
        spec = [paddle.static.InputSpec([-1, 3, 8, 8], "float32", name="images")]
        paddle.jit.save(network(), str(stem), input_spec=spec)
        program = next(p for p in (stem.with_suffix(".json"), stem.with_suffix(".pdmodel")) if p.exists())
        paddle2onnx.export(
            str(program),
            str(stem.with_suffix(".pdiparams")),
            str(path),
            opset_version=13,
            enable_onnx_checker=True,
            optimize_tool=tool,
        )


if __name__ == "__main__":
    export(Path(sys.argv[2]), FORMS[sys.argv[1]])
