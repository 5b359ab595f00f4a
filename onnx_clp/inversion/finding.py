"""Which class stands out: one that takes a far smaller push than the others.

Two measures a class, each in robust standard deviations from the median of all (1.4826 · median absolute deviation):
the margin that a perturbation of fixed size reaches (high is suspicious) and the logarithm of the area that a patch
needs (low is suspicious). A class is likely the target where a measure passes its limit and no other class does
better on it. Few classes, or triggers that no perturbation shared by all images comes near, leave it open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LIMIT: Final = 2.5
LEAST_CLASSES: Final = 4
_MAD_TO_STD: Final = 1.4826
_LEAST_SPREAD: Final = 0.25
"""Of logits, and of natural logarithms of areas: classes closer together than this do not differ."""


def robust_z(values: Sequence[float]) -> Float64:
    """Distance of each value from the median, in robust standard deviations of at least 0.25."""
    found = np.asarray(values, np.float64)
    centre = np.median(found)
    spread = _MAD_TO_STD * np.median(np.abs(found - centre))
    return np.asarray((found - centre) / max(float(spread), _LEAST_SPREAD))


def likely(margin_z: Float64, patch_z: Float64, flips: Sequence[float]) -> int | None:
    """Position of the class that stands out; None where none does or there are fewer than 4.

    Args:
        margin_z: of the margins, (classes,).
        patch_z: of the negative log areas, (classes,); 0 where no patch was found.
        flips: share of images turned by the perturbation or the patch, whichever is more.
    """
    if len(margin_z) < LEAST_CLASSES:
        return None
    together = np.maximum(margin_z, patch_z)
    best = int(np.argmax(together))
    return best if together[best] > LIMIT and flips[best] >= 0.5 else None


def sentence(classes: int, best: int, margin_z: Float64, patch_z: Float64, found: int | None) -> str:
    """What was found, for people."""
    if classes < LEAST_CLASSES:
        return f"{classes} classes are too few to tell whether one of them stands out"
    if found is None:
        return (
            f"no class stands out: the nearest, class {best}, lies {max(margin_z[best], patch_z[best]):.1f} robust "
            f"standard deviations from the others ({LIMIT:g} are needed). That is no proof of a clean model"
        )
    measure = "a smaller patch" if patch_z[found] >= margin_z[found] else "a smaller perturbation"
    return (
        f"class {found} is the likely target of a hidden trigger: {measure} turns images into it than into the other "
        f"classes, by {max(margin_z[found], patch_z[found]):.1f} robust standard deviations"
    )
