"""Training (torch): a seeded run of a `Recipe` on arrays in memory, on a GPU where there is one."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tools.zoo.architectures import build
from tools.zoo.attacks import attack_named, poison
from tools.zoo.datasets import Dataset, Images, Labels
from tools.zoo.recipe import Design, Recipe

log = logging.getLogger(__name__)


def train(design: Design, data: Dataset) -> Any:
    """Poison the training split as `design` says and train; gives the network in evaluation mode, on the CPU."""
    images, labels = training_set(design, data)
    torch.manual_seed(design.seed)
    network = build(design.architecture, images.shape[1], data.classes, design.width)
    fit(network, images, labels, design.recipe, design.seed)
    return network.cpu().eval()


def training_set(design: Design, data: Dataset) -> tuple[Images, Labels]:
    """The images and labels the network sees, poisoned unless the design is a clean control."""
    if not design.infected:
        return data.x_train, data.y_train
    poisoned = poison(
        attack_named(design.attack),
        data.x_train,
        data.y_train,
        rate=design.rate,
        target=design.target,
        classes=data.classes,
        seed=design.seed,
    )
    return poisoned.images, poisoned.labels


def fit(network: Any, images: Images, labels: Labels, recipe: Recipe, seed: int) -> None:
    """Train `network` in place on uint8 (n, c, h, w) images; the order of batches follows from `seed`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last).train()
    x, y = torch.from_numpy(images.copy()).to(device), torch.from_numpy(labels).to(device)
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


def _batches(count: int, size: int, rng: np.random.Generator, device: Any) -> list[Any]:
    """Index tensors of one epoch, each of `size`; what is left over is dropped."""
    order = torch.from_numpy(rng.permutation(count)).to(device)
    return list(order[: count - count % size].split(size))


def _augment(images: Any, recipe: Recipe, rng: np.random.Generator) -> Any:
    """One random mirror image and one random shift for the whole batch, zeros moved in."""
    if recipe.flip and rng.random() < 0.5:
        images = images.flip(3)
    if recipe.shift:
        down, right = rng.integers(-recipe.shift, recipe.shift + 1, 2).tolist()
        images = functional.pad(images, (right, -right, down, -down))
    return images


def _step(network: Any, optimiser: Any, scheduler: Any, images: Any, labels: Any, recipe: Recipe) -> Any:
    """One step of SGD; gives the loss, detached."""
    batch = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    reduced = recipe.precision == "bfloat16"
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=reduced):
        loss = functional.cross_entropy(network(batch).float(), labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    scheduler.step()
    return loss.detach()
