"""Torch network -> ONNX file (torch): the same weights with BatchNormalization nodes and without."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

OPSET = 17
INPUT, OUTPUT = "images", "logits"


def export(network: nn.Module, shape: tuple[int, int, int], path: Path, *, folded: bool) -> None:
    """Write `network` for inputs float32 (batch, *shape) in 0..1, batch open; IR 8, opset 17.

    `folded` is the exporter's default: it folds the BatchNormalization that follows a Conv directly.
    Otherwise every BatchNormalization stays a node in inference mode, with its statistics.
    """
    example = torch.zeros((2, *shape))
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        # This exporter is the one that can keep BatchNormalization; its deprecation is known.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            dynamo=False,
            training=mode,
            do_constant_folding=folded,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
