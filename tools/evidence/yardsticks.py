"""When a backdoor counts as removed, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.errors import LoadError
from tools.evidence.record import Rates


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A success leaves ASR below `asr` and costs less than `drop` of ACC, both shares in 0..1, both strictly."""

    name: str
    asr: float
    drop: float

    def passed(self, before: Rates, after: Rates) -> bool:
        """Whether this model was repaired."""
        return after.asr < self.asr and loss(before, after) < self.drop


BACKDOORBENCH = Yardstick("BackdoorBench", asr=0.20, drop=0.10)
STRICT = Yardstick("strict", asr=0.10, drop=0.02)


def loss(before: Rates, after: Rates) -> float:
    """Clean accuracy lost, as a share; below 0 where it rose.

    Raises:
        LoadError: the two were measured on different numbers of images.
    """
    if before.images != after.images:
        raise LoadError(f"rates of {before.images} and of {after.images} images cannot be compared: measure again")
    return round(before.acc - after.acc, 9)
