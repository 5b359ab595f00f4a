"""The part of the document that bounds how far any patch of a size can move the class scores."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.document.gauge import Ordinary


@dataclass(frozen=True, slots=True)
class PatchReach:
    """One model.

    Attributes:
        moves: how far any patch can move the score of one class against another's: a bound; None where there is none.
        margin: by how much the first class leads the second on ordinary images, the median: an estimate.
        stopped: why there is no bound; "" where there is one.
    """

    moves: float | None
    margin: float
    stopped: str = ""

    @property
    def margins(self) -> float | None:
        """The bound in typical margins: up to 1 no patch turns a typical image; None where there is none."""
        return None if self.moves is None or self.margin <= 0 else self.moves / self.margin


@dataclass(frozen=True, slots=True)
class PatchBound:
    """What holds for every image of the pixel range and every patch of `size` × `size` at any place.

    Attributes:
        size: of the patch, in pixels.
        ordinary: the images that `margin` is of; None where nothing could be known, and `note` says why.
        pixels: the smallest and the largest pixel value the bounds hold for.
        before: the input.
        after: the result; None where that is the input as it came.
        note: why nothing could be known; "" where it could.
    """

    size: int
    ordinary: Ordinary | None = None
    pixels: tuple[float, float] | None = None
    before: PatchReach | None = None
    after: PatchReach | None = None
    note: str = ""
