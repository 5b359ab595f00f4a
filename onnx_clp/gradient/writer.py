"""Append nodes to a graph, and formulas that read like formulas.

    writer = GraphWriter(model)                       # `model` is changed: give it a copy
    x = writer.term("features")                       # any value of the graph
    spread = (x - x.mean((0, 2, 3), keepdims=True)).square().mean((0, 2, 3))
    loss = (spread.sqrt().log() * 0.5).sum()          # loss.name is the new value's name

A `Term` is a value of the graph; arithmetic on Terms and numbers appends one node an operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, TensorProto, helper

from onnx_clp.file.store import TensorStore, numpy_dtype
from onnx_clp.gradient.values import Values
from onnx_clp.graph.fresh import NameScope
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import STANDARD_DOMAINS

FLOATS: Final = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16))
"""The element types that carry gradients."""
_AXES_INPUT_SINCE: Final = {"ReduceSum": 13}
_REDUCTIONS_SINCE: Final = 18


class GraphWriter:
    """Appends nodes and constants under fresh names to a model's main graph, in place."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.values = Values(model)
        self.store = TensorStore()
        self.index = ModelIndex(model, self.store)
        self.opset = max(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)
        self._names = NameScope(self.index.names())
        self._constants: dict[tuple[Any, ...], str] = {}

    def fresh(self, base: str) -> str:
        """A name that no value of the model has."""
        return self._names.fresh(base)

    def node(self, op_type: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Append a standard operator; the names of its outputs."""
        names = [self.fresh(f"{op_type}/{at}" if at else op_type) for at in range(outputs)]
        self.model.graph.node.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def term(self, name: str, data_type: int | None = None) -> Term:
        """A value of the graph, of the element type that is known of it (float32 where nothing is)."""
        known = self.values.data_type(name) if data_type is None else data_type
        return Term(self, name, known or TensorProto.FLOAT)

    def op(self, op_type: str, *inputs: Term | str, data_type: int | None = None, **attributes: Any) -> Term:
        """Append a standard operator with one output, of its first input's element type unless another is given."""
        names = [i.name if isinstance(i, Term) else i for i in inputs]
        if data_type is None:
            first = inputs[0]
            data_type = first.data_type if isinstance(first, Term) else self.term(first).data_type
        return Term(self, self.node(op_type, names, **attributes)[0], data_type)

    def constant(self, value: ArrayLike, data_type: int) -> Term:
        """A constant; equal ones are stored once."""
        array: NDArray[Any] = np.asarray(value).astype(numpy_dtype(data_type))
        key = (data_type, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = self.fresh("constant")
            tensor = TensorProto(name=name, data_type=data_type, dims=array.shape, raw_data=array.tobytes())
            self.model.graph.initializer.append(tensor)
        return Term(self, self._constants[key], data_type)

    def ints(self, values: Sequence[int]) -> Term:
        """An int64 vector."""
        return self.constant(np.asarray(values, np.int64), TensorProto.INT64)

    def shape(self, value: Term | str) -> Term:
        """The sizes of a value, int64 vector."""
        return self.op("Shape", value, data_type=TensorProto.INT64)

    def add_input(self, name: str, data_type: int, dims: Sequence[int | str | None]) -> Term:
        """A new graph input under `name`, or a fresh name made from it."""
        fresh = self.fresh(name)
        self.model.graph.input.append(helper.make_tensor_value_info(fresh, data_type, list(dims)))
        return Term(self, fresh, data_type)

    def add_output(self, value: Term | str, data_type: int | None = None, dims: Sequence[Any] | None = None) -> None:
        """Make a value a graph output, unless it is one."""
        term = value if isinstance(value, Term) else self.term(value)
        if term.name not in {o.name for o in self.model.graph.output}:
            info = helper.make_tensor_value_info(term.name, data_type or term.data_type, dims)
            self.model.graph.output.append(info)


Number = int | float


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A value of the graph under construction; numbers met in arithmetic take its element type."""

    writer: GraphWriter
    name: str
    data_type: int

    def like(self, other: Term | Number) -> Term:
        """`other` as a Term: a number becomes a scalar of this term's element type."""
        return other if isinstance(other, Term) else self.writer.constant(other, self.data_type)

    def op(self, op_type: str, *others: Term | Number, data_type: int | None = None, **attributes: Any) -> Term:
        """A standard operator with this term as its first input."""
        inputs = [self, *(self.like(o) for o in others)]
        return self.writer.op(op_type, *inputs, data_type=data_type or self.data_type, **attributes)

    def __add__(self, other: Term | Number) -> Term:
        return self.op("Add", other)

    def __radd__(self, other: Number) -> Term:
        return self.like(other).op("Add", self)

    def __sub__(self, other: Term | Number) -> Term:
        return self.op("Sub", other)

    def __rsub__(self, other: Number) -> Term:
        return self.like(other).op("Sub", self)

    def __mul__(self, other: Term | Number) -> Term:
        return self.op("Mul", other)

    def __rmul__(self, other: Number) -> Term:
        return self.like(other).op("Mul", self)

    def __truediv__(self, other: Term | Number) -> Term:
        return self.op("Div", other)

    def __rtruediv__(self, other: Number) -> Term:
        return self.like(other).op("Div", self)

    def __pow__(self, other: Term | Number) -> Term:
        return self.op("Pow", other)

    def __neg__(self) -> Term:
        return self.op("Neg")

    def __gt__(self, other: Term | Number) -> Term:
        return self.op("Greater", other, data_type=TensorProto.BOOL)

    def __lt__(self, other: Term | Number) -> Term:
        return self.op("Less", other, data_type=TensorProto.BOOL)

    def __ge__(self, other: Term | Number) -> Term:
        return self.op("GreaterOrEqual", other, data_type=TensorProto.BOOL)

    def __le__(self, other: Term | Number) -> Term:
        return self.op("LessOrEqual", other, data_type=TensorProto.BOOL)

    def equals(self, other: Term | Number) -> Term:
        """Elementwise equality, boolean."""
        return self.op("Equal", other, data_type=TensorProto.BOOL)

    def cast(self, data_type: int) -> Term:
        """The same values in another element type."""
        return self if data_type == self.data_type else self.op("Cast", data_type=data_type, to=data_type)

    def choose(self, yes: Term | Number, no: Term | Number) -> Term:
        """Of a boolean term: `yes` where it holds, else `no`; one of the two is a Term."""
        typed = yes if isinstance(yes, Term) else no
        assert isinstance(typed, Term)
        return self.op("Where", typed.like(yes), typed.like(no), data_type=typed.data_type)

    def exp(self) -> Term:
        """e to the power of each element."""
        return self.op("Exp")

    def log(self) -> Term:
        """Natural logarithm of each element."""
        return self.op("Log")

    def sqrt(self) -> Term:
        """Square root of each element."""
        return self.op("Sqrt")

    def finite(self) -> Term:
        """The value where it is a finite number, else 0."""
        largest = float(np.finfo(np.float16 if self.data_type == TensorProto.FLOAT16 else np.float32).max)
        return (self.abs() <= largest).choose(self, 0.0)

    def abs(self) -> Term:
        """Absolute value of each element."""
        return self.op("Abs")

    def square(self) -> Term:
        """Each element times itself."""
        return self.op("Mul", self)

    def reduce(self, op_type: str, axes: Sequence[int] | None, *, keepdims: bool) -> Term:
        """A Reduce* operator over `axes` (None: all, empty: none), in the form the model's opset has."""
        kept = int(keepdims)
        if axes is not None and not len(axes):
            return self
        if axes is None:
            return self.op(op_type, keepdims=kept)
        if self.writer.opset >= _AXES_INPUT_SINCE.get(op_type, _REDUCTIONS_SINCE):
            return self.op(op_type, self.writer.ints(axes), keepdims=kept)
        return self.op(op_type, keepdims=kept, axes=list(axes))

    def sum(self, axes: Sequence[int] | None = None, *, keepdims: bool = False) -> Term:
        """Sum over `axes`; a scalar by default."""
        return self.reduce("ReduceSum", axes, keepdims=keepdims)

    def mean(self, axes: Sequence[int] | None = None, *, keepdims: bool = False) -> Term:
        """Mean over `axes`; a scalar by default."""
        return self.reduce("ReduceMean", axes, keepdims=keepdims)

    def variance(self, axes: Sequence[int] | None = None, *, keepdims: bool = False) -> Term:
        """Variance over `axes`, divided by the count (not the count less one), as BatchNormalization has it."""
        return (self - self.mean(axes, keepdims=True)).square().mean(axes, keepdims=keepdims)

    def reshape(self, shape: Sequence[int] | Term) -> Term:
        """The same elements in another shape."""
        return self.op("Reshape", shape if isinstance(shape, Term) else self.writer.ints(shape))

    def transpose(self, perm: Sequence[int]) -> Term:
        """The axes in another order."""
        return self.op("Transpose", perm=list(perm))

    def unsqueeze(self, axes: Sequence[int]) -> Term:
        """Axes of size 1 put in, counted in the result."""
        return self.op("Unsqueeze", self.writer.ints(axes)) if axes else self

    def squeeze(self, axes: Sequence[int]) -> Term:
        """Axes of size 1 taken out."""
        return self.op("Squeeze", self.writer.ints(axes)) if axes else self

    def slice(self, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Term:
        """A part of the value (ONNX Slice)."""
        return self.op("Slice", *(self.writer.ints(v) for v in (starts, ends, axes, steps)))

    def expand(self, shape: Term) -> Term:
        """Broadcast to a shape, int64 vector."""
        return self.op("Expand", shape)
