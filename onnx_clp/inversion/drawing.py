"""What was found for a class as the report shows it: sizes and pictures."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnx_clp.document.search import ClassInversion, FormFound, Picture
from onnx_clp.inversion import finding
from onnx_clp.inversion.blend import Blend
from onnx_clp.inversion.forms import KINDS, Form, Forms
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import Trigger
from onnx_clp.inversion.warp import Warp

_LINES: Final = 8


def drawn(found: Forms, z: finding.Float64, pixels: Range) -> ClassInversion:
    """The forms found for one class that it was compared by; `z` says how far it stands out by each kind."""
    assert found.start is not None
    forms = tuple(
        FormFound(kind, form.flip, _size(form), float(far), _picture(form, pixels, found.start.shape))
        for kind, far in zip(KINDS, z, strict=True)
        if (form := found.by_kind.get(kind)) is not None and np.isfinite(far)
    )
    return ClassInversion(found.target, found.margin, forms)


def _size(form: Form) -> float:
    return form.norm if isinstance(form, Trigger) else form.area


def _picture(form: Form, pixels: Range, shape: tuple[int, ...]) -> Picture:
    if isinstance(form, Trigger):
        reach = max(float(np.abs(form.perturbation).max()), 1e-12)
        return Picture.of(form.perturbation, -reach, reach)
    if isinstance(form, Blend):
        middle = np.float32((pixels.low + pixels.high) / 2)
        blended = middle + form.mask / max(float(form.mask.max()), 1e-12) * (form.pattern - middle)
        return Picture.of(blended, pixels.low, pixels.high)
    if isinstance(form, Warp):
        return Picture.of(form.put_on(_grid(shape))[0], 0, 1)
    reach = pixels.span if isinstance(form, Patch) else pixels.span / 2
    return Picture.of(form.change, -reach, reach)


def _grid(shape: tuple[int, ...]) -> Images:
    """Dark lines on white, one in every eighth of the image, (1, 1, height, width): what a warp is shown on."""
    height, width = shape[1:]
    drawn = np.ones((1, 1, height, width), np.float32)
    drawn[:, :, :: max(height // _LINES, 2)] = 0
    drawn[:, :, :, :: max(width // _LINES, 2)] = 0
    return drawn
