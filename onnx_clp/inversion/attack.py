"""A model with the cross-entropy to a class appended, its gradient by the images, and channel factors as inputs.

Behind every site (a value of shape (batch, channels, …)) stands y = scale·x + shift with a scale and a shift a channel
that are fed at run time: 1 and 0 leave the model as it is, 0 and 0 switch a channel off, and their gradients say which
factors undo a trigger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnx_clp.gradient.loss import LossBuilder
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.program import Program
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.passes.differentiate import differentiate
from onnx_clp.validation.provider import Engine

_BATCH: Final = 100
TEMPERATURE: Final = 2.0
"""Of the probabilities that `lesson` teaches."""


@dataclass(slots=True, eq=False)
class Factors:
    """A scale and a shift for every channel of every site, float32 (channels,) each."""

    scales: list[Float32]
    shifts: list[Float32]

    @staticmethod
    def neutral(channels: Sequence[int]) -> Factors:
        """Those that change nothing."""
        return Factors([np.ones(n, np.float32) for n in channels], [np.zeros(n, np.float32) for n in channels])


@dataclass(slots=True, eq=False)
class Sites:
    """The values to rescale, the inputs that hold their factors, and how many channels each has."""

    values: list[str] = field(default_factory=list)
    scales: list[str] = field(default_factory=list)
    shifts: list[str] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)


class Attack:
    """The compiled graph; every method takes images as (n, channels, height, width)."""

    def __init__(self, subject: Subject, engine: Engine, sites: Sequence[tuple[str, int]] = ()) -> None:
        model = ModelProto()
        model.CopyFrom(subject.model)
        self.sites = rescaled(model, sites)
        builder = LossBuilder(model)
        logits = builder.logits(subject.output)
        goal = builder.input("goal", ["batch", "classes"])
        evidence = builder.cross_entropy(logits)
        cooled = (logits * (1 / TEMPERATURE)).op("LogSoftmax", axis=1)
        distance = -(goal * cooled).sum([1]).mean()
        share = builder.input("share", [])
        loss = evidence * share + distance * (1 - share)
        wanted = [subject.input, *self.sites.scales, *self.sites.shifts]
        found = differentiate(builder.model, loss.name, wanted, [logits.name, *self.sites.values])
        self._subject, self._logits, self._loss = subject, logits.name, loss.name
        self._target, self._goal, self._share = builder.target, goal.name, share.name
        self._gradients = [found.gradients[name] for name in wanted]
        self._program = Program(found.model, engine)
        self.provider = self._program.provider
        self.factors = Factors.neutral(self.sites.channels)

    def logits(self, images: Images) -> Float32:
        """Class scores, (n, classes)."""
        return np.concatenate([self._run([self._logits], part)[0] for part in _parts(images)])

    def activations(self, images: Images) -> list[Float32]:
        """What stands at each site, before its factors."""
        parts = [self._run(self.sites.values, part) for part in _parts(images)]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def pull(self, images: Images, target: int) -> tuple[Float32, Images]:
        """Class scores, and the gradient by the images of the mean cross-entropy to `target`."""
        logits, gradient = self._run([self._logits, self._gradients[0]], images, target=target)
        return logits, self._subject.from_layout(gradient)

    def lesson(self, images: Images, goal: Float32) -> list[Float32]:
        """Gradients by every scale, then every shift, of the mean cross-entropy to `goal`, `soft` probabilities."""
        return self._run(self._gradients[1:], images, goal=goal)

    def _run(
        self, outputs: Sequence[str], images: Images, *, target: int = 0, goal: Float32 | None = None
    ) -> list[Any]:
        feeds: dict[str, NDArray[Any]] = {
            self._subject.input: self._subject.laid_out(images),
            self._target: np.array([target], np.int64),
            self._goal: np.zeros((1, 1), np.float32) if goal is None else goal,
            self._share: np.array(0.0 if goal is not None else 1.0, np.float32),
        }
        for names, values in ((self.sites.scales, self.factors.scales), (self.sites.shifts, self.factors.shifts)):
            for name, value in zip(names, values, strict=True):
                feeds[name] = value.reshape(-1, 1, 1)
        return self._program.run(outputs, feeds)


def soft(logits: Float32) -> Float32:
    """Probabilities at the temperature of a lesson, (n, classes)."""
    exponent = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True), np.float32)


def rescaled(model: ModelProto, sites: Sequence[tuple[str, int]]) -> Sites:
    """Put y = scale·x + shift behind every site of `model`, in place; what used x then uses y."""
    found = Sites()
    for at, (value, channels) in enumerate(sites):
        scale, shift, scaled, moved = (f"{value}/{part}{at}" for part in ("scale", "shift", "scaled", "moved"))
        for name in (scale, shift):
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [channels, 1, 1]))
        maker = 0
        for place, node in enumerate(model.graph.node):
            if value in node.output:
                maker = place
            node.input[:] = [moved if name == value else name for name in node.input]
        model.graph.node.insert(maker + 1, helper.make_node("Mul", [value, scale], [scaled]))
        model.graph.node.insert(maker + 2, helper.make_node("Add", [scaled, shift], [moved]))
        found.values.append(value)
        found.scales.append(scale)
        found.shifts.append(shift)
        found.channels.append(channels)
    return found


def _parts(images: Images) -> list[Images]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
