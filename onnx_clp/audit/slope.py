"""Whether the class scores have a gradient at all: computed once on a few images."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from onnx_clp.audit.request import AuditRequest
from onnx_clp.errors import UnsupportedModelError, UsageError
from onnx_clp.gauge.bench import Feed, Images
from onnx_clp.gradient.differentiate import differentiate
from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.runtime import load_runtime

_IMAGES: Final = 3
_LARGEST: Final = 1 << 28
"""Bytes of a model that is not looked at in this way: its weights are read once more for it."""


def has_slope(request: AuditRequest, image: str, images: Images, neutral: Feed, engine: Engine) -> bool | None:
    """Whether the gradient of the scores by the input `image` is finite on one of a few images; None where not known.

    Args:
        request: the model, on dials.
        image: the name of the input.
        images: one feed each.
        neutral: what the dials are fed.
        engine: what runs it.
    """
    if request.model.stat().st_size > _LARGEST:
        return None
    builder = LossBuilder(onnx.load(request.model))
    try:
        logits = builder.logits(request.outputs[0])
        found = differentiate(builder.model, logits.name, [image], [])
    except (UnsupportedModelError, UsageError):
        return None
    session = load_runtime().InferenceSession(
        found.model.SerializeToString(), providers=list(engine.providers), provider_options=engine.options
    )
    name = found.gradients[image]
    return any(np.isfinite(session.run([name], {**one, **neutral})[0]).all() for one in images[:_IMAGES])
