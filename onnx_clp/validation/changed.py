"""Which values two models of one network must have in common although they make them in different ways.

A fold leaves values by the same name that are not the same: what lies between a layer and the affine that went into it,
behind or before. The nodes that are gone show which.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnx import ModelProto, NodeProto, TensorProto

from onnx_clp.file import wire
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind

# They move values or average them, so a factor may stand on either side of them.
_MOVING: Final = (Kind.LAYOUT, Kind.RETYPE, Kind.POOL, Kind.GLOBAL_POOL)
# They take up what an affine beside them leaves.
_AFFINE: Final = (Kind.JOINT, Kind.NORMALISE)
_START: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class _Known:
    """A model with names in place of its large weights, and what tells an initializer of its main graph from others."""

    model: ModelProto
    weights: dict[str, bytes]

    def makers(self) -> dict[str, NodeProto]:
        """By value of the main graph the node that makes it."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    def function(self, node: NodeProto) -> list[bytes]:
        """The bodies of the local function that a node calls."""
        called = (f for f in self.model.functions if (f.domain, f.name) == (node.domain, node.op_type))
        return [body.SerializeToString(deterministic=True) for body in called]


class _Names:
    """Gives payloads names, equal ones the same; of one that a fold has changed the start is enough."""

    def __init__(self) -> None:
        self._first: dict[bytes, memoryview] = {}
        self._alike: dict[bytes, dict[bytes, bytes]] = {}

    def of(self, payload: memoryview) -> bytes:
        """The name of a payload, which must stay readable until `forget`."""
        start = _digest(len(payload).to_bytes(8, "little") + payload[:_START])
        if self._first.setdefault(start, payload) is payload:
            return start
        alike = self._alike.setdefault(start, {_digest(self._first[start]): start})
        whole = _digest(payload)
        return alike.setdefault(whole, whole)

    def forget(self) -> None:
        """Let go of the payloads."""
        for payload in self._first.values():
            payload.release()
        self._first.clear()


def changed_values(before: Path, after: Path) -> list[str]:
    """Values of the main graph, in its order, that both models have and compute in different ways.

    That is by another operator, from other values, or from the same names with other weights behind them. So a rest of
    the graph in which nothing changed gives the same from the same values. Left out are constants, and what lies
    between a layer and an affine that went into it.
    """
    one, other = _known(before, after)
    makers, made = one.makers(), other.makers()
    differing = [name for name, node in made.items() if name in makers and _differs(makers[name], node, one, other)]
    affines = {name: node for name, node in makers.items() if not is_a(node, Kind.LINEAR)}
    gone = {name for name, node in affines.items() if name not in made or made[name].op_type != node.op_type}
    taking = {name for name in differing if is_a(makers[name], *_AFFINE)}
    within = _before_one_of(gone | taking, one.model) | _moved_from(gone, one.model)
    moving = _moving(one.model)
    return [name for name in differing if name in moving and name not in within]


def _before_one_of(gone: set[str], model: ModelProto) -> set[str]:
    """Values that go, through what only moves them, into a node that is gone, or that took something up."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if gone & set(node.output) or (is_a(node, *_MOVING) and found & set(node.output)):
            found.update(node.input)
    return found


def _moved_from(gone: set[str], model: ModelProto) -> set[str]:
    """What only moves the values that nodes gave which are gone."""
    found: set[str] = set()
    for node in model.graph.node:
        if is_a(node, *_MOVING) and (gone | found) & set(node.input):
            found.update(node.output)
    return found


def _moving(model: ModelProto) -> set[str]:
    """Values that depend on the inputs; those that nodes with graphs inside give count."""
    stored = {tensor.name for tensor in model.graph.initializer}
    found = {value.name for value in model.graph.input} - stored
    for node in model.graph.node:
        if found & set(node.input) or any(item.HasField("g") for item in node.attribute):
            found.update(node.output)
    return found


def _differs(first: NodeProto, then: NodeProto, one: _Known, other: _Known) -> bool:
    if (first.domain, first.op_type, list(first.input)) != (then.domain, then.op_type, list(then.input)):
        return True
    if _attributes(first) != _attributes(then) or one.function(first) != other.function(then):
        return True
    return any(one.weights.get(name) != other.weights.get(name) for name in then.input)


def _attributes(node: NodeProto) -> list[bytes]:
    return sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)


def _known(*paths: Path) -> list[_Known]:
    """The models at `paths`, in which equal weights have equal names."""
    names = _Names()
    with contextlib.ExitStack() as opened:
        views = [opened.enter_context(_mapped(path)) for path in paths]
        opened.callback(names.forget)
        return [_named(view, path, names) for view, path in zip(views, paths, strict=True)]


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        yield view


def _named(view: memoryview, path: Path, names: _Names) -> _Known:
    model = ModelProto.FromString(wire.lift(view, lambda start, end: names.of(view[start:end])))
    folder = Path(os.path.realpath(path)).parent
    return _Known(model, {tensor.name: _weight(tensor, folder) for tensor in model.graph.initializer})


def _weight(tensor: TensorProto, folder: Path) -> bytes:
    if tensor.data_location != TensorProto.EXTERNAL:
        return tensor.SerializeToString(deterministic=True)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    start, length = int(entries.get("offset", 0)), entries.get("length")
    with (folder / entries["location"]).open("rb") as file:
        file.seek(start)
        return _digest(file.read(-1 if length is None else int(length)))


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
