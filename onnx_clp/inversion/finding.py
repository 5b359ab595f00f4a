"""Which class stands out: one that takes a far smaller push than the others.

Four measures a class (`forms`), each in robust standard deviations from the median of all (1.4826 · median absolute
deviation): the margin that a perturbation of fixed size reaches (high is suspicious), and the logarithms of the areas
that a patch and a blend need and of how far a warp moves pixels (low is suspicious). The class furthest out by any is
the likely target if it passes the limit. Few classes, or triggers that nothing shared by all images comes near, leave
it open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Form = TypeVar("Form")

LIMIT: Final = 2.85
LEAST_CLASSES: Final = 4
_GUILTY: Final = 0.75
_NAMES: Final = ("a smaller perturbation", "a smaller patch", "a fainter blend", "a slighter warp")
_MAD_TO_STD: Final = 1.4826
_LEAST_SPREAD: Final = 0.25
"""Of logits, and of natural logarithms of areas: classes closer together than this do not differ."""


def robust_z(values: Sequence[float]) -> Float64:
    """Distance of each value from the median, in robust standard deviations of at least 0.25."""
    found = np.asarray(values, np.float64)
    centre = np.median(found)
    spread = _MAD_TO_STD * np.median(np.abs(found - centre))
    return np.asarray((found - centre) / max(float(spread), _LEAST_SPREAD))


def likely(z: Float64, flips: Sequence[float]) -> int | None:
    """Position of the class that stands out; None where none does or there are fewer than 4.

    Args:
        z: how far each class stands out by each form, (forms, classes).
        flips: the largest share of images that any form turns, by class.
    """
    if z.shape[1] < LEAST_CLASSES:
        return None
    best = nearest(z)
    return best if z[:, best].max() > LIMIT and flips[best] >= 0.5 else None


def nearest(z: Float64) -> int:
    """Position of the class that stands out most by any form."""
    return int(np.argmax(z.max(axis=0)))


def guilty(forms: Sequence[Form], z: Float64) -> list[Form]:
    """Of the likely target's forms those that set it apart at least 0.75 times as far as the one that does most.

    A form that hardly sets it apart is what any class takes, and undoing that costs the class itself.

    Args:
        forms: what was found.
        z: how far the class stands out by each of them.
    """
    return [form for form, far in zip(forms, z, strict=True) if far >= _GUILTY * z.max()]


def sentence(target: int, z: Float64, stands_out: bool, classes: int) -> str:
    """What was found, for people; `z` is the nearest class's, by form."""
    if classes < LEAST_CLASSES:
        return f"{classes} classes are too few to tell whether one of them stands out"
    far = f"{z.max():.1f} robust standard deviations"
    if not stands_out:
        return (
            f"no class stands out: the nearest, class {target}, lies {far} from the others ({LIMIT:g} are needed); "
            "that is no proof, some triggers leave no such mark"
        )
    return (
        f"class {target} is the likely target of a hidden trigger: {_NAMES[int(z.argmax())]} turns images into it "
        f"than into the other classes, by {far}"
    )
