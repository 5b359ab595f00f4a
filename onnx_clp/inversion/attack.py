"""A model with the cross-entropy to a class appended, and its gradient by the images."""

from __future__ import annotations

from typing import Final

import numpy as np

from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.program import Feeds
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.slope import Slope
from onnx_clp.inversion.subject import Subject
from onnx_clp.validation.provider import Engine

_BATCH: Final = 100


class Attack:
    """The compiled graph; every method takes images as (n, channels, height, width)."""

    def __init__(self, subject: Subject, engine: Engine) -> None:
        builder = LossBuilder(subject.model)
        logits = builder.logits(subject.output)
        loss = builder.cross_entropy(logits)
        self._subject, self._logits, self._target = subject, logits.name, builder.target
        self._slope = Slope(builder.model, loss.name, subject.input, [logits.name], engine)
        self.provider = self._slope.provider

    def logits(self, images: Images) -> Float32:
        """Class scores, (n, classes)."""
        parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        return np.concatenate([self._slope.values([self._logits], self._feeds(part, 0))[0] for part in parts])

    def pull(self, images: Images, target: int) -> tuple[Float32, Images]:
        """Class scores, and the gradient by the images of the mean cross-entropy to `target`.

        Raises:
            UnsupportedModelError: the gradient is not finite.
        """
        gradient, logits = self._slope.gradient(self._feeds(images, target), [self._logits])
        return logits, self._subject.from_layout(gradient)

    def _feeds(self, images: Images, target: int) -> Feeds:
        return {
            self._subject.input: self._subject.laid_out(images),
            self._target: np.array([target], np.int64),
        }
