"""What an edit does to initializers and recorded shapes by name, put off so that each list is walked once."""

from __future__ import annotations

from collections import defaultdict

from onnx import GraphProto

from onnx_clp.file.messages import delete_named, resize_recorded
from onnx_clp.graph.index import GraphIndex


class Records:
    """Names waiting to go, or to be recorded with another size, scope by scope."""

    def __init__(self) -> None:
        self._gone: dict[GraphIndex, set[str]] = defaultdict(set)
        self._unrecorded: dict[GraphIndex, set[str]] = defaultdict(set)
        self._resized: dict[GraphIndex, dict[str, dict[int, int]]] = defaultdict(dict)

    def gone(self, scope: GraphIndex, name: str) -> None:
        """An initializer, dense or sparse, is to go."""
        self._gone[scope].add(name)

    def unrecorded(self, scope: GraphIndex, name: str) -> None:
        """What is recorded of a value is to go."""
        self._unrecorded[scope].add(name)

    def resized(self, scope: GraphIndex, name: str, axis: int, size: int) -> None:
        """A value is to be recorded with another size along an axis (counted from the last where negative)."""
        self._resized[scope].setdefault(name, {})[axis] = size

    def write(self) -> None:
        """Do it all."""
        for scope, names in self._gone.items():
            if isinstance(scope.proto, GraphProto):
                delete_named(scope.proto.initializer, names)
                delete_named(scope.proto.sparse_initializer, names, lambda s: s.values.name)
        for scope, names in self._unrecorded.items():
            delete_named(scope.proto.value_info, names)
            if isinstance(scope.proto, GraphProto):
                delete_named(scope.proto.quantization_annotation, names, lambda a: a.tensor_name)
        for scope, sizes in self._resized.items():
            resize_recorded(scope.proto.value_info, sizes)
        self._gone.clear()
        self._unrecorded.clear()
        self._resized.clear()
