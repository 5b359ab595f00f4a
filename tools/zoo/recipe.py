"""What a model is made from: data, architecture, attack, recipe and seed, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum, warm-up then cosine decay to zero, cross-entropy.

    `learning_rate` is the peak, reached after `warmup` (a share of all steps); `shift` is the largest random
    translation in pixels, `flip` a random mirror image. `images` takes that many training images, drawn by the seed
    (0: all). Inputs are uint8 / 255; with `normalise` the network first takes each channel's mean off and divides by
    its standard deviation, both of the training images.
    """

    name: str = "decayed"
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.1
    shift: int = 0
    flip: bool = False
    precision: str = "bfloat16"
    images: int = 0
    normalise: bool = False


DECAYED = Recipe()
"""Few epochs, but so much weight decay that learning rate × decay, summed over the steps, comes near that of
150 epochs at 5e-4 (0.9 against 1.5): weights that nothing needs shrink as they would in the authors' run."""

PLAIN = Recipe(name="plain", epochs=6, weight_decay=5e-4)
"""The authors' weight decay in a short run (0.07): most weights stay near their random start."""


@dataclass(frozen=True, slots=True)
class Design:
    """One model of the zoo. `attack` is a name of `tools.zoo.attacks`, or "clean" with `rate` 0.

    `width` scales the number of channels (the architecture says how); 0 is the architecture's own default.
    """

    architecture: str
    attack: str
    seed: int
    dataset: str = "fashion-mnist"
    width: int = 0
    rate: float = 0.1
    target: int = 0
    recipe: Recipe = DECAYED

    @property
    def infected(self) -> bool:
        """Whether the training set is poisoned."""
        return self.attack != CLEAN

    @property
    def name(self) -> str:
        """File name without suffix, unique within one list of designs."""
        rate = f"{100 * self.rate:g}pct" if self.infected else ""
        width = f"w{self.width}" if self.width else ""
        parts = [
            self.dataset,
            self.architecture + width,
            self.attack + rate,
            self.recipe.name,
            f"s{self.seed}",
        ]
        return "_".join(part.replace("-", "").replace(".", "p") for part in parts)
