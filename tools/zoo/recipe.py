"""What a model is made from: data, architecture, attack, recipe and seed, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with momentum, warm-up then cosine decay to zero, cross-entropy.

    `learning_rate` is the peak, reached after `warmup` (a share of all steps); `shift` is the largest random
    translation in pixels, `flip` a random mirror image. Inputs are uint8 / 255, with no other normalisation.
    """

    epochs: int = 6
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1
    shift: int = 0
    flip: bool = False
    precision: str = "bfloat16"


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
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def infected(self) -> bool:
        """Whether the training set is poisoned."""
        return self.attack != CLEAN

    @property
    def name(self) -> str:
        """File name without suffix, unique within one list of designs."""
        rate = f"{100 * self.rate:g}pct" if self.infected else ""
        width = f"w{self.width}" if self.width else ""
        parts = (self.dataset, self.architecture + width, self.attack + rate, f"s{self.seed}")
        return "_".join(part.replace("-", "").replace(".", "p") for part in parts)
