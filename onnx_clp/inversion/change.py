"""How much a perturbation moves each channel: mean over images of ‖F_k(x + δ) − F_k(x)‖₂, F after the rectifier.

A stand-in for the trigger-activated change (TAC), which needs the real trigger and real images.
"""

from __future__ import annotations

import numpy as np

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.request import Images

_MOST_IMAGES = 50


def change_of(attack: Attack, images: Images, triggered: Images) -> list[Float32]:
    """The change at every site, (channels,) each, from the first 50 images to the same ones triggered."""
    plain, moved = attack.activations(images[:_MOST_IMAGES]), attack.activations(triggered[:_MOST_IMAGES])
    return [_norms(np.maximum(b, 0) - np.maximum(a, 0)) for a, b in zip(plain, moved, strict=True)]


def _norms(difference: Float32) -> Float32:
    flat = difference.reshape(*difference.shape[:2], -1)
    return np.asarray(np.sqrt((flat * flat).sum(axis=2)).mean(axis=0), np.float32)
