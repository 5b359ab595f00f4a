"""What was found for a class, as the report shows it."""

from __future__ import annotations

import numpy as np

from onnx_clp.document.search import ClassInversion, FormFound
from onnx_clp.inversion import finding
from onnx_clp.inversion.forms import KINDS, Forms
from onnx_clp.inversion.pixels import Range


def drawn(found: Forms, z: finding.Float64, pixels: Range) -> ClassInversion:
    """The forms found for one class that it was compared by; `z` says how far it stands out by each kind."""
    forms = tuple(
        FormFound(kind, form.flip, form.area, float(far), form.picture(pixels))
        for kind, far in zip(KINDS, z, strict=True)
        if (form := found.by_kind.get(kind)) is not None and np.isfinite(far)
    )
    return ClassInversion(found.target, found.margin, forms)
