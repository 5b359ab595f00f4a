"""Initializers with the same type, shape and bytes: the first is kept and read in place of the others.

Before: Conv(x, w, b1), Conv(y, v, b2), b1 and b2 alike. After: Conv(x, w, b1), Conv(y, v, b1).

One of a nested graph may go in favour of one around it. What a caller can see or override stays: an initializer that
is also an input or an output. Values are compared by a digest of their bytes, read a piece at a time, and only where
type, shape and first bytes are alike; numbers that are equal in different bytes (0 and -0) count as different.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from itertools import islice
from typing import Final

from onnx import TensorProto

from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex

Key = tuple[int, tuple[int, ...], bytes]
Groups = dict[Key, list[tuple[GraphIndex, str]]]

_FIRST_BYTES: Final = 4096


def apply(edit: GraphEdit, index: ModelIndex, kept: Set[str]) -> int:
    """Merge every duplicate of a model, those named in `kept` left; how many were deleted."""
    groups: Groups = {}
    for scope in index.scopes:
        for name, tensor in scope.initializers.items():
            if name not in scope.inputs and name not in scope.outputs and name not in kept:
                groups.setdefault(_key(edit.store, tensor, _FIRST_BYTES), []).append((scope, name))
    return sum(_merge_group(edit, group) for group in groups.values() if len(group) > 1)


def _merge_group(edit: GraphEdit, group: list[tuple[GraphIndex, str]]) -> int:
    seen: Groups = {}
    merged = 0
    for scope, name in group:
        first = seen.setdefault(_key(edit.store, scope.initializers[name], None), [])
        if any(_merge(edit, scope, name, *other) for other in first):
            merged += 1
        else:
            first.append((scope, name))
    return merged


def _merge(edit: GraphEdit, scope: GraphIndex, name: str, home: GraphIndex, other: str) -> bool:
    """Read `other`, of this scope or one around it, in place of an initializer of `scope`."""
    if scope.home(other) is not home or not edit.redirect(scope, name, other):
        return False
    edit.drop_initializer(scope, name)
    return True


def _key(store: TensorStore, tensor: TensorProto, most: int | None) -> Key:
    """Type, shape, and a digest of the first `most` bytes, of all where None."""
    return tensor.data_type, tuple(tensor.dims), _digest(store, tensor, most)


def _digest(store: TensorStore, tensor: TensorProto, most: int | None) -> bytes:
    digest = hashlib.sha256()
    payload = store.payload(tensor)
    if payload is not None:
        for chunk in islice(payload.chunks(), None if most is None else 1):
            digest.update(chunk[:most])
    elif tensor.data_type == TensorProto.STRING:
        for text in tensor.string_data:
            digest.update(len(text).to_bytes(8, "little") + text)
    else:
        raw = store.raw_bytes(tensor)
        digest.update(bytes(store.array(tensor).tobytes() if raw is None else raw)[:most])
    return digest.digest()
