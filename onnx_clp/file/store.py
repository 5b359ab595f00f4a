"""Where tensor values live, and how to read them: the file itself, a data file, the message, or a recipe.

The ModelProto in memory is a skeleton (see `wire`): a large payload stays in the mapped file and its tensor
holds a token. `TensorStore` is the only reader and maker of tensors, so values come through it alone and a
changed weight can be a recipe that is computed when it is written, one layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnx_clp.file import wire
from onnx_clp.file.storage import ELEMENT_TYPES

Array = NDArray[Any]

_GROWTH: Final = 16  # 4-bit weights become float64
_LEAST_ROOM: Final = 128 << 20
_SMALL: Final = 1 << 16
_CHUNK: Final = 1 << 20  # small enough to stay in the processor's cache between hashing and writing
_PACKED_BITS = {number: kind.bits for number, kind in ELEMENT_TYPES.items() if 0 < kind.bits < 8}


class ExternalReader(Protocol):
    """What the store needs of external data: a tensor's bytes, wherever they lie, and to let them go."""

    def view(self, tensor: TensorProto) -> memoryview:
        """The tensor's bytes, mapped read-only."""

    def forget(self, tensor: TensorProto) -> None:
        """Let the system drop the tensor's bytes from memory."""


class MappedFile(Protocol):
    """A file mapped read-only."""

    @property
    def view(self) -> memoryview:
        """All of it."""

    def forget(self, start: int, end: int) -> None:
        """Let the system drop a range from memory."""


@dataclass(frozen=True, slots=True)
class MappedPayload:
    """Bytes that lie in a mapped file."""

    file: MappedFile
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def read(self) -> memoryview:
        """The bytes, not copied."""
        return self.file.view[self.start : self.end]

    def chunks(self) -> Iterator[memoryview]:
        """The bytes a piece at a time, each let go from memory after use."""
        for start in range(self.start, self.end, _CHUNK):
            end = min(start + _CHUNK, self.end)
            yield self.file.view[start:end]
            self.file.forget(start, end)

    def release(self) -> None:
        """Let the system drop them from memory."""
        self.file.forget(self.start, self.end)


@dataclass(frozen=True, slots=True)
class ExternalPayload:
    """Bytes of an external tensor; `tensor` still says where they lie."""

    reader: ExternalReader
    tensor: TensorProto
    size: int

    def __len__(self) -> int:
        return self.size

    def read(self) -> memoryview:
        """The bytes, not copied."""
        return self.reader.view(self.tensor)

    def chunks(self) -> Iterator[memoryview]:
        """The bytes a piece at a time, each let go from memory after use."""
        for start in range(0, self.size, _CHUNK):
            yield self.reader.view(self.tensor)[start : start + _CHUNK]
            self.reader.forget(self.tensor)

    def release(self) -> None:
        """Let the system drop them from memory."""
        self.reader.forget(self.tensor)


@dataclass(frozen=True, slots=True)
class ComputedPayload:
    """Bytes made on demand: the arrays of `blocks` hold exactly `size` bytes together, the same at every call.

    Each array is good until the next is asked for.
    """

    size: int
    blocks: Callable[[], Iterable[Array]]

    def __len__(self) -> int:
        return self.size

    def read(self) -> memoryview:
        """The bytes, computed now."""
        whole = np.empty(self.size, np.uint8)
        at = 0
        for chunk in self.chunks():
            whole[at : at + len(chunk)] = chunk
            at += len(chunk)
        return whole.data

    def chunks(self) -> Iterator[memoryview]:
        """The bytes a block at a time, computed now."""
        for block in self.blocks():
            yield np.ascontiguousarray(block).reshape(-1).view(np.uint8).data

    def release(self) -> None:
        """Nothing is kept."""


Payload = MappedPayload | ExternalPayload | ComputedPayload


def numpy_dtype(data_type: int) -> np.dtype[Any]:
    """The NumPy (or ml_dtypes) dtype of a TensorProto.DataType; KeyError where there is none."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))


def packed_nbytes(data_type: int, count: int) -> int:
    """Bytes that `count` elements take in raw_data; types of 2, 4 and 6 bits are packed."""
    bits = _PACKED_BITS.get(data_type)
    if bits is not None:
        return -(-count * bits // 8)
    return count * numpy_dtype(data_type).itemsize


class TensorStore:
    """Reads and makes tensors of one model.

    Arrays returned are read-only views where possible; whoever changes one makes a new one.
    """

    def __init__(self, external: ExternalReader | None = None) -> None:
        self._external = external
        self._payloads: list[Payload] = []
        self._room: int | None = None
        self._taken: dict[Hashable, int] = {}

    def limit_to(self, size: int) -> None:
        """Hold what is computed from the tensors of a model of `size` bytes to 16 times that, and 128 MiB at least."""
        self._room = max(_LEAST_ROOM, _GROWTH * size)

    def has_room(self, key: Hashable, nbytes: int) -> bool:
        """Whether a computed value of `nbytes`, known by `key`, stays within `limit_to` beside those before it."""
        if nbytes < _SMALL or self._room is None or key in self._taken:
            return True
        if sum(self._taken.values()) + nbytes > self._room:
            return False
        self._taken[key] = nbytes
        return True

    def keep(self, payload: Payload) -> bytes:
        """Keep a payload; the token that stands for it."""
        self._payloads.append(payload)
        return wire.make_token(len(self._payloads) - 1)

    def payload_of(self, token: bytes) -> Payload:
        """The payload a token stands for."""
        return self._payloads[wire.token_number(token)]

    def raw_bytes(self, tensor: TensorProto) -> memoryview | None:
        """The tensor's bytes in raw_data layout; None when they sit in a typed field."""
        if tensor.data_location == TensorProto.EXTERNAL:
            assert self._external is not None
            return self._external.view(tensor)
        if not tensor.HasField("raw_data"):
            return None
        raw = tensor.raw_data
        return self.payload_of(raw).read() if wire.is_token(raw) else memoryview(raw)

    def nbytes(self, tensor: TensorProto) -> int | None:
        """Bytes of the payload wherever it lies; None when the values sit in a typed field."""
        if tensor.data_location != TensorProto.EXTERNAL and tensor.HasField("raw_data"):
            raw = tensor.raw_data
            return len(self.payload_of(raw)) if wire.is_token(raw) else len(raw)
        view = self.raw_bytes(tensor)
        return None if view is None else len(view)

    def payload(self, tensor: TensorProto) -> Payload | None:
        """The tensor's payload where it lies outside the message: lifted, external or computed."""
        if tensor.data_location == TensorProto.EXTERNAL:
            assert self._external is not None
            return ExternalPayload(self._external, tensor, len(self._external.view(tensor)))
        return self.payload_of(tensor.raw_data) if wire.is_token(tensor.raw_data) else None

    def release(self, tensor: TensorProto) -> None:
        """Let the system drop the tensor's bytes from memory; they are read again when asked for again."""
        payload = self.payload(tensor)
        if payload is not None:
            payload.release()

    def array(self, tensor: TensorProto) -> Array:
        """The tensor's values, shaped by its dims, in its own dtype (ml_dtypes for bfloat16 and below)."""
        raw = self.raw_bytes(tensor)
        if raw is None:
            return numpy_helper.to_array(tensor)
        if tensor.data_type in _PACKED_BITS:
            small = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=bytes(raw))
            return numpy_helper.to_array(small)
        return np.frombuffer(raw, dtype=numpy_dtype(tensor.data_type)).reshape(tuple(tensor.dims))

    def make(self, name: str, values: Array, data_type: int) -> TensorProto:
        """A new tensor holding `values`, cast to `data_type`."""
        if data_type in _PACKED_BITS:
            packed = numpy_helper.from_array(values.astype(numpy_dtype(data_type)), name)
            packed.data_type = data_type
            return packed
        array = np.ascontiguousarray(values, dtype=numpy_dtype(data_type))
        return self.recipe(name, array.shape, data_type, lambda: (array,))

    def recipe(
        self, name: str, dims: Iterable[int], data_type: int, blocks: Callable[[], Iterable[Array]]
    ) -> TensorProto:
        """A new tensor of shape `dims` whose values, in `data_type`, `blocks` gives when they are needed.

        `blocks` yields them in order, in arrays of any size, each good until the next is asked for.
        """
        tensor = TensorProto(name=name, dims=tuple(dims), data_type=data_type)
        payload = ComputedPayload(packed_nbytes(data_type, int(np.prod(tensor.dims, dtype=object))), blocks)
        small = len(payload) <= wire.LIFT_ABOVE
        tensor.raw_data = bytes(payload.read()) if small else self.keep(payload)
        return tensor
