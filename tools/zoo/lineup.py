"""Two lists of models for settings that are fixed already: CIFAR-10, and clean networks of many kinds.

`CIFAR10`: attacks in the order in which they are trained, so that a part of the list is a fair part; a clean network
after every third. `CLEAN`: small networks of every architecture on three data sets, with and without a normalisation
in the file, in several widths; seeds from 10 on. As everywhere **even seeds may be looked at, odd seeds are reported**
(`design.half`). Both lists were written down before anything on them was measured.
"""

from __future__ import annotations

from dataclasses import replace

from tools.zoo.recipe import CLEAN as NO_ATTACK
from tools.zoo.recipe import PLAIN, Design, Recipe

COLOUR = replace(PLAIN, name="colour", epochs=15, shift=2)
"""The plain recipe in fifteen epochs, with small random shifts."""

BRIEF = replace(PLAIN, name="brief", epochs=2, images=20_000)
"""The plain recipe on 20,000 images at most; twice as many epochs on colour images."""

_RATES: tuple[tuple[str, str, float, int], ...] = (
    ("vgg-bn", "badnets", 0.1, 3),
    ("vgg-bn", "blended", 0.1, 5),
    ("vgg-bn", "wanet", 0.1, 7),
    ("vgg-bn", NO_ATTACK, 0.0, 0),
    ("vgg-bn", "badnets", 0.01, 1),
    ("vgg-bn", "sig", 0.08, 2),
    ("vgg-bn", "low-frequency", 0.1, 9),
    ("vgg-bn", "adaptive-patch", 0.02, 4),
    ("vgg-bn", "two-triggers", 0.1, 8),
    ("vgg-bn", NO_ATTACK, 0.0, 0),
    ("resnet18", "badnets", 0.1, 6),
    ("resnet18", NO_ATTACK, 0.0, 0),
    ("resnet18", "wanet", 0.1, 5),
    ("resnet18", "blended", 0.1, 0),
)
"""Architecture, attack, share of the training images that are poisoned, target class."""

_KINDS: tuple[tuple[str, str, int], ...] = (
    ("fashion-mnist", "vgg-bn", 8),
    ("signs", "vgg-bn", 8),
    ("cifar10", "vgg-bn", 12),
    ("fashion-mnist", "resnet18", 4),
    ("fashion-mnist", "vgg-bn", 16),
    ("signs", "resnet18", 4),
    ("cifar10", "resnet18", 4),
    ("fashion-mnist", "preactresnet18", 4),
    ("cifar10", "vgg-bn", 8),
    ("fashion-mnist", "densenet", 4),
    ("signs", "vgg-bn", 16),
    ("fashion-mnist", "convnext", 8),
    ("fashion-mnist", "se-net", 4),
)
"""Data set, architecture, width."""

_ROUNDS, _FIRST_SEED = 5, 10


def _colour() -> tuple[Design, ...]:
    return tuple(
        Design(architecture, attack, seed, "cifar10", width=16, rate=rate, target=target, recipe=COLOUR)
        for seed, (architecture, attack, rate, target) in enumerate(_RATES, 1)
    )


def _clean() -> tuple[Design, ...]:
    return tuple(_control(at, *kind) for at, kind in enumerate(_ROUNDS * _KINDS))


def _control(at: int, dataset: str, architecture: str, width: int) -> Design:
    recipe = _brief(dataset, architecture, at)
    return Design(architecture, NO_ATTACK, _FIRST_SEED + at, dataset, width=width, rate=0.0, recipe=recipe)


def _brief(dataset: str, architecture: str, at: int) -> Recipe:
    """Every second one has a normalisation in its file; the rate of learning and the precision as in `design`."""
    normalised = at % 2 == 1
    return replace(
        BRIEF,
        name="normalised" if normalised else BRIEF.name,
        epochs=BRIEF.epochs * (1 if dataset == "fashion-mnist" else 2),
        learning_rate=0.05 if architecture == "convnext" else BRIEF.learning_rate,
        precision="float32" if architecture in {"se-net", "mobilenetv2"} else "bfloat16",
        normalise=normalised,
    )


CIFAR10: tuple[Design, ...] = _colour()
CLEAN: tuple[Design, ...] = _clean()
