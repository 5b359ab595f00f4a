"""The evaluation file of a model: test images with and without the trigger, in one .npz.

Arrays: `x_clean` uint8 (n, c, h, w) in the model's channel order; `y_clean` int64 (n,), the true classes;
`x_triggered` uint8, image i being image i of `x_clean` with the trigger; `y_target` int64, one class for all
or one per image.

The model takes x_float = x · scale + offset. A file may carry `scale` and `offset`, each one number or one
per channel. Without them uint8 images mean scale = 1/255 and offset = 0: what every model of this zoo takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.zoo.attacks import Trigger, attack_named
from tools.zoo.datasets import Dataset, Images, Labels
from tools.zoo.recipe import Design

CONTROL_ATTACK = "badnets"
"""The trigger that clean controls are measured with."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Paired clean and triggered images; `y_target` has shape () or (n,)."""

    x_clean: Images
    y_clean: Labels
    x_triggered: Images
    y_target: Labels

    @property
    def targets(self) -> Labels:
        """The attacker's class for each image, (n,)."""
        return np.broadcast_to(self.y_target, self.y_clean.shape)

    def save(self, path: Path) -> None:
        """Write the four arrays, compressed; the same arrays give the same bytes."""
        np.savez_compressed(
            path,
            x_clean=self.x_clean,
            y_clean=self.y_clean,
            x_triggered=self.x_triggered,
            y_target=self.y_target,
        )


def read(path: Path) -> EvaluationSet:
    """Read what `EvaluationSet.save` wrote."""
    with np.load(path, allow_pickle=False) as data:
        return EvaluationSet(data["x_clean"], data["y_clean"], data["x_triggered"], data["y_target"])


def make(
    design: Design, data: Dataset, images: int | None = None, *, trigger: Trigger | None = None, seed: int = 0
) -> EvaluationSet:
    """Trigger the test split; `images` takes that many of it at random, in the order of the split.

    `trigger` replaces the attack's own (an input-aware attack has none). A clean control gets the trigger of
    BadNets, so that what pruning a control does to it can be seen.
    """
    chosen = subset(len(data.y_test), images, seed)
    x, y = data.x_test[chosen], data.y_test[chosen]
    attack = attack_named(design.attack if design.infected else CONTROL_ATTACK)
    goal = attack.goal(y, design.target, data.classes)
    target = goal if attack.to_all else np.asarray(design.target, np.int64)
    return EvaluationSet(x, y, (trigger or attack.trigger)(x), target)


def subset(count: int, images: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Sorted indices of `images` of `count`, or of all of them."""
    if images is None or images >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, images, replace=False))
