"""How many dimensions a value has, from what the file records or from the operators that make it."""

from __future__ import annotations

from typing import Final

from onnx import GraphProto, NodeProto, ValueInfoProto

from onnx_clp.graph.scope import Scope
from onnx_clp.operators import read, windows
from onnx_clp.operators.nodes import is_op
from onnx_clp.operators.table import is_a, keeps
from onnx_clp.operators.traits import Kind, Trait

_MAX_STEPS: Final = 10_000
_MOST_VECTORS: Final = 16
_MOST_AXES: Final = 9
"""A Slice up to here of the sizes of a tensor is taken at its word; up to anything larger means to their end."""


def recorded_rank(value: ValueInfoProto) -> int | None:
    """The rank a ValueInfoProto states; None where it leaves the shape open."""
    tensor = value.type.tensor_type
    return len(tensor.shape.dim) if tensor.HasField("shape") else None


def recorded_sizes(value: ValueInfoProto) -> tuple[int, ...]:
    """The sizes a ValueInfoProto states, 0 for each it leaves open."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


class Ranks:
    """Ranks of one scope's values, and sizes along an axis, worked out when asked and remembered.

    Without `recorded` nothing is believed but what a runtime enforces: graph inputs, constants and operators.
    """

    def __init__(self, scope: Scope, *, recorded: bool = True) -> None:
        self._scope, self._recorded = scope, recorded
        self._known: dict[str, int | None] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        if isinstance(scope.proto, GraphProto):
            told = (scope.proto.value_info, scope.proto.output) if recorded else ()
            for values in (scope.proto.input, *told):
                self._known.update({v.name: rank for v in values if (rank := recorded_rank(v)) is not None})
                self._shapes.update({v.name: recorded_sizes(v) for v in values})

    def of(self, name: str) -> int | None:
        """The rank of a value; None where it is unknown."""
        stack = [name]
        for _ in range(_MAX_STEPS):
            if not stack:
                break
            missing = self._settle(stack[-1])
            if missing:
                stack.extend(missing)
            else:
                stack.pop()
        return self._known.get(name)

    def size(self, name: str, axis: int) -> int | None:
        """The size of a value along an axis, as recorded or as its maker gives it; None where unknown."""
        for _ in range(_MAX_STEPS):
            sizes = self._shapes.get(name, ())
            if axis < len(sizes) and sizes[axis] > 0:
                return sizes[axis]
            node = self._scope.producers.get(name)
            if node is None:
                return None
            if is_a(node, Kind.GLOBAL_POOL) and axis >= 2 and not windows.channels_last(node):
                return 1
            if is_op(node, "BatchNormalization", "Conv") and axis == 1:
                made = self._scope.constant(node.input[1])
                return None if made is None else int(made.shape[0])
            if is_op(node, "Gemm", "MatMul"):
                return self._width(node) if axis + 1 == self.of(node.output[0]) else None
            if is_a(node, Kind.JOINT):
                data = self._data_of(node, axis)
                if isinstance(data, int):
                    return data
            else:
                data = node.input[0] if keeps(node, Trait.SHAPE, name) else None
            if data is None:
                return None
            name = data
        return None

    def _width(self, node: NodeProto) -> int | None:
        """The entries that a Gemm or MatMul makes of each row, where its weight is constant and a matrix."""
        made = self._scope.constant(node.input[1])
        if made is None or made.ndim != 2:
            return None
        return int(made.shape[0 if is_op(node, "Gemm") and read.transposed(node)[1] else 1])

    def _data_of(self, node: NodeProto, axis: int) -> str | int | None:
        """The operand that an elementwise node's size along an axis comes from, or that size."""
        rank = self.of(node.output[0])
        steady = [self._scope.constant(n) for n in node.input]
        if rank is None or len(steady) != 2 or (steady[0] is None) == (steady[1] is None):
            return None
        slot = 0 if steady[0] is None else 1
        operand = steady[1 - slot]
        assert operand is not None
        at = axis - (rank - operand.ndim)
        if at >= 0 and operand.shape[at] != 1:
            return int(operand.shape[at])
        return node.input[slot] if self.of(node.input[slot]) == rank else None

    def _settle(self, name: str) -> list[str]:
        """Work a rank out, or name the values it depends on first."""
        if name in self._known:
            return []
        node = self._scope.producers.get(name)
        if node is None:
            self._known[name] = self._stored(name)
            return []
        sources = _sources(node, name)
        missing = [s for s in sources if s not in self._known]
        if missing:
            return missing
        ranks = [self._known[s] for s in sources]
        self._known[name] = None if None in ranks else self._apply(node, [r for r in ranks if r is not None])
        return []

    def _stored(self, name: str) -> int | None:
        tensor = self._scope.initializers.get(name)
        if tensor is not None:
            return len(tensor.dims)
        return self._scope.outer_rank(name) if self._recorded else None

    def _apply(self, node: NodeProto, ranks: list[int]) -> int | None:
        if is_op(node, "Flatten", "Gemm"):
            return 2
        if is_op(node, "Transpose") and not ranks:
            return len(read.perm(node, None) or ())
        if is_op(node, "Reshape", "Constant"):
            shape = self._scope.constant(node.input[1] if len(node.input) > 1 else node.output[0])
            if shape is None:
                return self._length(node.input[1]) if node.op_type == "Reshape" else None
            return int(shape.size) if node.op_type == "Reshape" else shape.ndim
        if is_op(node, "MatMul"):
            return max(2, *ranks) - ranks.count(1)  # a vector operand loses the axis it was given
        if is_op(node, "Unsqueeze", "Squeeze"):
            axes = read.AXES.of(node, self._scope.constant)
            count = len(axes or ()) * (1 if node.op_type == "Unsqueeze" else -1)
            return None if axes is None else ranks[0] + count
        if is_a(node, Kind.REDUCE) and not read.keeps_dims(node):
            axes = read.AXES.of(node, self._scope.constant)
            return ranks[0] - len(axes) if axes else None
        return max(ranks, default=None) if ranks else None

    def _length(self, name: str, steps: int = 0) -> int | None:
        """How many entries a vector of sizes has that the graph computes; None where that is not plain."""
        known = self._scope.constant(name)
        node = self._scope.producers.get(name)
        if known is not None:
            return int(known.size)
        if node is None or steps > _MOST_VECTORS:
            return None
        if is_op(node, "Concat"):
            parts = [self._length(one, steps + 1) for one in node.input]
            return None if None in parts else sum(one for one in parts if one is not None)
        if is_op(node, "Cast", "Identity"):
            return self._length(node.input[0], steps + 1)
        if is_op(node, "Unsqueeze"):
            return 1
        return self._part_of(node)

    def _part_of(self, node: NodeProto) -> int | None:
        """How many entries a Slice of a vector from its beginning takes, or a Gather of a list of places."""
        if is_op(node, "Gather"):
            places = self._scope.constant(node.input[1])
            return int(places.size) if places is not None and places.ndim == 1 else None
        if is_op(node, "Slice") and len(node.input) in (3, 4):
            start, end = (self._scope.constant(one) for one in node.input[1:3])
            if start is not None and end is not None and start.size == end.size == 1:
                first, last = int(start.item()), int(end.item())
                return last - first if 0 <= first <= last < _MOST_AXES else None
        return None


def _sources(node: NodeProto, name: str) -> list[str]:
    """The values that the rank of a node's output `name` follows from."""
    if is_op(node, "Flatten", "Gemm") or (is_op(node, "Transpose") and read.perm(node, None) is not None):
        return []
    if keeps(node, Trait.RANK, name) or is_a(node, Kind.REDUCE) or is_op(node, "Unsqueeze", "Squeeze"):
        return [node.input[0]]
    return [n for n in node.input if n] if is_a(node, Kind.JOINT, Kind.COMPARE) or is_op(node, "MatMul") else []
