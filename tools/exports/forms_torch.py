"""A small random network through both exporters of torch (torch, onnxscript).

python -m tools.exports.forms_torch FORM OUT.onnx
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tools.exports import statistics

INPUT, OUTPUT = "images", "scores"


def network() -> nn.Module:
    """Conv, depthwise Conv, ConvTranspose and Linear, each followed by BatchNorm; one BatchNorm before a ReLU."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 12, 2, 2),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    norms = [part for part in model if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    for seed, norm in enumerate(norms):
        values = statistics.normalisation(norm.num_features, seed, outlier=seed == 0)
        for tensor, value in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), values, strict=True):
            tensor.data.copy_(torch.from_numpy(value))
    return model.eval()


def torchscript(path: Path, training: str, opset: int = 17, *, inputs: bool = False) -> None:
    """The exporter that traces; `training` names a torch.onnx.TrainingMode."""
    mode = getattr(torch.onnx.TrainingMode, training)
    model = network().train(training == "TRAINING")
    torch.onnx.export(
        model,
        (torch.rand(2, 3, 8, 8),),
        str(path),
        dynamo=False,
        training=mode,
        do_constant_folding=training == "EVAL" and not inputs,
        opset_version=opset,
        keep_initializers_as_inputs=inputs,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
    )


def dynamo(path: Path, *, optimize: bool = True, external: bool = False) -> None:
    """The exporter that captures a graph."""
    torch.onnx.export(
        network(),
        (torch.rand(2, 3, 8, 8),),
        str(path),
        dynamo=True,
        optimize=optimize,
        external_data=external,
        input_names=[INPUT],
        output_names=[OUTPUT],
    )


FORMS: dict[str, Callable[[Path], None]] = {
    "torchscript": lambda path: torchscript(path, "EVAL"),
    "torchscript-preserve": lambda path: torchscript(path, "PRESERVE"),
    "torchscript-training": lambda path: torchscript(path, "TRAINING"),
    "torchscript-inputs": lambda path: torchscript(path, "PRESERVE", 9, inputs=True),
    "dynamo": lambda path: dynamo(path),
    "dynamo-raw": lambda path: dynamo(path, optimize=False),
    "dynamo-external": lambda path: dynamo(path, external=True),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FORMS[sys.argv[1]](Path(sys.argv[2]))
