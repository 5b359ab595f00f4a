"""Stored tensors: whether what a TensorProto says of itself agrees with what it holds.

Source: onnx.proto (TensorProto, SparseTensorProto) of onnx 1.23, which lists every element type and where its
values may lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from onnx import SparseTensorProto, TensorProto

from onnx_clp.errors import InvalidModelError, UnsupportedModelError
from onnx_clp.text import shown

PayloadSize = Callable[[TensorProto], int | None]

STRING, EXTERNAL, INT64 = 8, 1, 7
_MAX_BYTES = 2**63 - 1
MAX_RANK = 64  # NumPy's
_TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_typed_values = attrgetter(*_TYPED_FIELDS)


@dataclass(frozen=True, slots=True)
class ElementType:
    """How one element type is stored.

    Attributes:
        name: as ONNX spells it.
        bits: of one element in `raw_data` and in external data; 0 for strings, which lie in neither.
        field: the typed field that may hold the values instead.
        entries: entries of that field per element, as a fraction (numerator, denominator).
    """

    name: str
    bits: int
    field: str
    entries: tuple[int, int] = (1, 1)


ELEMENT_TYPES = {
    1: ElementType("FLOAT", 32, "float_data"),
    2: ElementType("UINT8", 8, "int32_data"),
    3: ElementType("INT8", 8, "int32_data"),
    4: ElementType("UINT16", 16, "int32_data"),
    5: ElementType("INT16", 16, "int32_data"),
    6: ElementType("INT32", 32, "int32_data"),
    7: ElementType("INT64", 64, "int64_data"),
    8: ElementType("STRING", 0, "string_data"),
    9: ElementType("BOOL", 8, "int32_data"),
    10: ElementType("FLOAT16", 16, "int32_data"),
    11: ElementType("DOUBLE", 64, "double_data"),
    12: ElementType("UINT32", 32, "uint64_data"),
    13: ElementType("UINT64", 64, "uint64_data"),
    14: ElementType("COMPLEX64", 64, "float_data", (2, 1)),
    15: ElementType("COMPLEX128", 128, "double_data", (2, 1)),
    16: ElementType("BFLOAT16", 16, "int32_data"),
    17: ElementType("FLOAT8E4M3FN", 8, "int32_data"),
    18: ElementType("FLOAT8E4M3FNUZ", 8, "int32_data"),
    19: ElementType("FLOAT8E5M2", 8, "int32_data"),
    20: ElementType("FLOAT8E5M2FNUZ", 8, "int32_data"),
    21: ElementType("UINT4", 4, "int32_data", (1, 2)),
    22: ElementType("INT4", 4, "int32_data", (1, 2)),
    23: ElementType("FLOAT4E2M1", 4, "int32_data", (1, 2)),
    24: ElementType("FLOAT8E8M0", 8, "int32_data"),
    25: ElementType("UINT2", 2, "int32_data", (1, 4)),
    26: ElementType("INT2", 2, "int32_data", (1, 4)),
    27: ElementType("FLOAT6E2M3", 6, "int32_data"),
    28: ElementType("FLOAT6E3M2", 6, "int32_data"),
}


def label(tensor: TensorProto) -> str:
    """Name a tensor in a message."""
    return f"tensor '{shown(tensor.name)}'"


def element_type(tensor: TensorProto) -> ElementType:
    """Return how the tensor's elements are stored.

    Raises:
        InvalidModelError: the type is missing.
        UnsupportedModelError: the type is none that onnx 1.23 defines.
    """
    number = tensor.data_type
    if number in ELEMENT_TYPES:
        return ELEMENT_TYPES[number]
    if number == 0:
        raise InvalidModelError(f"{label(tensor)} has no element type; export the model again")
    raise UnsupportedModelError(f"{label(tensor)} has the unknown element type {number}; export it with another")


def element_count(tensor: TensorProto) -> int:
    """Return the product of the dimensions, 1 for a scalar.

    Raises:
        InvalidModelError: a dimension is negative, or the product of those above 0 passes 2**63 - 1.
        UnsupportedModelError: there are more dimensions than arrays have.
    """
    return _product(tensor.dims, tensor)[0]


def expected_bytes(tensor: TensorProto) -> int:
    """Return how many bytes the tensor's elements take in `raw_data` or external data; 0 for strings.

    Elements of less than a byte are packed; the last byte is padded. Errors as `element_count` and
    `element_type`, and InvalidModelError where the bytes would pass 2**63 - 1.
    """
    count, extent = _product(tensor.dims, tensor)
    bits = element_type(tensor).bits
    if extent * bits > 8 * _MAX_BYTES:
        raise InvalidModelError(f"{label(tensor)} would pass 2**63 bytes; its dimensions are wrong")
    return (count * bits + 7) // 8


def check_tensor(tensor: TensorProto, payload_size: PayloadSize) -> None:
    """Check one dense tensor: type and dimensions known and possible, values complete and stored once.

    Args:
        tensor: its values may have been moved elsewhere, or lie in another file.
        payload_size: bytes of the values wherever they are, None when they lie in a typed field.

    Raises:
        InvalidModelError: the tensor contradicts itself.
        UnsupportedModelError: its type is unknown, or its values are split into segments.
    """
    kind, expected = element_type(tensor), expected_bytes(tensor)
    if tensor.HasField("segment"):
        raise UnsupportedModelError(f"{label(tensor)} is stored in segments; export the model again")
    if tensor.data_location not in (0, EXTERNAL):
        raise InvalidModelError(f"{label(tensor)} has the unknown data location {tensor.data_location}")
    size = payload_size(tensor)
    typed = any(map(len, _typed_values(tensor)))
    if size is None:
        _check_typed(tensor, kind)
    elif kind.bits == 0:
        raise InvalidModelError(f"{label(tensor)} holds strings as raw bytes; they belong in string_data")
    elif typed:
        raise InvalidModelError(f"{label(tensor)} stores its values twice, as bytes and as numbers")
    elif size != expected:
        raise InvalidModelError(f"{label(tensor)} {_shape(tensor, kind)} needs {expected:,} bytes, has {size:,}")


def check_sparse(sparse: SparseTensorProto, payload_size: PayloadSize) -> None:
    """Check one sparse tensor: both parts sound, and their shapes such as the format asks for.

    The indices are not read; only their type and number are checked.

    Raises:
        InvalidModelError: as `check_tensor`, or the parts do not fit together.
    """
    values, indices = sparse.values, sparse.indices
    name = f"sparse {label(values)}"
    check_tensor(values, payload_size)
    check_tensor(indices, payload_size)
    total, rank = _product(sparse.dims, values)[0], len(sparse.dims)
    if len(values.dims) != 1 or indices.data_type != INT64:
        raise InvalidModelError(f"{name}: values must be a vector and indices INT64")
    stored = values.dims[0]
    if list(indices.dims) not in ([stored], [stored, rank]):
        raise InvalidModelError(f"{name}: {stored:,} values have indices of shape {list(indices.dims)}")
    if rank == 0 or stored > total:
        raise InvalidModelError(f"{name}: {stored:,} values do not fit into the shape {list(sparse.dims)[:8]}")


def _check_typed(tensor: TensorProto, kind: ElementType) -> None:
    wrong = [name for name in _TYPED_FIELDS if name != kind.field and len(getattr(tensor, name))]
    if wrong:
        raise InvalidModelError(f"{label(tensor)} of type {kind.name} stores values in {wrong[0]}")
    factor, divisor = kind.entries
    needed = -(-element_count(tensor) * factor // divisor)
    found = len(getattr(tensor, kind.field))
    if found != needed:
        raise InvalidModelError(f"{label(tensor)} {_shape(tensor, kind)} needs {needed:,} values, has {found:,}")


def _product(dims: Sequence[int], tensor: TensorProto) -> tuple[int, int]:
    """Return the product of `dims`, and the product of those that are not 0."""
    count = extent = 1
    if len(dims) > MAX_RANK:
        raise UnsupportedModelError(f"{label(tensor)} has {len(dims):,} dimensions; at most {MAX_RANK} can be read")
    for size in dims:
        if size < 0:
            raise InvalidModelError(f"{label(tensor)} has a negative dimension, {size}; export the model again")
        count *= size
        extent *= size or 1
    if extent > _MAX_BYTES:
        raise InvalidModelError(f"{label(tensor)}: the product of its dimensions passes 2**63; they are wrong")
    return count, extent


def _shape(tensor: TensorProto, kind: ElementType) -> str:
    dims = list(tensor.dims)
    more = ", …" if len(dims) > 8 else ""
    return f"({kind.name} [{', '.join(map(str, dims[:8]))}{more}])"
