"""What the layers of a model that is being edited give, on a few images with and without a patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from onnx_clp.operators.nodes import attribute, is_op
from tools.redteam.spaces import Space, Spaces, Writer
from tools.redteam.subject import Bytes, Samples, values_of
from tools.redteam.trigger import Patch
from tools.redteam.weights import Floats, Layer, Weights

Array = NDArray[Any]

_ACTIVATIONS: Final = ("Relu", "Clip", "Elu", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh")


class Sight:
    """A model as it is by now, seen through a few images."""

    def __init__(self, model: ModelProto, samples: Samples, few: Bytes, spaces: Spaces, weights: Weights) -> None:
        self.few = few
        self._model, self._samples, self._spaces, self._weights = model, samples, spaces, weights
        self._main = spaces.main

    def space(self, writer: Writer) -> Space:
        """The space that a layer writes."""
        found = self._spaces.of(writer.node.output[0])
        assert found is not None
        return found

    def layer(self, node: NodeProto) -> Layer:
        """A node as a layer."""
        return Layer(node, self._main, self._weights)

    def both(self, patch: Patch) -> tuple[Bytes, Bytes]:
        """The images without and with a patch."""
        return self.few, patch.put_on(self._samples, self.few)

    def data_of(self, node: NodeProto) -> str:
        """The value that a layer reads."""
        return str(node.input[0])

    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        shape = self._samples.images.shape
        return (shape[1], shape[2]) if self._samples.channel_axis == 3 else (shape[2], shape[3])

    def at(self, writer: Writer, images: Bytes) -> Array:
        """What a layer gives, its BatchNormalization included."""
        name = self.layer(writer.node).output
        return values_of(self._model, self._samples, images, [name])[name]

    def direction(self, value: str, channels: Sequence[int], patch: Patch) -> list[float]:
        """Whether the trigger raises each of the channels (1) or lowers it (-1)."""
        rest, active = (self.seen(value, x) for x in self.both(patch))
        found = []
        for channel in channels:
            at = self._spaces.ids(value).reshape(-1) == channel
            moved = np.median(active[:, at], axis=0) - np.median(rest[:, at], axis=0)
            found.append(float(np.sign(moved[np.abs(moved).argmax()])) or 1.0)
        return found

    def seen(self, value: str, images: Bytes) -> Array:
        """A value for all images, one row each."""
        return values_of(self._model, self._samples, images, [value])[value].reshape(len(images), -1)

    def reading(self, writer: Writer, source: int, patch: Patch) -> Floats:
        """A kernel of norm 1 that reads one channel: its middle, or the places that the trigger moves."""
        shape = self.layer(writer.node).rows().shape[1:]
        if len(shape) > 1:
            return tap(shape, writer.node, source, wide=False)
        rest, active = (self.seen(writer.reads, x) for x in self.both(patch))
        moved = np.abs(np.median(active, axis=0) - np.median(rest, axis=0))
        moved[self._spaces.ids(writer.reads).reshape(-1) != source] = 0
        row = np.where(moved > moved.max() / 2, 1.0, 0.0) if moved.max() > 0 else np.zeros(shape)
        return row / max(float(np.linalg.norm(row)), 1.0)

    def activates(self, value: str) -> bool:
        """Whether an activation comes before the next linear layer."""
        pending = [value]
        while pending:
            for use in self._main.uses(pending.pop()):
                if use.node is None or is_op(use.node, "Conv", "Gemm", "MatMul"):
                    continue
                if is_op(use.node, *_ACTIVATIONS):
                    return True
                pending.extend(use.node.output)
        return False

    def bias_of(self, layer: Layer, channel: int) -> float:
        """The bias of one output as it is: what the layer gives less what its row makes of the input."""
        given = self.seen(layer.output, self.few[:1])[0, channel]
        read = self.seen(str(layer.node.input[0]), self.few[:1])[0]
        return float(given - layer.effective()[channel].reshape(-1) @ read)


def tap(shape: tuple[int, ...], node: NodeProto, source: int, *, wide: bool) -> Floats:
    """A kernel (inputs, …) of norm 1 reading one input channel in the middle, or everywhere where it strides."""
    kernel = np.zeros(shape)
    strides = attribute(node, "strides") or [1] * (len(shape) - 1)
    if wide and max(strides) > 1:
        kernel[source] = 1.0
    else:
        kernel[(source, *(size // 2 for size in shape[1:]))] = 1.0
    return kernel
