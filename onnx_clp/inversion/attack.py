"""A model with the cross-entropy to a class appended, and its gradient by the images."""

from __future__ import annotations

import time

import numpy as np

from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.inversion.capped import part
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.pace import Batches, Deadline
from onnx_clp.inversion.program import Feeds, Program
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.slope import Slope
from onnx_clp.inversion.subject import Subject
from onnx_clp.validation.provider import Engine


class Attack:
    """The compiled graph; every method takes images as (n, channels, height, width).

    Args:
        subject: the model.
        engine: where to run.
        deadline: when to stop; None for never.
        batches: how many images go through at once; None finds that out anew.
    """

    def __init__(
        self, subject: Subject, engine: Engine, deadline: Deadline | None = None, batches: Batches | None = None
    ) -> None:
        builder = LossBuilder(subject.model)
        logits = builder.logits(subject.output)
        self._forward = Program(part(builder.model, logits.name), engine)
        loss = builder.cross_entropy(logits)
        self._subject, self._logits, self._target = subject, logits.name, builder.target
        self._slope = Slope(builder.model, loss.name, subject.input, [logits.name], engine)
        self._deadline, self._batches = deadline, batches or Batches()
        self.provider = self._slope.provider

    def logits(self, images: Images) -> Float32:
        """Class scores, (n, classes).

        Raises:
            UnsupportedModelError: they are not finite.
        """
        return np.concatenate(
            [found for _, found in self._batches.run(len(images), lambda at: self._scores(images[at]))]
        )

    def pull(self, images: Images, target: int) -> tuple[Float32, Images]:
        """Class scores, and the gradient by the images of the mean cross-entropy to `target`.

        Raises:
            UnsupportedModelError: the gradient is not finite.
            NotValidated: there is no memory for one image.
            TimeUp: the deadline is over.
        """
        if self._deadline is not None:
            self._deadline.check()
        return self._pull(images, target)

    def seconds(self, images: Images) -> float:
        """Of wall-clock time for one image there and back, measured on these."""
        self._pull(images[:1], 0)
        start = time.monotonic()
        self._pull(images, 0)
        return (time.monotonic() - start) / len(images)

    def _scores(self, images: Images) -> Float32:
        """By a graph without the gradient, which costs a third."""
        found = self._forward.run([self._logits], {self._subject.input: self._subject.laid_out(images)})[0]
        finite = bool(np.isfinite(found).all())
        return found if finite else self._slope.values([self._logits], self._feeds(images, 0))[0]

    def _pull(self, images: Images, target: int) -> tuple[Float32, Images]:
        scores, slopes = [], []
        for at, (gradient, logits) in self._batches.run(len(images), lambda some: self._gradient(images[some], target)):
            scores.append(logits)
            slopes.append(gradient * np.float32((at.stop - at.start) / len(images)))
        return np.concatenate(scores), self._subject.from_layout(np.concatenate(slopes))

    def _gradient(self, images: Images, target: int) -> tuple[Float32, Float32]:
        gradient, logits = self._slope.gradient(self._feeds(images, target), [self._logits])
        return gradient, logits

    def _feeds(self, images: Images, target: int) -> Feeds:
        return {
            self._subject.input: self._subject.laid_out(images),
            self._target: np.array([target], np.int64),
        }
