"""How much a perturbation moves each channel: mean over images of ‖F_k(x + δ) − F_k(x)‖₂, F after the rectifier.

A stand-in for the trigger-activated change (TAC), which needs the real trigger and real images.
"""

from __future__ import annotations

import numpy as np

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.request import Images

_MOST_IMAGES = 50


def change_of(attack: Attack, images: Images, perturbation: Float32) -> list[Float32]:
    """The change at every site, (channels,) each, on the first 50 images."""
    images = images[:_MOST_IMAGES]
    plain, moved = attack.activations(images), attack.activations(images + perturbation)
    return [_norms(np.maximum(b, 0) - np.maximum(a, 0)) for a, b in zip(plain, moved, strict=True)]


def _norms(difference: Float32) -> Float32:
    flat = difference.reshape(*difference.shape[:2], -1)
    return np.asarray(np.sqrt((flat * flat).sum(axis=2)).mean(axis=0), np.float32)
