"""Values at sites one after the other, against each computed from the images on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.cap.bound_directions import Site
from onnx_clp.inversion import walk
from onnx_clp.inversion.capped import Look, capped
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.walk import Trail, Walk
from onnx_clp.numerics.directions import Direction
from onnx_clp.validation.provider import Engine, choose
from tests.test_direction_repair import sites
from tests.test_inversion import stored

MODELS = Path(__file__).parent.parent / "models"

SHAPED = """
<ir_version: 8, opset_import: ["" : 17]> g (float[n,2,4,4] x) => (float[n,3] y) <
  float[2,2,1,1] A = {1,0,0,1}, float[2,2,1,1] B = {1,2,-1,1}, int64[1] first = {0}, int64[1] one = {1},
  int64[1] rest = {-1}, float[2,3] H = {1,2,3,4,5,6}>
{ a = Conv(x, A) r = Relu(a) s = Shape(x) n1 = Gather(s, first) b = Conv(r, B) c = Add(b, x)
  g1 = GlobalAveragePool(c) to = Concat<axis=0>(n1, rest) f = Reshape(g1, to) y = MatMul(f, H) }
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def random_caps(found: Sequence[Site]) -> dict[Site, list[Direction]]:
    rng, caps = np.random.default_rng(0), {}
    for site in found:
        u = rng.normal(size=site.channels)
        caps[site] = [Direction(u / np.linalg.norm(u), u / np.linalg.norm(u), offset) for offset in (0.0, 0.2)]
    return caps


def same_as_looks(subject: Subject, found: Sequence[Site], images: Images, engine: Engine) -> None:
    caps, going = random_caps(found), Walk(Trail(subject, found, engine), images)
    for at, site in enumerate(found):
        going.on(site, caps[site][:1])
        going.put(site, caps[site][1:])
        look = Look(capped(subject, {one: caps[one] for one in found[: at + 1]}), site.value, engine)
        walked = np.concatenate(list(going.parts(site)))
        np.testing.assert_allclose(walked, look.all(images), rtol=1e-4, atol=1e-5)
    assert going.count == len(images)


def test_a_walk_through_a_residual_network_gives_what_looks_give(engine: Engine) -> None:
    path = MODELS / "resnet18_badnets.folded.onnx"
    images = np.random.default_rng(1).random((5, 1, 28, 28)).astype(np.float32)
    same_as_looks(read_subject(path, {}, None), sites(path), images, engine)


def test_shapes_that_later_pieces_read_go_along_and_parts_of_all_sizes(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_AT_ONCE", 2)
    onnx.save(onnx.parser.parse_model(SHAPED), tmp_path / "shaped.onnx")
    subject = read_subject(tmp_path / "shaped.onnx", {}, None)
    found = [Site("a", 2, 4, 1, "a"), Site("b", 2, 4, 1, "b"), Site("f", 2, 2, 1, "f")]
    images = np.random.default_rng(2).random((5, 2, 4, 4)).astype(np.float32)
    same_as_looks(subject, found, images, engine)


def test_every_node_is_computed_once(tmp_path: Path, engine: Engine) -> None:
    path = stored(tmp_path, infected=True)
    subject, found = read_subject(path, {}, None), sites(path)
    trail = Trail(subject, found, engine)
    given = [name for piece in trail.pieces for node in piece.nodes for name in node.output]
    assert len(given) == len(set(given)) > 0
