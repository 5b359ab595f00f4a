"""Images made from a model alone.

    loss = 4 · mean over layers of [ mean_c (m_c − μ_c)²/σ²_c + ½ mean_c log²(v_c/σ²_c) ]
         + 0.6 · cross-entropy to one class an image + 3 · smoothness

m, v: mean and variance of a BatchNormalization's input over the images; μ, σ²: what it keeps of the training images.
The classes go round, so that each gets its share. Without BatchNormalization the first term is missing: such images
show what each class looks for and nothing of how real images are distributed. After "Dreaming to Distill" (Yin et al.,
CVPR 2020), with the images as a pyramid (`pyramid`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.gradient.writer import Term
from onnx_clp.inversion.descent import Adam
from onnx_clp.inversion.pace import Batches, Deadline
from onnx_clp.inversion.program import Feeds
from onnx_clp.inversion.pyramid import Pyramid
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.slope import Slope
from onnx_clp.inversion.subject import Statistics, Subject, statistics_of
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

STEPS: Final = 75
_RATE: Final = 0.2
_EVIDENCE: Final = 0.6
_SMOOTHNESS: Final = 3.0
_MATCHING: Final = 4.0
_SHIFT: Final = 2
_LEAST_RATIO: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    """Images (n, channels, height, width), the classes they were made for (n,), how well their statistics match."""

    images: Images
    classes: NDArray[np.int64]
    mismatch: float | None
    statistics: int


class Synthesiser:
    """A model with the loss above appended and differentiated, ready to run."""

    def __init__(self, subject: Subject, engine: Engine, batches: Batches | None = None) -> None:
        builder = LossBuilder(subject.model)
        kept = statistics_of(builder.model)
        logits = builder.logits(subject.output)
        evidence = builder.cross_entropy(logits)
        mismatch = _mismatch(builder, kept)
        loss = evidence * _EVIDENCE if mismatch is None else mismatch * _MATCHING + evidence * _EVIDENCE
        outputs = [logits.name] if mismatch is None else [logits.name, mismatch.name]
        self._subject, self._target = subject, builder.target
        self._slope = Slope(builder.model, loss.name, subject.input, outputs, engine)
        self._mismatch = None if mismatch is None else mismatch.name
        self._logits, self._batches = logits.name, batches or Batches()
        self.statistics = len(kept)

    def classes(self) -> int:
        """How many classes the model tells apart."""
        blank = np.zeros((1, *self._subject.shape), np.float32)
        feeds: Feeds = {self._subject.input: self._subject.laid_out(blank), self._target: np.zeros(1, np.int64)}
        return int(self._slope.values([self._logits], feeds)[0].shape[1])

    def make(
        self,
        count: int,
        classes: int,
        low: float,
        high: float,
        seed: int,
        tick: Tick,
        steps: int = STEPS,
        deadline: Deadline | None = None,
    ) -> Synthetic:
        """`count` images with values in low..high; the same arguments give the same images.

        They are what has been reached when the deadline is over. Where memory has no room for all at once, each part
        of them matches the statistics by itself.
        """
        rng = np.random.default_rng(seed)
        wanted = np.arange(count, dtype=np.int64) % classes
        pyramid = Pyramid(count, self._subject.shape, low, high, rng)
        adam = Adam(pyramid.layers, _RATE, steps, falling=True)
        mismatch = None
        for step in range(steps):
            images = pyramid.images()
            rows, columns = rng.integers(-_SHIFT, _SHIFT + 1, 2)
            gradient, mismatch = self._pull(shifted(images, rows, columns, low), wanted)
            gradient = shifted(gradient, -rows, -columns)
            adam.step(pyramid.gradients(images, gradient + roughness_gradient(images, high - low)))
            tick("synthesize", step + 1, steps)
            if deadline is not None and deadline.left <= 0:
                break
        return Synthetic(pyramid.images(), wanted, mismatch, self.statistics)

    def _pull(self, images: Images, wanted: NDArray[np.int64]) -> tuple[Images, float | None]:
        slopes, misses = [], []
        for part, (slope, miss) in self._batches.run(len(images), lambda at: self._part(images[at], wanted[at])):
            share = (part.stop - part.start) / len(images)
            slopes.append(slope * np.float32(share))
            misses.append(miss * share)
        return np.concatenate(slopes), None if self._mismatch is None else sum(misses)

    def _part(self, images: Images, wanted: NDArray[np.int64]) -> tuple[Images, float]:
        feeds: Feeds = {self._subject.input: self._subject.laid_out(images), self._target: wanted}
        gradient, *rest = self._slope.gradient(feeds, [] if self._mismatch is None else [self._mismatch])
        return self._subject.from_layout(gradient), float(rest[0]) if rest else 0.0


def _mismatch(builder: LossBuilder, kept: list[Statistics]) -> Term | None:
    total: Term | None = None
    for one in kept:
        value, ratio = builder.value(one.value), 1 / one.variance
        means = (value.mean((0, 2, 3)) - builder.constant(one.mean)).square() * builder.constant(ratio)
        spreads = (value.variance((0, 2, 3)) * builder.constant(ratio) + _LEAST_RATIO).log().square()
        term = means.mean() + spreads.mean() * 0.5
        total = term if total is None else total + term
    return None if total is None else total * (1 / len(kept))


def shifted(images: Images, rows: int, columns: int, coming: float = 0.0) -> Images:
    """Moved down by `rows` and right by `columns` pixels; those that come in are `coming`."""
    out = np.full_like(images, coming)
    height, width = images.shape[2:]
    out[:, :, max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)] = images[
        :, :, max(-rows, 0) : height + min(-rows, 0), max(-columns, 0) : width + min(-columns, 0)
    ]
    return out


def roughness_gradient(images: Images, span: float) -> Images:
    """Gradient of 3 · (mean squared difference of neighbours down + the same across), pixels measured in spans."""
    unit = images / np.float32(span)
    out = np.zeros_like(unit)
    for axis in (2, 3):
        steps = np.diff(unit, axis=axis)
        pull = np.float32(2 * _SMOOTHNESS / max(steps.size, 1) / span) * steps
        before = [(0, 0)] * 4
        before[axis] = (1, 0)
        after = [(0, 0)] * 4
        after[axis] = (0, 1)
        out += np.pad(pull, before) - np.pad(pull, after)
    return out
