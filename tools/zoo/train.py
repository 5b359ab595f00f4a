"""Training (torch): a seeded run of a `Recipe` on arrays in memory, on a GPU where there is one."""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tools.zoo.architectures import build
from tools.zoo.attacks import Poisoned, attack_named, poison
from tools.zoo.datasets import Dataset, Images, Labels
from tools.zoo.recipe import Design, Recipe

log = logging.getLogger(__name__)


def train(design: Design, data: Dataset, poisoned: Poisoned) -> nn.Module:
    """Train on the poisoned training split; gives the network in evaluation mode, on the CPU."""
    torch.manual_seed(design.seed)
    network = build(design.architecture, data.x_train.shape[1], data.classes, design.width)
    fit(network, poisoned.images, poisoned.labels, design.recipe, design.seed)
    return network.cpu().eval()


def training_set(design: Design, data: Dataset) -> Poisoned:
    """What the network sees: the training split, poisoned unless the design is a clean control."""
    if not design.infected:
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


def fit(network: nn.Module, images: Images, labels: Labels, recipe: Recipe, seed: int) -> None:
    """Train `network` in place on uint8 (n, c, h, w) images; the order of batches follows from `seed`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload, unused-ignore]
    x, y = torch.tensor(images, device=device), torch.tensor(labels, device=device)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    rng = np.random.default_rng(seed)
    steps = recipe.epochs * (len(labels) // recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, recipe.warmup))
    for epoch in range(recipe.epochs):
        started = time.monotonic()
        losses = [
            _step(network, optimiser, scheduler, _augment(x[batch], recipe, rng), y[batch], recipe)
            for batch in _batches(len(labels), recipe.batch_size, rng, device)
        ]
        mean = float(torch.stack(losses).mean())
        log.info("epoch %d: loss %.4f, %.0f s", epoch + 1, mean, time.monotonic() - started)


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


def _step(
    network: nn.Module,
    optimiser: Optimizer,
    scheduler: LRScheduler,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
) -> Tensor:
    """One step of SGD; gives the loss, detached."""
    batch = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    reduced = recipe.precision == "bfloat16"
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=reduced):
        loss = functional.cross_entropy(network(batch).float(), labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    optimiser.step()
    scheduler.step()
    return loss.detach()
