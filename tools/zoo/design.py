"""The lists of models: the small set that is published."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_clp.errors import UsageError
from tools.zoo.recipe import Design

SMALL: tuple[Design, ...] = (
    *(Design("resnet18", "badnets", seed, width=16) for seed in range(3)),
    Design("resnet18", "clean", 0, width=16, rate=0.0),
)

SETS: dict[str, tuple[Design, ...]] = {"small": SMALL}


def select(name: str, only: Sequence[str] = ()) -> tuple[Design, ...]:
    """The designs of a set, or those of it that are named.

    Raises:
        UsageError: a name is not in the set.
    """
    designs = SETS[name]
    if unknown := sorted(set(only) - {design.name for design in designs}):
        raise UsageError(f"{unknown[0]}: not in the set {name}; see python -m tools.zoo list --set {name}")
    return tuple(design for design in designs if not only or design.name in only)
