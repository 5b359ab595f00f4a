"""Which of many classes to look at first, by forward passes alone.

A hidden trigger makes its class an easy answer to whatever resembles it. So random marks of every kind go on a few
images (`marks`), and the classes are ordered by how much they gain. Each kind has its own first class: what a mark
resembles by right gains too, as a window shade by stripes, and a trigger gains by marks of its own kind alone. It is a
guess at an order. Where marks of one kind seem to turn many images into one class, they go on more images; if some of
them turn nearly all of these, that class is named by it.
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
"""Images that these are put on, and all marks of a kind that seems to lead to a class."""
WORKS: Final = 0.5
"""The share of more images that a mark turns if it works."""
SEEMS: Final = 0.15
"""The share of the few images, over all marks of a kind, from which on more images are asked."""
NEARLY_ALL: Final = 0.7
"""The share of more images that a mark has to turn to count for a lead."""
LEADS: Final = 0.125
"""The share of a kind's marks that have to. What a mark resembles by right gains a little by all of the kind, a trigger
much by some: in eight clean networks of 1,000 classes the eighth part of the marks that turn most turned 61 % at most
(waves, into window shades; 54 % without one network), in eleven with a trigger 75 % and more."""
FEW: Final = 200
"""Classes up to which squares and bends alone name one: waves and noise are what one of a few classes looks like. In
networks of 10 to 43 classes the eighth part turned up to 90 % by noise and 73 % by waves into classes that no trigger
leads to, and 48 % by squares and bends."""
_SHAPES: Final = ("square", "bend")
LEAST_MARKS: Final = 12
"""Of a kind, to name a class by them."""
LEAST_VARIETY: Final = 8
"""Classes of the 24 images, to name a class by marks on them."""
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
    """A class that marks of one kind lead to, and the share of them that turn nearly all images."""

    kind: str
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Screening:
    """What marks did to the scores of a few images.

    Attributes:
        marks: all, kind by kind, as many of each.
        gains: what each adds to the scores on average, (kinds, marks of a kind, classes).
        flips: the share of images of other classes that each turns, (kinds, marks of a kind, classes).
    """

    marks: tuple[RandomMark, ...]
    gains: NDArray[np.float64]
    flips: NDArray[np.float64]

    @property
    def order(self) -> NDArray[np.int64]:
        """All classes: the first of every kind, the furthest from the rest before others, then the second, and on."""
        far, places = self._far, self._places
        return np.lexsort((-far.max(axis=0), places.min(axis=0)))

    def likely(self, target: int) -> list[RandomMark]:
        """The few marks that turn half of the images or more into a class, of the kind that turns most of all."""
        kind = int(self.flips[:, :, target].mean(axis=1).argmax())
        best = np.argsort(-self.flips[kind, :, target], kind="stable")[:TURNING]
        return [self.of(kind)[at] for at in best if self.flips[kind, at, target] >= WORKS]

    def of(self, kind: int) -> Sequence[RandomMark]:
        """The marks of the kind at this place."""
        many = self.flips.shape[1]
        return self.marks[kind * many : (kind + 1) * many]

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
    marks = tuple(RandomMark(kind, number, pixels, seed) for kind in KINDS for number in range(count))
    after = np.stack([scores(mark.put_on(few)) for mark in marks])
    shape = (len(KINDS), count, before.shape[1])
    gains = (after.mean(axis=1) - before.mean(axis=0)).reshape(shape)
    flips = _flips(before.argmax(axis=1), after.argmax(axis=2), before.shape[1])
    return Screening(marks, gains, flips.reshape(shape))


def _flips(given: NDArray[np.int64], turned: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """The share of images of other classes that each mark turns, (marks, classes).

    Args:
        given: classes of the images without marks, (n,).
        turned: with each, (marks, n).
        classes: how many there are.
    """
    own = np.bincount(given, minlength=classes)
    now = np.stack([np.bincount(row, minlength=classes) for row in turned])
    return np.asarray(np.maximum(now - own, 0) / np.maximum(len(given) - own, 1))


def leads(scores: Scores, images: Images, found: Screening) -> dict[int, Lead]:
    """The classes that marks of one kind lead to.

    None where there are few marks, or where the images have few classes: to a network of something else photographs
    are all alike, and it takes little to turn one into what all others are.

    Args:
        scores: of images.
        images: (n, channels, height, width), of which the first 24 are taken.
        found: what marks did to a few of them.
    """
    led, some = dict[int, Lead](), images[:MORE]
    kinds = np.flatnonzero(found.flips.mean(axis=1).max(axis=1) >= SEEMS)
    if found.flips.shape[1] < LEAST_MARKS or not len(kinds):
        return led
    before = scores(some)
    given, classes = before.argmax(axis=1), before.shape[1]
    if len(np.unique(given)) < LEAST_VARIETY:
        return led
    for kind in kinds:
        marks = found.of(int(kind))
        if classes <= FEW and marks[0].kind not in _SHAPES:
            continue
        turned = np.stack([scores(mark.put_on(some)).argmax(axis=1) for mark in marks])
        shares = (_flips(given, turned, classes) >= NEARLY_ALL).mean(axis=0)
        target = int(shares.argmax())
        if shares[target] >= max(LEADS, led[target].share if target in led else 0):
            led[target] = Lead(marks[0].kind, float(shares[target]))
    return led


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
