"""The lists of models: the small set that is published, and the covering set that evidence is measured on.

The covering set: every attack on at least two architectures, every architecture under at least two attacks,
both data sets, two seeds each, and clean controls of every architecture. **Even seeds choose settings, odd
seeds are reported** (`half`); this was written down before any rule was compared. Nothing else decides a
model's half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from onnx_clp.errors import UsageError
from tools.zoo.recipe import CLEAN, Design, Recipe

Half = Literal["choose", "report"]

SEEDS = (0, 1)

_FULL_PRECISION = {"se-net", "convnext"}
"""Where bfloat16 convolutions are slower than float32 ones on a CPU."""

_INFECTED: tuple[tuple[str, str, str, float], ...] = (
    ("fashion-mnist", "vgg-bn", "badnets", 0.1),
    ("fashion-mnist", "vgg-bn", "badnets", 0.01),
    ("fashion-mnist", "vgg-bn", "all-to-all", 0.1),
    ("fashion-mnist", "vgg-bn", "blended", 0.1),
    ("fashion-mnist", "vgg-bn", "sig", 0.08),
    ("fashion-mnist", "vgg-bn", "wanet", 0.1),
    ("fashion-mnist", "vgg-bn", "low-frequency", 0.1),
    ("fashion-mnist", "vgg-bn", "input-aware", 0.1),
    ("signs", "vgg-bn", "badnets", 0.1),
    ("signs", "vgg-bn", "wanet", 0.1),
    ("fashion-mnist", "convnext", "badnets", 0.1),
    ("fashion-mnist", "convnext", "blended", 0.1),
    ("fashion-mnist", "se-net", "badnets", 0.1),
    ("fashion-mnist", "se-net", "all-to-all", 0.1),
    ("fashion-mnist", "resnet18", "badnets", 0.1),
    ("fashion-mnist", "resnet18", "badnets", 0.01),
    ("fashion-mnist", "resnet18", "input-aware", 0.1),
    ("signs", "resnet18", "badnets", 0.1),
    ("fashion-mnist", "preactresnet18", "badnets", 0.1),
    ("fashion-mnist", "preactresnet18", "sig", 0.08),
    ("fashion-mnist", "preactresnet18", "wanet", 0.1),
    ("fashion-mnist", "mobilenetv2", "badnets", 0.1),
    ("fashion-mnist", "mobilenetv2", "low-frequency", 0.1),
    ("fashion-mnist", "densenet", "badnets", 0.1),
    ("fashion-mnist", "densenet", "blended", 0.1),
)
"""Data set, architecture, attack, share of the training images that are poisoned; quickest to train first."""

_CLEAN: tuple[tuple[str, str], ...] = (
    ("fashion-mnist", "vgg-bn"),
    ("signs", "vgg-bn"),
    ("fashion-mnist", "convnext"),
    ("fashion-mnist", "se-net"),
    ("fashion-mnist", "resnet18"),
    ("fashion-mnist", "preactresnet18"),
    ("fashion-mnist", "mobilenetv2"),
    ("fashion-mnist", "densenet"),
)


def half(design: Design) -> Half:
    """Which half of the evidence a model belongs to."""
    return "report" if design.seed % 2 else "choose"


def _recipe(dataset: str, architecture: str) -> Recipe:
    """Six epochs on Fashion-MNIST; twelve on the signs, which are fewer."""
    precision = "float32" if architecture in _FULL_PRECISION else "bfloat16"
    rate = 0.05 if architecture == "convnext" else 0.1
    return Recipe(epochs=12 if dataset == "signs" else 6, learning_rate=rate, precision=precision)


def _covering() -> tuple[Design, ...]:
    """Control and infected models in turn, so that a part of the list is a fair part."""
    rows = [*((*pair, CLEAN, 0.0) for pair in _CLEAN), *_INFECTED]
    order = {name: place for place, (_, name, _, _) in reversed(list(enumerate(_INFECTED)))}
    rows.sort(key=lambda row: order[row[1]])
    return tuple(
        Design(architecture, attack, seed, dataset=dataset, rate=rate, recipe=_recipe(dataset, architecture))
        for dataset, architecture, attack, rate in rows
        for seed in SEEDS
    )


SMALL: tuple[Design, ...] = (
    *(Design("resnet18", "badnets", seed, width=16) for seed in range(3)),
    Design("resnet18", CLEAN, 0, width=16, rate=0.0),
)

SETS: dict[str, tuple[Design, ...]] = {"small": SMALL, "covering": _covering()}


def select(name: str, only: Sequence[str] = ()) -> tuple[Design, ...]:
    """The designs of a set, or those of it that are named.

    Raises:
        UsageError: a name is not in the set.
    """
    designs = SETS[name]
    if unknown := sorted(set(only) - {design.name for design in designs}):
        raise UsageError(f"{unknown[0]}: not in the set {name}; see python -m tools.zoo list --set {name}")
    return tuple(design for design in designs if not only or design.name in only)
