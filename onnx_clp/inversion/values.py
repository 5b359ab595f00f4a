"""The pixel values that a search takes where nobody says them.

An input of 8 bits, or one that the file rounds to 8 bits, states them. Statistics tell them as they tell the gauge
(`gauge.pixels`), and without any the class scores tell the scale.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from onnx_clp.errors import UnsupportedModelError
from onnx_clp.gauge import pixels
from onnx_clp.gauge.crops import Float32, crops, grey
from onnx_clp.gauge.entrance import normalises, range_at
from onnx_clp.gauge.intake import BYTES, UNIT, Intake, Pixels
from onnx_clp.gauge.photographs import load
from onnx_clp.gauge.supplied import read_images
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import lead
from onnx_clp.validation.provider import Engine

_LOOKS: Final = 24
_CHANNELS: Final = (1, 3)


def in_its_values(request: SearchRequest, subject: Subject, attack: Attack, engine: Engine) -> SearchRequest:
    """The request with the range that the file states or the model tells by its `landmark`, unless the user did.

    Where several ranges are as likely it is the first of them, and nothing is told of images of other than 1 or 3
    channels. Images of the user's that are scaled already say the range themselves (`Range.holding`).
    """
    if request.asked_range:
        return request
    channels, height, width = subject.shape
    intake = Intake(subject.input, channels, height, width, subject.channels_last, subject.data_type)
    stated = pixels.settled(intake, None, range_at(subject.model, subject.input))
    if stated is not None:
        low, high = stated.ends
        return replace(request, low=low, high=high, landmark=None)
    if request.landmark is None or channels not in _CHANNELS:
        return request
    if request.images is not None and _between_whole_numbers(request.images, request.count, subject.shape):
        return replace(request, landmark=None)
    few = crops(load(), _LOOKS, height, width, request.limits.seed)

    def shown(values: Pixels) -> Float32:
        images = values.of(few)
        return np.ascontiguousarray(grey(images) if channels == 1 else images)

    if request.landmark.mean:
        seen, plain = Look(subject, request.landmark.value, engine), normalises(subject.model, subject.input)
        low, high = pixels.found(request.landmark, lambda v: list(seen.all(shown(v))), normalises=plain).ends
    else:
        low, high = (pixels.by_lead(lambda values: _lead(attack, shown(values))) or UNIT).ends
    return replace(request, low=low, high=high, landmark=None)


def _between_whole_numbers(path: Path, most: int, shape: tuple[int, int, int]) -> bool:
    """Whether images hold fractions, as those do that are scaled to what a network takes; 8-bit ones hold none."""
    images = read_images(path, shape, most, *BYTES.ends)
    return bool((images != np.rint(images)).any())


def _lead(attack: Attack, images: Float32) -> float | None:
    """The mean lead of a class; None where the model does not run them."""
    try:
        return lead(attack.logits(images))
    except UnsupportedModelError:
        return None
