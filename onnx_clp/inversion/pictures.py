"""The images that a search runs on."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.document.search import SearchImages
from onnx_clp.inversion import finding
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The images of a search and where they come from."""

    images: Images
    made: SearchImages
    pixels: Range

    @property
    def doubt(self) -> float:
        """Times the usual spread of classes that these images lead to."""
        return finding.UNMATCHED if self.made.source == "classes" else 1.0
