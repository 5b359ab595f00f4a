"""Which of many classes to look at first, by forward passes alone.

A hidden trigger makes its class an easy answer to whatever resembles it. So random marks of every kind go on a few
images (`marks`), and the classes are ordered by how much they gain. Each kind has its own first class: what a mark
resembles by right gains too, as a window shade by stripes, and a trigger gains by marks of its own kind alone. It is a
guess at an order; but where marks of one kind turn a third of all images into one class, and into no other, that class
is named by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.inversion.marks import KINDS, RandomMark
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images

MARKS: Final = 32
"""Of a kind: 24 put the target of each of five networks of 1,000 classes first in 20 of 20 draws, 12 in 15 or more."""
IMAGES: Final = 6
LEADING: Final = 2 * len(KINDS)
"""So many of the first are searched before any others: two of a kind."""
TURNING: Final = 4
"""So many marks of the kind that a class is first by are put on more images."""
MORE: Final = 24
"""Images that these are put on."""
WORKS: Final = 0.5
"""The share of more images that a mark turns if it works."""
LEADS: Final = 0.35
"""The share of images, over all marks of a kind, that names a class."""
AHEAD: Final = 3.5
"""Times as many as into any other class, which is asked for as well. In clean networks of 1,000 classes waves turned up
to 31 % into window shades, 2.6 times as many as into another class, and other kinds up to 18 %."""
LEAST_MARKS: Final = 12
"""Of a kind, to name a class by them."""
LEAST_VARIETY: Final = 4
"""Classes of the six images, to name a class by marks on them."""
CONFIRMS: Final = 0.3
"""The share of images made from the model that a mark has to turn as well: of a domain that the model knows."""

Scores = Callable[[Images], NDArray[np.float32]]
"""Class scores (n, classes) of images (n, channels, height, width)."""


@dataclass(frozen=True, slots=True, eq=False)
class Turning:
    """A mark and the share of images that it turns into a class."""

    mark: RandomMark
    flip: float


@dataclass(frozen=True, slots=True)
class Lead:
    """A class that marks of one kind lead to: the share of images that they turn, and times as many as into another."""

    kind: str
    share: float
    times: float


@dataclass(frozen=True, slots=True, eq=False)
class Screening:
    """What marks did to the scores of a few images.

    Attributes:
        marks: all, kind by kind, as many of each.
        gains: what each adds to the scores on average, (kinds, marks of a kind, classes).
        flips: the share of images of other classes that each turns, (kinds, marks of a kind, classes).
        variety: how many classes the images have without marks.
    """

    marks: tuple[RandomMark, ...]
    gains: NDArray[np.float64]
    flips: NDArray[np.float64]
    variety: int

    @property
    def order(self) -> NDArray[np.int64]:
        """All classes: the first of every kind, the furthest from the rest before others, then the second, and on."""
        far, places = self._far, self._places
        return np.lexsort((-far.max(axis=0), places.min(axis=0)))

    def likely(self, target: int) -> list[RandomMark]:
        """The few marks that turn half of the images or more into a class, of the kind that turns most of all."""
        kind = int(self.flips[:, :, target].mean(axis=1).argmax())
        best = np.argsort(-self.flips[kind, :, target], kind="stable")[:TURNING]
        return [self.marks[kind * self.flips.shape[1] + at] for at in best if self.flips[kind, at, target] >= WORKS]

    @property
    def led(self) -> dict[int, Lead]:
        """The classes that marks of one kind lead to, and to no other class.

        None where there are few marks, or where the images have few classes: to a network of something else
        photographs are all alike, and it takes little to turn one into what all others are.
        """
        found: dict[int, Lead] = {}
        if self.flips.shape[1] < LEAST_MARKS or self.variety < LEAST_VARIETY:
            return found
        for kind, shares in zip(KINDS, self.flips.mean(axis=1), strict=True):
            second, first = np.sort(shares)[-2:]
            target = int(shares.argmax())
            if first >= max(LEADS, AHEAD * second, found[target].share if target in found else 0):
                found[target] = Lead(kind, float(first), float(first / max(second, 1 / self.flips.shape[1])))
        return found

    @property
    def _far(self) -> NDArray[np.float64]:
        """How far each class gains more than the median one, by the median deviation, (kinds, classes)."""
        far = self.gains.mean(axis=1)
        far -= np.median(far, axis=1, keepdims=True)
        return np.asarray(far / np.maximum(np.median(np.abs(far), axis=1, keepdims=True), np.finfo(np.float64).tiny))

    @property
    def _places(self) -> NDArray[np.int64]:
        return np.asarray(np.argsort(np.argsort(-self._far, axis=1, kind="stable"), axis=1))


def forwards(count: int) -> int:
    """How many images go through for so many marks of a kind."""
    return (count * len(KINDS) + 1) * IMAGES


def screened(scores: Scores, images: Images, pixels: Range, seed: int, count: int = MARKS) -> Screening:
    """Put `count` marks of every kind on the first 6 images.

    Args:
        scores: of images.
        images: (n, channels, height, width).
        pixels: the range of pixel values.
        seed: of the marks.
        count: marks of a kind.
    """
    few = images[:IMAGES]
    before = scores(few).astype(np.float64)
    classes = before.shape[1]
    marks = tuple(RandomMark(kind, number, pixels, seed) for kind in KINDS for number in range(count))
    after = np.stack([scores(mark.put_on(few)) for mark in marks])
    gains = (after.mean(axis=1) - before.mean(axis=0)).reshape(len(KINDS), count, classes)
    given = before.argmax(axis=1)
    own = np.bincount(given, minlength=classes)
    turned = np.stack([np.bincount(row, minlength=classes) for row in after.argmax(axis=2)])
    flips = np.maximum(turned - own, 0) / np.maximum(len(few) - own, 1)
    return Screening(marks, gains, flips.reshape(len(KINDS), count, classes), len(np.unique(given)))


def turning(
    scores: Scores, images: Images, marks: Sequence[RandomMark], target: int, least: float = WORKS
) -> list[Turning]:
    """Those of the marks that turn at least so large a share of the images into the target, the best first.

    Args:
        scores: of images.
        images: of other classes, (n, channels, height, width); none turns where there are none.
        marks: what to put on.
        target: the class.
        least: the share.
    """
    if not len(images):
        return []
    found = [Turning(m, float((scores(m.put_on(images)).argmax(axis=1) == target).mean())) for m in marks]
    return sorted((one for one in found if one.flip >= least), key=lambda one: -one.flip)
