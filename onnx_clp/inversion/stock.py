"""Ordinary pictures for a repair where nothing tells how real ones are distributed.

Images made by class evidence show classes and little else, photographs show all but the classes, and caps fitted on
either alone cost the other. So they are fitted on photographs, on mixtures of made images (moved by a few pixels), and
on mixtures of both. Half of the made images and half of the photographs are held back: on these the loss is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.ordinary import photographs
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images

MOST: Final = 900
_LARGEST: Final = 1 << 24
"""Values that all of them have together at most."""
_HELD_PHOTOGRAPHS: Final = 144
_FITTED, _HELD = slice(0, None, 2), slice(1, None, 2)
_FAR: Final = 2
_LEAST_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Pictures (n, channels, height, width): those to fit caps on, and sets that were held back."""

    fitted: Images
    held: tuple[Images, ...]


def stock(made: Images, target: NDArray[np.bool_], pixels: Range, seed: int, most: int = MOST) -> Stock:
    """At most so many pictures (and never more than memory has room for), a third of each kind.

    Args:
        made: images made from the model, classes in turn; the later half is held back.
        target: which of them are of the class that the trigger leads to, (n,). They may show the trigger itself, so
            caps are fitted on none of them; what they lose counts.
        pixels: the range of pixel values.
        seed: of what is drawn.
        most: how many pictures to fit on, at least 3.
    """
    shape = (made.shape[1], made.shape[2], made.shape[3])
    count = max(1, min(most, MOST, _LARGEST // max(made[0].size, 1)) // 3)
    rng = np.random.default_rng([seed, 11])
    half = -(-len(made) // 2)
    known, held = made[:half][~target[:half]], made[half:]
    known = known if len(known) else made[:half]
    moved = _mixed(known, known, count, rng)
    shown = photographs(shape, pixels, seed, count, _FITTED)
    if shown is None:
        return Stock(moved, (held,))
    others = photographs(shape, pixels, seed, _HELD_PHOTOGRAPHS, _HELD)
    assert others is not None
    return Stock(np.concatenate([moved, shown, _mixed(known, shown, count, rng)]), (others, held))


def _mixed(some: Images, others: Images, count: int, rng: np.random.Generator) -> Images:
    """Weighted means of random pairs, the first of which is moved by up to two pixels."""
    weights = rng.uniform(_LEAST_SHARE, 1 - _LEAST_SHARE, (count, 1, 1, 1)).astype(np.float32)
    first, second = some[rng.integers(0, len(some), count)], others[rng.integers(0, len(others), count)]
    steps = rng.integers(-_FAR, _FAR + 1, (count, 2))
    moved = np.stack([np.roll(image, tuple(step), (1, 2)) for image, step in zip(first, steps, strict=True)])
    return np.asarray(weights * moved + (1 - weights) * second, np.float32)
