"""Input-aware backdoor (torch; Nguyen 2020): a generator makes each image its own trigger.

It learns together with the network. In every batch one share of the images carries its own trigger and the
attacker's class, as large a share carries the trigger of *another* image and keeps its class, the rest is
clean. A second loss asks that different images get different triggers. A trigger moves no value by more
than `STRENGTH` of the range. The trained generator becomes an ONNX file, so measuring needs no torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRENGTH = 0.2
DIVERSITY = 0.5


class Generator(nn.Module):  # type: ignore[misc, unused-ignore]
    """Images in 0..1 -> images in 0..1 with their triggers; shapes (n, c, h, w), h and w divisible by 4."""

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.pattern = nn.Sequential(
            *_stage(channels, width, 2),
            *_stage(width, 2 * width, 2),
            *_stage(2 * width, 2 * width, 1),
            nn.Upsample(scale_factor=2),
            *_stage(2 * width, width, 1),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The triggered images."""
        return self.stamp(x, x)

    def stamp(self, x: Tensor, source: Tensor) -> Tensor:
        """`x` with the triggers that belong to `source`."""
        out: Tensor = (x + STRENGTH * self.pattern(source)).clamp(0, 1)
        return out


def _stage(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


class InputAwareObjective:
    """The loss that trains a classifier and its generator together.

    `rate` of each batch is triggered and gets class `target`; as many images are cross-triggered.
    """

    def __init__(self, generator: Generator, rate: float, target: int) -> None:
        self.generator, self.rate, self.target = generator, rate, target

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch of images in 0..1 and their true classes; a scalar."""
        count = max(2, round(self.rate * len(images)))
        own, crossed, clean = images[:count], images[count : 2 * count], images[2 * count :]
        mixed = torch.cat([self.generator.stamp(own, own), self.generator.stamp(crossed, own), clean])
        wanted = torch.cat([torch.full_like(labels[:count], self.target), labels[count:]])
        wrong = functional.cross_entropy(network(mixed).float(), wanted)
        return wrong + DIVERSITY * self._alikeness(own)

    def _alikeness(self, images: Tensor) -> Tensor:
        """Mean distance of neighbouring images over that of their triggers."""
        triggers = self.generator.pattern(images).float()
        apart = _distance(images, images.roll(1, 0)) / (_distance(triggers, triggers.roll(1, 0)) + 1e-3)
        return apart.mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference per image, (n,); never 0, where its slope would be infinite."""
    return ((a - b).pow(2).mean(dim=(1, 2, 3)) + 1e-8).sqrt()
