"""What is added to every image alike: the shape that patches and waves share."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.document.search import Picture
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """A change (channels, height, width) towards `target`; `flip` is the share of images it turns, `area` its size."""

    target: int
    change: Float32
    flip: float
    area: float
    pixels: Range

    @property
    def reach(self) -> float:
        """The change that is drawn black or white."""
        return self.pixels.span

    def picture(self, _pixels: Range) -> Picture:
        """The change, grey where there is none."""
        return Picture.of(self.change, -self.reach, self.reach)

    def put_on(self, images: Images) -> Images:
        """The images with the change added, within the range of pixels."""
        return self.pixels.clipped(images + self.change)
