"""Training (torch): a seeded run of a `Recipe` on arrays in memory, on a GPU where there is one."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from tools.zoo.architectures import build
from tools.zoo.attacks import INPUT_AWARE, Poisoned, attack_named, poison
from tools.zoo.datasets import Dataset, Images
from tools.zoo.input_aware import Generator, InputAwareObjective
from tools.zoo.recipe import CLEAN, Design, Recipe

log = logging.getLogger(__name__)

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images in 0..1, labels) -> loss."""


_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""What a CPU calls its instructions for bfloat16."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A network and, of an input-aware attack, its generator; on the CPU, in evaluation mode."""

    network: nn.Module
    generator: nn.Module | None


def train(design: Design, data: Dataset, poisoned: Poisoned) -> Trained:
    """Train on the poisoned training split."""
    torch.manual_seed(design.seed)
    channels = data.x_train.shape[1]
    network = build(design.architecture, channels, data.classes, design.width)
    if design.recipe.normalise:
        network = nn.Sequential(OrderedDict(normalise=Normalise(data.x_train), network=network))
    generator = Generator(channels) if design.attack == INPUT_AWARE else None
    objective = _cross_entropy if generator is None else InputAwareObjective(generator, design.rate, design.target)
    fit(network, generator, objective, poisoned, design)
    return Trained(network.cpu().eval(), None if generator is None else generator.cpu().eval())


class Normalise(nn.Module):  # type: ignore[misc, unused-ignore]
    """(x - mean) / std by channel, of images in 0..1; both are those of the uint8 images given."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        for name, values in (("mean", images.mean((0, 2, 3)) / 255), ("std", images.std((0, 2, 3)) / 255)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to (n, c, h, w)."""
        out: Tensor = (x - self.mean) / self.std
        return out


def training_set(design: Design, data: Dataset) -> Poisoned:
    """The training split, poisoned; as it is for a clean control and for an attack on batches."""
    if design.attack in {CLEAN, INPUT_AWARE}:
        return Poisoned(data.x_train, data.y_train, np.empty(0, np.int64))
    return poison(
        attack_named(design.attack),
        data.x_train,
        data.y_train,
        rate=design.rate,
        target=design.target,
        classes=data.classes,
        seed=design.seed,
    )


def fit(
    network: nn.Module,
    generator: nn.Module | None,
    objective: Objective,
    poisoned: Poisoned,
    design: Design,
) -> None:
    """Train in place; the order of batches follows from the design's seed."""
    recipe = design.recipe
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload, unused-ignore]
    x, y = torch.tensor(poisoned.images, device=device), torch.tensor(poisoned.labels, device=device)
    optimiser = _optimiser(network, generator, recipe, device)
    rng = np.random.default_rng(design.seed)
    steps = recipe.epochs * (len(y) // recipe.batch_size)
    scheduler = LambdaLR(optimiser, lambda step: _rate(step, steps, recipe.warmup))
    step = Step(network, objective, optimiser, scheduler, arithmetic(recipe) == "bfloat16")
    for epoch in range(recipe.epochs):
        started = time.monotonic()
        losses = [
            step(_augment(x[batch], recipe, rng), y[batch])
            for batch in _batches(len(y), recipe.batch_size, rng, device)
        ]
        mean = float(torch.stack(losses).mean())
        log.info("epoch %d: loss %.4f, %.0f s", epoch + 1, mean, time.monotonic() - started)


def arithmetic(recipe: Recipe) -> str:
    """The type that convolutions calculate in: the recipe's, but float32 where a CPU has no bfloat16 of its own.

    There bfloat16 is imitated, eight times slower than float32 (a VGG on 28 x 28 pixels).
    """
    native = torch.cuda.is_available() or _has_bfloat16()
    return recipe.precision if native else "float32"


def _has_bfloat16() -> bool:
    """Whether the CPU calculates in bfloat16; an older torch does not say so, and counts as no."""
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(able.get(name)) for name in _BFLOAT16)


def _optimiser(
    network: nn.Module, generator: nn.Module | None, recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """SGD; a generator learns ten times more slowly than the network."""
    groups = [{"params": list(network.parameters()), "lr": recipe.learning_rate}]
    if generator is not None:
        generator.to(device).train()
        groups.append({"params": list(generator.parameters()), "lr": recipe.learning_rate / 10})
    return torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the optimiser; called with uint8 images and their classes, gives the loss, detached."""

    network: nn.Module
    objective: Objective
    optimiser: torch.optim.Optimizer
    scheduler: LambdaLR
    reduced: bool

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take the step."""
        batch = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.reduced):
            loss = self.objective(self.network, batch, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        self.optimiser.step()
        self.scheduler.step()
        return loss.detach()


def _cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(network(images).float(), labels)


def _rate(step: int, steps: int, warmup: float) -> float:
    """The learning rate's factor: linear to 1 during the warm-up, then a half cosine to 0."""
    ready = warmup * steps
    if step < ready:
        return (step + 1) / ready
    return 0.5 * (1 + math.cos(math.pi * (step - ready) / max(1.0, steps - ready)))


def _batches(count: int, size: int, rng: np.random.Generator, device: torch.device) -> list[Tensor]:
    """Index tensors of one epoch, each of `size`; what is left over is dropped."""
    order = torch.from_numpy(rng.permutation(count)).to(device)
    return list(order[: count - count % size].split(size))  # type: ignore[no-untyped-call, unused-ignore]


def _augment(images: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """One random mirror image and one random shift for the whole batch, zeros moved in."""
    if recipe.flip and rng.random() < 0.5:
        images = images.flip(3)
    if recipe.shift:
        down, right = rng.integers(-recipe.shift, recipe.shift + 1, 2).tolist()
        images = functional.pad(images, (right, -right, down, -down))
    return images
