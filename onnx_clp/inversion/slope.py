"""The gradient of a loss by the images, as finite numbers or not at all.

A single value that is no number hides everything before it from a gradient, and an attacker can put one into a file at
no cost: Sqrt(x * x) changes no output where x is 0, yet has no gradient there. So a gradient that is not finite is
computed once more with 0 for what is not finite at every operator; what is not finite even then is an error that names
the operator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from onnx_clp.check.attributes import node_label
from onnx_clp.errors import UnsupportedModelError
from onnx_clp.gradient.differentiate import differentiate
from onnx_clp.inversion.program import Array, Feeds, Program
from onnx_clp.validation.provider import Engine


class Slope:
    """A loss and its gradient by one value, compiled.

    Raises:
        UsageError, UnsupportedModelError: the loss cannot be differentiated, or the runtime refuses the graph.
        NotValidated: there is no memory for it.
    """

    def __init__(self, model: ModelProto, loss: str, by: str, outputs: Sequence[str], engine: Engine) -> None:
        self._model, self._loss, self._by, self._outputs, self._engine = model, loss, by, list(outputs), engine
        self._guarded = False
        self._compile()

    def values(self, names: Sequence[str], feeds: Feeds) -> list[Array]:
        """Outputs alone.

        Raises:
            UnsupportedModelError: they are not finite; the message names the operator with which that begins.
        """
        found = self._program.run(names, feeds)
        if not all(map(_finite, found)):
            raise UnsupportedModelError(self._why(feeds))
        return found

    def gradient(self, feeds: Feeds, names: Sequence[str] = ()) -> list[Array]:
        """The gradient, and the outputs named.

        Raises:
            UnsupportedModelError: something of it is not finite; the message names the operator with which that begins.
        """
        found = self._program.run([self._gradient, *names], feeds)
        if all(map(_finite, found)):
            return found
        if not self._guarded and all(map(_finite, found[1:])):
            self._guarded = True
            self._compile()
            return self.gradient(feeds, names)
        raise UnsupportedModelError(self._why(feeds))

    def _compile(self) -> None:
        found = differentiate(self._model, self._loss, [self._by], self._outputs, guarded=self._guarded)
        self._gradient = found.gradients[self._by]
        self._program = Program(found.model, self._engine)
        self.provider = self._program.provider

    def _why(self, feeds: Feeds) -> str:
        """Where values on the way, or else gradients on the way back, cease to be finite."""
        found = differentiate(self._model, self._loss, [self._by], guarded=True, throughout=True)
        names = [*found.gradients, *found.gradients.values()]
        held = dict(zip(names, map(_finite, Program(found.model, self._engine).run(names, feeds)), strict=True))
        nodes = found.model.graph.node
        for node in nodes:
            if not all(held.get(name, True) for name in node.output):
                return _sentence(node, "its values are not finite on the images of the search")
        for node in reversed(nodes):
            back = [held[found.gradients[name]] for name in node.input if name in found.gradients]
            if not all(back):
                return _sentence(node, "the gradient behind it is not finite on the images of the search")
        return "the model could not be judged: the gradient by the images is not finite"


def _finite(values: Array) -> bool:
    return bool(np.isfinite(values).all())


def _sentence(node: NodeProto, why: str) -> str:
    return f"the model could not be judged behind {node_label(node)}: {why}"
