"""Build a scalar loss onto a classifier's graph.

    builder = LossBuilder(model)                  # a copy; builder.model is what grows
    loss = builder.cross_entropy(builder.logits())  # class in a new int64 input, builder.target
    loss += 0.1 * (builder.value("bn/in").variance((0, 2, 3)) - builder.constant(stored)).square().sum()

Every value is a `writer.Term`: arithmetic with + - * / **, and exp, log, sqrt, abs, square, sum, mean, variance,
reshape, op("AnyOperator", ...). All of it can be differentiated by `passes.differentiate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, TensorProto

from onnx_clp.errors import UnsupportedModelError, UsageError
from onnx_clp.gradient.preparing import prepared
from onnx_clp.gradient.writer import GraphWriter, Term
from onnx_clp.graph.index import GraphIndex
from onnx_clp.operators.nodes import is_op, is_quantizer
from onnx_clp.text import shown

_LOOKED_THROUGH: Final = ("Softmax", "LogSoftmax", "Identity")


def source_of(scope: GraphIndex, name: str, *, rounded: bool = False) -> str:
    """What class scores were made of, before a Softmax, LogSoftmax or Identity, and before rounding if `rounded`."""
    while (node := scope.producer(name)) is not None:
        if not is_op(node, *_LOOKED_THROUGH) and not (rounded and is_quantizer(node)):
            break
        name = node.input[0]
    return name


class LossBuilder:
    """Appends a loss to a copy of a model.

    Attributes:
        model: the copy that grows (functions inlined, opset 16 or newer).
        target: name of the graph input that holds the class, once a loss of a class was asked for: int64, of shape
            (1,), one class for all images, or (batch,), one for each; in 0..classes − 1.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = prepared(model)
        self._writer = GraphWriter(self.model)
        self._target: Term | None = None

    @property
    def target(self) -> str:
        """Name of the class input; "" where no loss asked for one."""
        return self._target.name if self._target is not None else ""

    def value(self, name: str) -> Term:
        """A value of the main graph.

        Raises:
            UsageError: there is none of this name.
        """
        if not self._writer.index.main.defines(name):
            raise UsageError(f"the model has no value '{shown(name)}'")
        return self._writer.term(name)

    def constant(self, value: ArrayLike, data_type: int = TensorProto.FLOAT) -> Term:
        """A constant of any shape."""
        return self._writer.constant(value, data_type)

    def input(self, name: str, dims: Sequence[int | str | None], data_type: int = TensorProto.FLOAT) -> Term:
        """A new graph input, such as a perturbation or a weight of a term; its name may get a number appended."""
        return self._writer.add_input(name, data_type, dims)

    def logits(self, output: str | None = None) -> Term:
        """What the classifier's output was made from: the value before a final Softmax, LogSoftmax or Identity.

        Args:
            output: the graph output of shape (batch, classes); by default the first.

        Raises:
            UnsupportedModelError: it has another number of dimensions.
        """
        name = source_of(self._writer.index.main, output or self.model.graph.output[0].name)
        if self._writer.values.rank(name) not in (2, None):
            raise UnsupportedModelError(f"the output '{shown(name)}' is not of shape (batch, classes)")
        return self.value(name)

    def cross_entropy(self, logits: Term) -> Term:
        """−log softmax(logits)[target], batch mean; logits (batch, classes), scalar."""
        picked = self._of_target(logits.op("LogSoftmax", axis=1), logits)
        return -picked.mean()

    def margin(self, logits: Term) -> Term:
        """logits[target] − the largest other logit, batch mean; logits (batch, classes), scalar.

        Positive where the target wins; an attack maximises it, so minimise its negative.
        """
        return self.margins(logits).mean()

    def margins(self, logits: Term) -> Term:
        """logits[target] − the largest other logit, one an image, shape (batch,)."""
        lowest = float(np.finfo(np.float16).min) if logits.data_type == TensorProto.FLOAT16 else -1e30
        others = self._is_target(logits).choose(lowest, logits)
        return self._of_target(logits, logits) - others.reduce("ReduceMax", [1], keepdims=False)

    def _of_target(self, values: Term, logits: Term) -> Term:
        """values[:, target], shape (batch,)."""
        return self._is_target(logits).choose(values, 0.0).sum([1])

    def _is_target(self, logits: Term) -> Term:
        """Where a column is the target, boolean (batch or 1, classes)."""
        column = self._class_input().reshape([-1, 1])
        classes = self._writer.values.static(logits.name, [1]) if self._writer.values.rank(logits.name) == 2 else None
        if classes is not None:
            return column.equals(self._writer.ints(range(classes[0])))
        count = self._writer.shape(logits).slice([1], [2], [0], [1]).squeeze([0])
        zero, one = (self._writer.constant(n, TensorProto.INT64) for n in (0, 1))
        return column.equals(zero.op("Range", count, one))

    def _class_input(self) -> Term:
        if self._target is None:
            self._target = self._writer.add_input("target", TensorProto.INT64, ["targets"])
        return self._target
