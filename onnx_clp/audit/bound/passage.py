"""From a file to the bounds of one of its values: images in a range of pixel values go in, and are followed to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from onnx_clp.audit.bound import field, walk
from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.config import GIB
from onnx_clp.gauge.intake import Intake, Pixels
from onnx_clp.gauge.ordinary import Form
from onnx_clp.graph.model import ModelIndex
from onnx_clp.modelfile import reader
from onnx_clp.validation import macs

_LARGEST: Final = 1 << 20


def hull(pixels: Sequence[Pixels]) -> tuple[float, float]:
    """The least and the largest value of pixels whose range is one of these."""
    ends = [one.ends for one in pixels]
    return min(low for low, _ in ends), max(high for _, high in ends)


def entry(form: Form, intake: Intake, pixels: tuple[float, float], size: int) -> Field:
    """All images in a range of pixel values, with any patch of `size` × `size` put anywhere on them."""
    axes = ("N", "H", "W", "C") if intake.channels_last else ("N", "C", "H", "W")
    return field.image(axes, form.shapes[intake.name], *pixels, size)


def followed(model: Path, form: Form, name: str, images: Field, value: str) -> Field:
    """The bounds of a value, from those of the input `name` and a file's weights.

    Raises:
        NoBoundError: there are none.
    """
    inferred = macs.inferred(model, form.shapes)
    if inferred is None:
        raise NoBoundError("shapes that cannot be inferred")
    with reader.read(model, _LARGEST * GIB) as file:
        scope = ModelIndex(file.model, file.store).main
        return walk.bounded(scope, macs.known_shapes(inferred.graph), name, images, value)
