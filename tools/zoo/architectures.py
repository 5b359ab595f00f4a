"""Small classifiers for 28×28 and 32×32 images (torch). `build(name, ...)` makes a freshly initialised one.

Narrow versions of published networks: ResNet and PreActResNet (He 2016), VGG with BatchNorm (Simonyan 2014),
MobileNetV2 (Sandler 2018), DenseNet (Huang 2017), a depthwise network with squeeze-and-excite
(EfficientNet, Tan 2019) and ConvNeXt (Liu 2022), which has LayerNorm instead of BatchNorm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from onnx_clp.errors import UsageError


class Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """after(body(x) + shortcut(x)); each part is a module."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut, after

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (n, c, h, w)."""
        out: Tensor = self.after(self.body(x) + self.shortcut(x))
        return out


class PreActivated(nn.Module):  # type: ignore[misc, unused-ignore]
    """body(pre(x)) + x, or + shortcut(pre(x)) where the shape changes."""

    def __init__(self, pre: nn.Module, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.pre, self.body, self.shortcut = pre, body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (n, c, h, w)."""
        ready = self.pre(x)
        out: Tensor = self.body(ready) + (x if self.shortcut is None else self.shortcut(ready))
        return out


class Dense(nn.Module):  # type: ignore[misc, unused-ignore]
    """x with body(x) appended on the channel axis."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (n, c, h, w)."""
        return torch.cat([x, self.body(x)], dim=1)


class Gate(nn.Module):  # type: ignore[misc, unused-ignore]
    """x · gate(x), one factor per channel (squeeze-and-excite)."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Apply the gate to (n, c, h, w)."""
        out: Tensor = x * self.gate(x)
        return out


class ChannelNorm(nn.Module):  # type: ignore[misc, unused-ignore]
    """LayerNorm over the channels of (n, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel's channels."""
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def _conv_bn(
    c_in: int,
    c_out: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    act: Callable[[], nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """Convolution, BatchNorm and, unless `act` is None, an activation."""
    parts = [_conv(c_in, c_out, kernel, stride, groups), nn.BatchNorm2d(c_out)]
    return parts if act is None else [*parts, act()]


def _head(channels: int, classes: int) -> list[tuple[str, nn.Module]]:
    pooled: list[tuple[str, nn.Module]] = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    return [*pooled, ("fc", nn.Linear(channels, classes))]


def _assemble(parts: list[tuple[str, nn.Module]]) -> nn.Module:
    return nn.Sequential(OrderedDict(parts))


def resnet18(channels: int, classes: int, width: int = 16) -> nn.Module:
    """ResNet-18 with a 3×3 stem; stages of width · (1, 2, 4, 8) channels."""
    parts: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(*_conv_bn(channels, width)))]
    c_in = width
    for stage in range(4):
        c_out, stride = width << stage, 1 if stage == 0 else 2
        blocks = [_basic_block(c_in, c_out, stride), _basic_block(c_out, c_out, 1)]
        parts.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
        c_in = c_out
    return _assemble(parts + _head(c_in, classes))


def _basic_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    body = nn.Sequential(*_conv_bn(c_in, c_out, 3, stride), *_conv_bn(c_out, c_out, act=None))
    same = c_in == c_out and stride == 1
    shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(c_in, c_out, 1, stride, act=None))
    return Residual(body, shortcut, nn.ReLU())


def preactresnet18(channels: int, classes: int, width: int = 16) -> nn.Module:
    """PreActResNet-18: normalise, activate, then convolve; stages of width · (1, 2, 4, 8) channels."""
    parts: list[tuple[str, nn.Module]] = [("stem", _conv(channels, width, 3))]
    c_in = width
    for stage in range(4):
        c_out, stride = width << stage, 1 if stage == 0 else 2
        blocks = [_preact_block(c_in, c_out, stride), _preact_block(c_out, c_out, 1)]
        parts.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
        c_in = c_out
    parts.append(("norm", nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU())))
    return _assemble(parts + _head(c_in, classes))


def _preact_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    pre = nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU())
    body = nn.Sequential(*_conv_bn(c_in, c_out, 3, stride), _conv(c_out, c_out, 3))
    same = c_in == c_out and stride == 1
    return PreActivated(pre, body, None if same else _conv(c_in, c_out, 1, stride))


def vgg_bn(channels: int, classes: int, width: int = 16) -> nn.Module:
    """VGG-11's layout with BatchNorm and one linear layer; width · (1, 2, 4, 4, 8, 8, 8, 8) channels."""
    parts: list[nn.Module] = []
    c_in = channels
    for times, pooled in zip((1, 2, 4, 4, 8, 8, 8, 8), (1, 1, 0, 1, 0, 1, 0, 0), strict=True):
        parts += _conv_bn(c_in, width * times)
        parts += [nn.MaxPool2d(2)] if pooled else []
        c_in = width * times
    return _assemble([("features", nn.Sequential(*parts)), *_head(c_in, classes)])


def mobilenet_v2(channels: int, classes: int, width: int = 8) -> nn.Module:
    """Stem of stride 2, inverted residuals with ReLU6, expansion 4; width · (2, 3, 4, 8) channels."""
    parts: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(*_conv_bn(channels, width, 3, 2, act=nn.ReLU6)))]
    c_in = width
    for stage, (times, repeats, stride) in enumerate(((2, 2, 1), (3, 2, 2), (4, 3, 2), (8, 2, 2))):
        blocks: list[nn.Module] = []
        for repeat in range(repeats):
            blocks.append(_inverted(c_in, width * times, stride if repeat == 0 else 1))
            c_in = width * times
        parts.append((f"stage{stage + 1}", nn.Sequential(*blocks)))
    parts.append(("last", nn.Sequential(*_conv_bn(c_in, 4 * c_in, 1, act=nn.ReLU6))))
    return _assemble(parts + _head(4 * c_in, classes))


def _inverted(c_in: int, c_out: int, stride: int, expansion: int = 4) -> nn.Module:
    inner = expansion * c_in
    body = nn.Sequential(
        *_conv_bn(c_in, inner, 1, act=nn.ReLU6),
        *_conv_bn(inner, inner, 3, stride, groups=inner, act=nn.ReLU6),
        *_conv_bn(inner, c_out, 1, act=None),
    )
    same = c_in == c_out and stride == 1
    return Residual(body, nn.Identity(), nn.Identity()) if same else body


def densenet(channels: int, classes: int, width: int = 8) -> nn.Module:
    """DenseNet-BC: stem of stride 2, three dense blocks of six layers, growth rate `width`."""
    c_in = 2 * width
    parts: list[tuple[str, nn.Module]] = [("stem", _conv(channels, c_in, 3, 2))]
    for block in range(3):
        layers: list[nn.Module] = []
        for _ in range(6):
            layers.append(_dense_layer(c_in, width))
            c_in += width
        parts.append((f"block{block + 1}", nn.Sequential(*layers)))
        if block < 2:
            squeeze = [nn.BatchNorm2d(c_in), nn.ReLU(), _conv(c_in, c_in // 2, 1), nn.AvgPool2d(2)]
            parts.append((f"transition{block + 1}", nn.Sequential(*squeeze)))
            c_in //= 2
    parts.append(("norm", nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU())))
    return _assemble(parts + _head(c_in, classes))


def _dense_layer(c_in: int, growth: int) -> nn.Module:
    ready = [nn.BatchNorm2d(c_in), nn.ReLU(), *_conv_bn(c_in, 4 * growth, 1), _conv(4 * growth, growth, 3)]
    return Dense(nn.Sequential(*ready))


def se_net(channels: int, classes: int, width: int = 8) -> nn.Module:
    """EfficientNet-like: stem of stride 2, inverted residuals with SiLU and squeeze-and-excite."""
    parts: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(*_conv_bn(channels, width, 3, 2, act=nn.SiLU)))]
    c_in = width
    for stage, (times, repeats, stride) in enumerate(((2, 1, 1), (3, 2, 2), (4, 2, 2), (8, 2, 2))):
        blocks: list[nn.Module] = []
        for repeat in range(repeats):
            blocks.append(_gated(c_in, width * times, stride if repeat == 0 else 1))
            c_in = width * times
        parts.append((f"stage{stage + 1}", nn.Sequential(*blocks)))
    parts.append(("last", nn.Sequential(*_conv_bn(c_in, 4 * c_in, 1, act=nn.SiLU))))
    return _assemble(parts + _head(4 * c_in, classes))


def _gated(c_in: int, c_out: int, stride: int, expansion: int = 4) -> nn.Module:
    inner, squeezed = expansion * c_in, max(4, c_in // 4)
    gate = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, inner, 1)]
    body = nn.Sequential(
        *_conv_bn(c_in, inner, 1, act=nn.SiLU),
        *_conv_bn(inner, inner, 3, stride, groups=inner, act=nn.SiLU),
        Gate(nn.Sequential(*gate, nn.Sigmoid())),
        *_conv_bn(inner, c_out, 1, act=None),
    )
    same = c_in == c_out and stride == 1
    return Residual(body, nn.Identity(), nn.Identity()) if same else body


def convnext(channels: int, classes: int, width: int = 24) -> nn.Module:
    """ConvNeXt-like, no BatchNorm: 2×2 patches, three stages of two blocks; width · (1, 2, 4) channels."""
    parts: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(nn.Conv2d(channels, width, 2, 2), ChannelNorm(width)))]
    c_in = width
    for stage in range(3):
        blocks: list[nn.Module] = []
        if stage:
            blocks += [ChannelNorm(c_in), nn.Conv2d(c_in, 2 * c_in, 2, 2)]
            c_in *= 2
        blocks += [_convnext_block(c_in), _convnext_block(c_in)]
        parts.append((f"stage{stage + 1}", nn.Sequential(*blocks)))
    return _assemble([*parts, ("norm", ChannelNorm(c_in)), *_head(c_in, classes)])


def _convnext_block(channels: int) -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
        ChannelNorm(channels),
        nn.Conv2d(channels, 4 * channels, 1),
        nn.GELU(),
        nn.Conv2d(4 * channels, channels, 1),
    )
    return Residual(body, nn.Identity(), nn.Identity())


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet18,
    "preactresnet18": preactresnet18,
    "vgg-bn": vgg_bn,
    "mobilenetv2": mobilenet_v2,
    "densenet": densenet,
    "se-net": se_net,
    "convnext": convnext,
}


def build(name: str, channels: int, classes: int, width: int = 0) -> nn.Module:
    """A freshly initialised network; `width` 0 is the architecture's own.

    Raises:
        UsageError: there is no such architecture.
    """
    if name not in ARCHITECTURES:
        raise UsageError(f"{name}: no such architecture; known are {', '.join(ARCHITECTURES)}")
    make = ARCHITECTURES[name]
    return make(channels, classes, width) if width else make(channels, classes)
