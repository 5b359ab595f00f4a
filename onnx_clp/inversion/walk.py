"""The values at a subject's sites, one after the other in graph order, with what is put in at each passed on.

Looking at every site anew from the image on costs half of the network a site. On a walk every node is computed once:
the graph is cut behind each site, and what later pieces read of earlier ones is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from onnx_clp.cap import bound_directions
from onnx_clp.cap.bound_directions import Site
from onnx_clp.inversion.capped import reads, shell
from onnx_clp.inversion.program import Array, Program
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.numerics.directions import Direction
from onnx_clp.validation.provider import Engine

_AT_ONCE: Final = 50

Values = dict[str, Array]


class Piece:
    """The nodes that lead to one site from the sites before it, compiled when it is known what they read.

    Args:
        model: the whole.
        nodes: of the piece, in graph order.
        value: of the site.
        later: what later pieces read.
    """

    def __init__(self, model: ModelProto, nodes: Sequence[NodeProto], value: str, later: set[str]) -> None:
        self._model, self.nodes = model, nodes
        self._program: Program | None = None
        made = {name for node in nodes for name in node.output if name}
        self._reads = {name for node in nodes for name in reads(node)} - made
        self._gives, self.later = sorted(made & (later | {value})), later

    def run(self, known: Values, engine: Engine) -> Values:
        """What it gives, and what of the known values later pieces read."""
        fed = {name: known[name] for name in self._reads & known.keys()}
        kept = {name: value for name, value in known.items() if name in self.later}
        if not self._gives:
            return kept
        if self._program is None:
            self._program = Program(self._compiled(fed), engine)
        return kept | dict(zip(self._gives, self._program.run(self._gives, fed), strict=True))

    def _compiled(self, fed: Values) -> ModelProto:
        piece = shell(self._model, self.nodes, self._reads)
        piece.graph.input.extend(_typed(name, value) for name, value in fed.items())
        piece.graph.output.extend(ValueInfoProto(name=name) for name in self._gives)
        return piece


class Trail:
    """A subject cut into pieces.

    Args:
        subject: the model.
        sites: in graph order.
        engine: where it runs.
    """

    def __init__(self, subject: Subject, sites: Sequence[Site], engine: Engine) -> None:
        self.subject, self.engine = subject, engine
        cut, done = [], set[int]()
        for site in sites:
            nodes = _leading_to(subject.model, site.value, done)
            done |= {at for at, _ in nodes}
            cut.append(([node for _, node in nodes], site.value))
        self.pieces, later = list[Piece](), set[str]()
        for piece, value in reversed(cut):
            self.pieces.append(Piece(subject.model, piece, value, set(later)))
            later |= {name for node in piece for name in reads(node)}
        self.pieces.reverse()


class Walk:
    """One set of images on a trail, some images after the other.

    Attributes:
        count: how many images there are.
    """

    def __init__(self, trail: Trail, images: Images) -> None:
        self._trail, self._at, self.count = trail, 0, len(images)
        parts = (images[first : first + _AT_ONCE] for first in range(0, len(images), _AT_ONCE))
        self._known: list[Values] = [{trail.subject.input: trail.subject.laid_out(part)} for part in parts]

    def on(self, site: Site, directions: Sequence[Direction]) -> None:
        """Go on to the next site, and put caps on these directions of its value."""
        piece, self._at = self._trail.pieces[self._at], self._at + 1
        for at, known in enumerate(self._known):
            # Kept for the caps even if nothing later reads the value.
            found = piece.run(known, self._trail.engine)
            self._known[at] = found if site.value in found else found | {site.value: known[site.value]}
        self.put(site, directions)

    def put(self, site: Site, directions: Sequence[Direction]) -> None:
        """Put caps on directions of the value of the present site."""
        for direction in directions:
            if bound_directions.refusal(site, direction) is None:
                for known in self._known:
                    known[site.value] = _cut(known[site.value], direction)

    def parts(self, site: Site) -> Iterator[Array]:
        """The value of the present site for some images after the other."""
        for known in self._known:
            yield known[site.value].astype(np.float32)


def _cut(values: Array, direction: Direction) -> Array:
    """Values (n, channels, …) under a cap, in their own type, as the nodes of a cap compute it."""
    flat = values.reshape(*values.shape[:2], -1)
    u, v = direction.u.astype(values.dtype), direction.v.astype(values.dtype)
    beyond = np.maximum(v @ flat + values.dtype.type(direction.offset), 0)
    return np.asarray(flat - u[:, None] * beyond[:, None]).reshape(values.shape)


def _leading_to(model: ModelProto, value: str, done: set[int]) -> list[tuple[int, NodeProto]]:
    """The nodes that a value needs and their places, in graph order, but for those done."""
    needed, nodes = {value}, []
    for at, node in reversed(list(enumerate(model.graph.node))):
        if not needed.isdisjoint(node.output):
            needed.update(reads(node))
            if at not in done:
                nodes.append((at, node))
    return nodes[::-1]


def _typed(name: str, value: Array) -> ValueInfoProto:
    kind = TypeProto()
    kind.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(value.dtype)
    return ValueInfoProto(name=name, type=kind)
