"""A subject with caps on directions put in, and a look at one of its values without gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto

from onnx_clp.cap import bound_directions
from onnx_clp.cap.bound_directions import Site
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.inversion.pace import Batches
from onnx_clp.inversion.program import Program
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.numerics.directions import Direction, Float64
from onnx_clp.operators.nodes import subgraphs
from onnx_clp.validation.provider import Engine

Caps = Mapping[Site, Sequence[Direction]]

_AT_ONCE: Final = 50
_MOST_POSITIONS: Final = 20_000


def capped(subject: Subject, caps: Caps) -> Subject:
    """A copy of the subject whose sites have the caps; a direction that a site's type cannot hold is left out."""
    model = ModelProto()
    model.CopyFrom(subject.model)
    index = ModelIndex(model, TensorStore())
    edit = GraphEdit(index)
    for site, directions in caps.items():
        bound_directions.put(edit, site, [d for d in directions if bound_directions.refusal(site, d) is None])
    edit.finish()
    return replace(subject, model=model)


class Look:
    """One value of a subject, computed for images; what it does not depend on is left out of the graph."""

    def __init__(self, subject: Subject, value: str, engine: Engine) -> None:
        self._subject, self._value, self._batches = subject, value, Batches(_AT_ONCE)
        self._program = Program(part(subject.model, value), engine)

    def parts(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """The value for some of the images after the other, so that few are held at once."""
        for _, values in self._batches.run(len(images), lambda part: self._run(images[part])):
            yield values

    def all(self, images: Images) -> NDArray[np.float32]:
        """The value for all images."""
        return np.concatenate(list(self.parts(images)))

    def _run(self, images: Images) -> NDArray[np.float32]:
        fed = self._subject.laid_out(images)
        return self._program.run([self._value], {self._subject.input: fed})[0].astype(np.float32)


def positions(parts: Iterable[NDArray[np.float32]], count: int, seed: list[int]) -> Float64:
    """Rows of channels, as many from every image and at most about 20,000; those of one image stand together.

    Args:
        parts: a value (n, channels, ...) for some of the images after the other.
        count: how many images there are.
        seed: of which positions are taken.
    """
    rng, rows = np.random.default_rng(seed), []
    for values in parts:
        flat = values.reshape(*values.shape[:2], -1)
        most = max(1, _MOST_POSITIONS // count)
        if flat.shape[2] > most:
            chosen = np.argsort(rng.random((len(flat), flat.shape[2])), axis=1)[:, :most]
            flat = np.take_along_axis(flat, chosen[:, None], axis=2)
        rows.append(flat.transpose(0, 2, 1).reshape(-1, flat.shape[1]))
    return np.concatenate(rows).astype(np.float64)


def part(model: ModelProto, value: str) -> ModelProto:
    """What of the main graph is needed for one value, which becomes the only output."""
    needed, nodes = {value}, []
    for node in reversed(model.graph.node):
        if not needed.isdisjoint(node.output):
            nodes.append(node)
            needed.update(reads(node))
    piece = shell(model, nodes[::-1], needed)
    piece.graph.input.extend(model.graph.input)
    piece.graph.output.append(ValueInfoProto(name=value))
    return piece


def shell(model: ModelProto, nodes: Iterable[NodeProto], needed: Collection[str]) -> ModelProto:
    """A model of some of the main graph's nodes and the constants needed, without inputs and outputs."""
    piece = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    piece.graph.name = model.graph.name or "part"
    piece.graph.node.extend(nodes)
    piece.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    piece.graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in needed)
    return piece


def reads(node: NodeProto) -> Iterator[str]:
    """The names a node and the graphs nested in it read."""
    yield from node.input
    for _, body in subgraphs(node):
        yield from (output.name for output in body.output)
        for inner in body.node:
            yield from reads(inner)
