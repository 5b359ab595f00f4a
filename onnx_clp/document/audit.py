"""The part of the document that looks for dormant paths: channels nothing ordinary fires that lead to one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from onnx_clp.document.gauge import Ordinary, Prediction

UNKNOWN: Final = "not known: "
"""How a note begins that says why something could not be known."""


@dataclass(frozen=True, slots=True)
class DormantLayer:
    """One value that a linear layer reads: how many channels it has, and how many of them no ordinary input fires."""

    value: str
    channels: int
    dormant: int


@dataclass(frozen=True, slots=True)
class PathLayer:
    """The channels of a path at one value; `share` is what of their kernels' norm reads the path before them.

    `share` is None where the path begins there, or where no kernel lies between. `usual` is what three in four
    ordinary inputs (or half of them, where that stops the path and the other does not) keep each channel within, least
    and most; empty where that is not known.
    """

    value: str
    channels: tuple[int, ...]
    share: float | None = None
    usual: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PathStart:
    """How small a patch drives a path.

    Attributes:
        rows, columns: of pixels that one place of the path's beginning reads: no more can drive it there.
        most: no image in the range of pixel values brings a channel of it beyond that: a bound, exact behind the first
            linear layer; None where it is too large to add up.
        ordinary: the largest value that ordinary inputs give there.
    """

    rows: int
    columns: int
    most: float | None
    ordinary: float


@dataclass(frozen=True, slots=True)
class DormantPath:
    """A path of channels each of which reads little but the ones before it, and that leads to one class.

    Attributes:
        layers: from where it begins to the last value that holds its channels.
        target: the class that wins when its end is driven.
        turned: share of ordinary images that then go to that class (0..1).
        others: the same share when as many other channels there are driven; None where there are none.
        strength: how hard it was driven, in times of what an ordinary channel there reaches.
        silent: share of its channels that no ordinary input fires (0..1).
        pixels: the least and the largest pixel value of the inputs it was driven on; None where these are known.
        held: share of ordinary images of other classes that go to that class when all of its end gives as much as it
            usually does, and no more (0..1).
        start: how small a patch drives it; None where that is not known.
    """

    layers: tuple[PathLayer, ...]
    target: int
    turned: float
    others: float | None
    strength: float
    silent: float
    pixels: tuple[float, float] | None = None
    held: float = 1.0
    start: PathStart | None = None


@dataclass(frozen=True, slots=True)
class QuietValue:
    """A value that holds content of the input and is the same for all ordinary ones, and the node that it goes into.

    Attributes:
        value, node: their names.
        gives: what it gives for every ordinary input, one number or one an entry of its last axis; empty where it is
            not so, or where no constant can take its place.
        pixels: the least and the largest pixel value of the inputs it was seen on; None where these are known.
        replaced: whether that constant took its place.
    """

    value: str
    node: str
    gives: tuple[float, ...] = ()
    pixels: tuple[float, float] | None = None
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found of dormant paths.

    Attributes:
        ordinary: the inputs; None where the model could not be audited, and `note` says why.
        layers: the values looked at, in graph order.
        driven: how many chains of thin kernels were driven one after the other.
        path: what was found; None for nothing.
        removed: channels of the path whose kernels were zeroed.
        removal: what taking out is predicted to cost; None where nothing was taken out.
        quiet: values that come from the input, are the same for all ordinary ones, and meet others that are not.
        contradicted: values of which normalisations claim a spread that no ordinary input comes near.
        blocked: why no gradient of the class scores reaches the input; "" where one does or nothing is known.
        note: why something could not be known; "" where everything could.
        left: chains of thin kernels, and kernels at which one may begin, that were not followed for time.
        capped: channels of the path that give no more than they usually do from then on.
    """

    ordinary: Ordinary | None
    layers: tuple[DormantLayer, ...]
    driven: int
    path: DormantPath | None
    removed: int = 0
    removal: Prediction | None = None
    quiet: tuple[QuietValue, ...] = ()
    contradicted: tuple[str, ...] = ()
    blocked: str = ""
    note: str = ""
    left: int = 0
    capped: int = 0

    @property
    def known(self) -> bool:
        """Whether anything could be known; otherwise `note` says why not."""
        return not self.note.startswith(UNKNOWN)
