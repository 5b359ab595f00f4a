"""A model with the cross-entropy to a class appended, and its gradient by the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.gradient.differentiate import differentiate
from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.program import Program
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.validation.provider import Engine

_BATCH: Final = 100


class Attack:
    """The compiled graph; every method takes images as (n, channels, height, width)."""

    def __init__(self, subject: Subject, engine: Engine) -> None:
        builder = LossBuilder(subject.model)
        logits = builder.logits(subject.output)
        loss = builder.cross_entropy(logits)
        found = differentiate(builder.model, loss.name, [subject.input], [logits.name])
        self._subject, self._logits, self._target = subject, logits.name, builder.target
        self._gradient = found.gradients[subject.input]
        self._program = Program(found.model, engine)
        self.provider = self._program.provider

    def logits(self, images: Images) -> Float32:
        """Class scores, (n, classes)."""
        parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        return np.concatenate([self._run([self._logits], part, 0)[0] for part in parts])

    def pull(self, images: Images, target: int) -> tuple[Float32, Images]:
        """Class scores, and the gradient by the images of the mean cross-entropy to `target`."""
        logits, gradient = self._run([self._logits, self._gradient], images, target)
        return logits, self._subject.from_layout(gradient)

    def _run(self, outputs: Sequence[str], images: Images, target: int) -> list[Any]:
        feeds: dict[str, NDArray[Any]] = {
            self._subject.input: self._subject.laid_out(images),
            self._target: np.array([target], np.int64),
        }
        return self._program.run(outputs, feeds)
