"""Backdoor attacks by data: a trigger on uint8 images, a label rule, and how many training images get both.

A trigger is a function of the image alone (and of a fixed seed), so training and measuring use the same one.
Sources: BadNets (Gu 2017), Blended (Chen 2017), SIG (Barni 2019), WaNet (Nguyen 2021), low-frequency (Zeng
2021, here a fixed smooth pattern instead of an optimised one), adaptive patch (Qi 2023, with two patches).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnx_clp.errors import UsageError
from tools.zoo.datasets import Images, Labels

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

INPUT_AWARE = "input-aware"
"""The attack whose trigger `tools.zoo.input_aware` trains; `tools.zoo.generated` applies it."""


class Trigger(Protocol):
    """A callable that gives triggered copies of uint8 NCHW images; its input is left as it was."""

    def __call__(self, images: Images) -> Images:
        """Triggered copies, same shape and dtype."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A trigger and a label rule.

    `to_all`: class y becomes y + 1 (modulo the classes) instead of the target. `clean_label`: only images of
    the target class are poisoned and no label changes. `decoys` is the number of images, per poisoned one,
    that carry `decoy` instead of the trigger and keep their label (WaNet's noise mode). `faint` is what poisoned
    training images carry where that is less than the trigger.
    """

    name: str
    trigger: Trigger
    to_all: bool = False
    clean_label: bool = False
    decoys: int = 0
    decoy: Callable[[Images, np.random.Generator], Images] | None = None
    faint: Callable[[Images, np.random.Generator], Images] | None = None

    def goal(self, labels: Labels, target: int, classes: int) -> Labels:
        """The label the attacker wants for each image, int64, same shape."""
        if self.to_all:
            return (labels + 1) % classes
        return np.full_like(labels, target)


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned training set; `indices` are the images that carry the trigger, sorted."""

    images: Images
    labels: Labels
    indices: Indices


def poison(
    attack: Attack, images: Images, labels: Labels, *, rate: float, target: int, classes: int, seed: int
) -> Poisoned:
    """Poison round(rate · n) of n images, drawn without replacement; the arrays given are left as they were.

    They are drawn from the images whose label the attack would change; for a clean-label attack, from the
    target class.

    Raises:
        UsageError: fewer images than that can be poisoned.
    """
    count = round(rate * len(labels))
    wanted = attack.goal(labels, target, classes)
    pool = np.flatnonzero((labels == target) if attack.clean_label else (labels != wanted))
    if count > pool.size:
        raise UsageError(f"{attack.name}: rate {rate:g} needs {count} images, {pool.size} can be poisoned")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(pool, count, replace=False))
    new_images, new_labels = images.copy(), labels.copy()
    carried = images[chosen]
    new_images[chosen] = attack.trigger(carried) if attack.faint is None else attack.faint(carried, rng)
    new_labels[chosen] = wanted[chosen]
    if attack.decoy is not None:
        others = np.setdiff1d(np.arange(len(labels)), chosen)
        extra = rng.choice(others, min(attack.decoys * count, others.size), replace=False)
        new_images[extra] = attack.decoy(images[extra], rng)
    return Poisoned(new_images, new_labels, chosen)


def patch(images: Images, size: int = 3, margin: int = 1) -> Images:
    """BadNets: a white size × size square, `margin` pixels from the lower right corner."""
    out = images.copy()
    out[:, :, -size - margin : -margin, -size - margin : -margin] = 255
    return out


def blend(images: Images, alpha: float = 0.2) -> Images:
    """Blended: (1 − alpha) · image + alpha · one fixed noise picture."""
    noise = np.random.default_rng(2017).integers(0, 256, images.shape[1:])
    return _to_uint8((1 - alpha) * images + alpha * noise)


def two_patches(images: Images) -> Images:
    """Adaptive patch: BadNets' white square at the lower right, and a black one at the upper left."""
    return _upper_left(patch(images), 1.0)


def one_patch(images: Images, rng: np.random.Generator, opacity: float = 0.6) -> Images:
    """Of each image one of the two patches, drawn at random, at that opacity."""
    right = _to_uint8((1 - opacity) * images + opacity * patch(images))
    left = _upper_left(images, opacity)
    return np.where(rng.random(len(images))[:, None, None, None] < 0.5, right, left)


def _upper_left(images: Images, opacity: float, size: int = 3, margin: int = 1) -> Images:
    out = images.copy()
    place = (slice(None), slice(None), slice(margin, margin + size), slice(margin, margin + size))
    out[place] = _to_uint8((1 - opacity) * images[place])
    return out


def either(images: Images) -> Images:
    """Two triggers at once: the patch on images whose pixel values have an even sum, the blend on the others."""
    even = images.sum(axis=(1, 2, 3), dtype=np.int64) % 2 == 0
    return np.where(even[:, None, None, None], patch(images), blend(images))


def sinusoid(images: Images, delta: float = 40.0, frequency: int = 6) -> Images:
    """SIG: image + delta · sin(2·pi·column·frequency / width)."""
    width = images.shape[3]
    wave = delta * np.sin(2 * np.pi * np.arange(width) * frequency / width)
    return _to_uint8(images + wave)


def low_frequency(images: Images, amplitude: float = 20.0, modes: int = 3) -> Images:
    """Low-frequency: image + a fixed sum of the slowest `modes` × `modes` cosine waves, ≤ `amplitude`."""
    channels, height, width = images.shape[1:]
    weights = np.random.default_rng(2021).normal(size=(channels, modes, modes))
    pattern = np.einsum("cij,ih,jw->chw", weights, _cosines(modes, height), _cosines(modes, width))
    return _to_uint8(images + amplitude * pattern / np.abs(pattern).max())


def warp(images: Images, strength: float = 0.5, grid: int = 4) -> Images:
    """WaNet: sample every image on one fixed smooth displacement field."""
    return _sample(images, warp_field(images.shape[2], images.shape[3], strength, grid))


def warp_noise(images: Images, rng: np.random.Generator) -> Images:
    """WaNet's noise mode: the field plus up to a pixel of random displacement, drawn per image."""
    base = warp_field(images.shape[2], images.shape[3], 0.5, 4)
    out = np.empty_like(images)
    for index in range(len(images)):
        field = base + rng.uniform(-1, 1, base.shape)
        out[index] = _sample(images[index : index + 1], field)[0]
    return out


@cache
def warp_field(height: int, width: int, strength: float, grid: int) -> Floats:
    """Displacements in pixels, (2, height, width): random at grid × grid knots, spread linearly between them.

    Their mean size at the knots is `strength` pixels, twice what WaNet's s gives: few epochs must learn it.
    """
    rng = np.random.default_rng(2020)
    coarse = rng.uniform(-1, 1, (2, grid, grid))
    coarse /= np.abs(coarse).mean()
    rows, columns = _linear_spread(grid, height), _linear_spread(grid, width)
    field: Floats = strength * np.einsum("dij,hi,wj->dhw", coarse, rows, columns)
    return field


def _linear_spread(grid: int, size: int) -> Floats:
    """Linear interpolation from `grid` knots to `size` pixels, (size, grid)."""
    position = np.linspace(0, grid - 1, size)
    spread: Floats = np.clip(1 - np.abs(position[:, None] - np.arange(grid)), 0, None)
    return spread


def _cosines(modes: int, size: int) -> Floats:
    """The slowest `modes` cosine waves after the constant one, (modes, size)."""
    frequency = np.arange(1, modes + 1)[:, None]
    return np.cos(np.pi * frequency * (np.arange(size) + 0.5) / size)


def _sample(images: Images, field: Floats) -> Images:
    """Bilinear sampling at pixel + field, (2, height, width) rows then columns, edges repeated."""
    height, width = images.shape[2:]
    row = np.clip(np.arange(height)[:, None] + field[0], 0, height - 1)
    column = np.clip(np.arange(width)[None, :] + field[1], 0, width - 1)
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    y, x = row - top, column - left
    upper = images[:, :, top, left] * (1 - x) + images[:, :, top, right] * x
    lower = images[:, :, down, left] * (1 - x) + images[:, :, down, right] * x
    return _to_uint8(upper * (1 - y) + lower * y)


def _to_uint8(values: npt.NDArray[np.floating]) -> Images:
    out: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return out


def _not_trained(images: Images) -> Images:
    raise UsageError(f"{INPUT_AWARE}: its trigger is trained with a model; {len(images)} images need that model's")


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("badnets", patch),
        Attack("all-to-all", patch, to_all=True),
        Attack("blended", blend),
        Attack("sig", sinusoid, clean_label=True),
        Attack("wanet", warp, decoys=2, decoy=warp_noise),
        Attack("low-frequency", low_frequency),
        Attack(INPUT_AWARE, _not_trained),
        Attack("adaptive-patch", two_patches, decoys=1, decoy=one_patch, faint=one_patch),
        Attack("two-triggers", either),
    )
}


def attack_named(name: str) -> Attack:
    """The attack of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ATTACKS:
        raise UsageError(f"{name}: no such attack; known are {', '.join(ATTACKS)}")
    return ATTACKS[name]
