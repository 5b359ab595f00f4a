"""Which classes a search looks at: those that are near or suspect, and others to compare them with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeVar

import numpy as np

from onnx_clp.inversion import finding
from onnx_clp.inversion.forms import Forms, furthest
from onnx_clp.inversion.patch import Patch

_One = TypeVar("_One")

RUNNERS: Final = 6
"""Classes that go on after the first heat of a form, half of them the nearest."""
AHEAD: Final = 1.5
"""Standard deviations that a class must be from the others for a form to be looked for any further."""
NEAR: Final = 1.0
"""A form is not looked for any further where another sets a class apart by so much more."""


def first(ordered: Sequence[_One], named: Collection[_One]) -> list[_One]:
    """The things in their order, but those named first."""
    return [*(one for one in ordered if one in named), *(one for one in ordered if one not in named)]


def spread(ordered: Sequence[_One], most: int) -> list[_One]:
    """Of things in order the first half of `most`, and the other half evenly from the rest, for comparison."""
    near = -(-most // 2)
    rest = ordered[near:]
    places = np.linspace(0, len(rest) - 1, min(most - near, len(rest))).astype(int)
    return [*ordered[:near], *(rest[at] for at in places)]


def decided(z: finding.Float64) -> bool:
    """Whether one class stands out so far, and no other at all, that further forms change nothing of it.

    Args:
        z: how far each class stands out by each form, (forms, classes).
    """
    far = np.sort(z.max(axis=0))
    return len(far) >= finding.LEAST_CLASSES and far[-1] >= finding.CLEAR and far[-2] < finding.LIMIT


def going_on(z: finding.Float64, row: int, suspects: Collection[int] = ()) -> list[int]:
    """Places of the classes that go on with the form of that row; none where it leads nowhere.

    Args:
        z: how far each class stands out by each form, (forms, classes), after the first heat of that form.
        row: of the form.
        suspects: places of classes that something else is evidence of.
    """
    have = np.flatnonzero(np.isfinite(z[row]))
    least = max(AHEAD, z.max() - NEAR)
    if not len(have) or z[row].max() < least:
        return []
    nearest = [int(at) for at in have[np.argsort(-z[row, have], kind="stable")]]
    return spread(first(nearest, suspects), RUNNERS)


def by_block(found: Sequence[Forms], z: finding.Float64) -> bool:
    """Whether a search is over: decided for a class by a patch that begins at a block which turns images by itself.

    Nothing further that is found towards that class would be undone before the patch.
    """
    if not decided(z):
        return False
    place = finding.nearest(z)
    return found[place].block is not None and isinstance(furthest(found, z, place), Patch)


def led(found: Sequence[Forms]) -> int | None:
    """Position of the class that random marks lead to, of several the one by most; None for none."""
    there = [(forms.lead.share, -at) for at, forms in enumerate(found) if forms.lead is not None]
    return -max(there)[1] if there else None
