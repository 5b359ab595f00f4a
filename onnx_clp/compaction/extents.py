"""The sizes of values: recorded in the file, or worked out from the operators that make them."""

from __future__ import annotations

from onnx import GraphProto

from onnx_clp.graph.index import GraphIndex

Sizes = tuple[int | None, ...]


class Extents:
    """Sizes of the values of one scope; `extent_rules.visit` must be called for its nodes in order."""

    def __init__(self, scope: GraphIndex) -> None:
        self.scope = scope
        self._known: dict[str, Sizes] = {}
        if isinstance(scope.proto, GraphProto):
            for values in (scope.proto.input, scope.proto.value_info, scope.proto.output):
                for value in values:
                    tensor = value.type.tensor_type
                    if tensor.HasField("shape"):
                        self._known[value.name] = tuple(d.dim_value or None for d in tensor.shape.dim)

    def of(self, name: str) -> Sizes | None:
        """The sizes of a value, None where the number of dimensions is not known."""
        if name in self._known:
            return self._known[name]
        stored = self.scope.stored(name)
        if stored is not None:
            return tuple(int(d) for d in stored.dims)
        value = self.scope.constant(name) if self.scope.is_constant(name) else None
        return None if value is None else value.shape

    def from_end(self, name: str, place: int) -> int | None:
        """The size along an axis counted from the last (1): 1 where there are fewer, None where not known."""
        sizes = self.of(name)
        if sizes is None:
            return None
        return sizes[-place] if place <= len(sizes) else 1

    def settle(self, name: str, made: Sizes) -> None:
        """Note the sizes of a value where the file leaves them open."""
        known = self._known.get(name)
        if known is not None and len(known) == len(made):
            made = tuple(a or b for a, b in zip(known, made, strict=True))
        elif known is not None:
            return
        self._known[name] = made
