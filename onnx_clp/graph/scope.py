"""What a scope says of its names: as much as ranks and constants are worked out from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray
from onnx import FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnx_clp.file.store import TensorStore


class Scope(Protocol):
    """One scope of a model; `graph.index.GraphIndex` is one."""

    proto: GraphProto | FunctionProto
    store: TensorStore
    known_values: dict[str, NDArray[Any]]

    @property
    def initializers(self) -> Mapping[str, TensorProto]:
        """Initializers by name."""

    @property
    def sparse(self) -> Mapping[str, SparseTensorProto]:
        """Sparse initializers by name."""

    @property
    def producers(self) -> Mapping[str, NodeProto]:
        """The node that makes each value."""

    def home(self, name: str) -> Scope | None:
        """The scope that defines a name, this one or one around it."""

    def outer_rank(self, name: str) -> int | None:
        """The rank of a value of the scope around this one."""

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, None where it is none."""

    def element_type(self, name: str) -> int | None:
        """The TensorProto.DataType of a value, None where it is not known."""
