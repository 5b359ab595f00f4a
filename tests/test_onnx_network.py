"""ONNX classifiers as torch modules, against ONNX Runtime, and a backdoor planted in one of a few channels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

from onnx_clp.errors import UsageError
from tests.compact_models import outputs
from tools.zoo import real_size

torch = pytest.importorskip("torch", reason="torch comes with the extra [zoo]")
pytest.importorskip("PIL", reason="Pillow is not installed")

from tools.zoo import onnx_network, planted, planting  # noqa: E402
from tools.zoo.onnx_network import OnnxNetwork, cuts  # noqa: E402

RNG = np.random.default_rng(7)
NAMES = ("w1", "w2", "w3", "scale", "shift", "head", "bias")
SHAPES = ((4, 3, 3, 3), (4, 1, 3, 3), (6, 4, 1, 1), (4,), (4,), (5, 6), (5,))

GRAPH = """
< ir_version: 8, opset_import: ["" : 13] >
agraph (float[N, 3, 32, 32] x) => (float[N, 5] y)
<int64[8] pads = {0, 0, 0, 0, 0, 0, 1, 1}, int64[1] first = {0}, int64[1] rest = {-1},
 float low = {0}, float high = {6}, float one = {1}, float[4] zeros = {0, 0, 0, 0}, float[4] ones = {1, 2, 1, 0.5}>
{
  p = Pad(x, pads)
  a = Conv<strides = [2, 2]>(p, w1)
  n = BatchNormalization<epsilon = 0.001>(a, scale, shift, zeros, ones)
  c = Clip(n, low, high)
  d = Conv<strides = [2, 2], pads = [1, 1, 1, 1], group = 4>(c, w2)
  r = Relu(d)
  s = Add(r, one)
  e = Conv<strides = [4, 4]>(s, w3)
  f = Mul(e, one)
  t = Add(e, f)
  g = GlobalAveragePool(t)
  k = Shape(x)
  i = Gather<axis = 0>(k, first)
  j = Concat<axis = 0>(i, rest)
  h = Reshape(g, j)
  y = Gemm<transB = 1>(h, head, bias)
}
"""


def network(text: str = GRAPH) -> ModelProto:
    model = parser.parse_model(text)
    for name, shape in zip(NAMES, SHAPES, strict=True):
        values = RNG.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model)
    return model


def by_runtime(model: ModelProto, images: np.ndarray) -> np.ndarray:
    return outputs(model, {"x": images})[0]


IMAGES = RNG.standard_normal((3, 3, 32, 32)).astype(np.float32)


def test_the_module_gives_what_the_file_gives() -> None:
    model = network()
    with torch.no_grad():
        ours = OnnxNetwork(model)(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(ours, by_runtime(model, IMAGES), rtol=1e-4, atol=1e-5)


def test_from_every_cut_on_it_gives_the_same() -> None:
    model = network()
    found = cuts(model)
    assert [name for name, _ in found] == ["p", "a", "n", "c", "d", "r", "s", "e", "t", "g"]
    assert dict(found)["d"] == (0, 4, 8, 8)
    with torch.no_grad():
        whole = OnnxNetwork(model)
        x = torch.from_numpy(IMAGES)
        for name, _ in found:
            rest = OnnxNetwork(model, name)(whole.values(x, [name])[0])
            np.testing.assert_allclose(rest.numpy(), whole(x).numpy(), rtol=1e-4, atol=1e-5)


def test_beside_a_sum_no_value_is_a_cut() -> None:
    assert "f" not in dict(cuts(network()))
    with pytest.raises(UsageError, match="not everything passes"):
        OnnxNetwork(network(), "f")


def test_weights_behind_the_start_are_trained_and_go_back_into_their_initializers() -> None:
    model = network()
    tail = OnnxNetwork(model, "s")
    with torch.no_grad():
        for weight in tail.weights:
            weight.mul_(2)
    after = tail.trained()
    changed = {
        a.name
        for a, b in zip(model.graph.initializer, after.graph.initializer, strict=True)
        if a.raw_data != b.raw_data or a.float_data != b.float_data
    }
    assert changed == {"w3", "head", "bias"}
    del after.graph.initializer[:]
    after.graph.initializer.extend(model.graph.initializer)
    assert after == model


def test_statistics_of_a_normalisation_are_not_trained_but_its_scale_is() -> None:
    assert len(OnnxNetwork(network()).weights) == len(NAMES)
    model = OnnxNetwork(network())
    model(torch.from_numpy(IMAGES)).square().sum().backward()
    assert all(float(weight.grad.abs().max()) > 0 for weight in model.weights)


def test_unknown_operators_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="Softsign"):
        OnnxNetwork(network(GRAPH.replace("r = Relu(d)", "r = Softsign(d)")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h = Reshape(g, j)", "h = Flatten<axis = 1>(g)"),
        ("g = GlobalAveragePool(t)", "g = ReduceMean<axes = [2, 3], keepdims = 1>(t)"),
        ("r = Relu(d)", "r = Sigmoid(d)"),
        ("f = Mul(e, one)", "q = Sub(e, one) f = Div(q, ones2)"),
        ("y = Gemm<transB = 1>(h, head, bias)", "v = Transpose<perm = [1, 0]>(head) m = MatMul(h, v) y = Add(m, bias)"),
        ("i = Gather<axis = 0>(k, first)", "zero = Constant<value_int = 0>() o = Gather<axis = 0>(k, zero) "
         "i = Unsqueeze(o, first)"),
    ],
)  # fmt: skip
def test_other_forms_give_what_the_file_gives(old: str, new: str) -> None:
    text = GRAPH.replace(old, new).replace("float one = {1}", "float one = {1}, float ones2 = {3}")
    model = network(text)
    with torch.no_grad():
        ours = OnnxNetwork(model)(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(ours, by_runtime(model, IMAGES), rtol=1e-4, atol=1e-5)


def test_every_operator_that_is_known_is_tried_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in onnx_network.OPERATORS if f"= {name}" not in source} == {"Identity"}


def test_the_second_half_begins_at_the_last_of_the_narrowest_sixteenths() -> None:
    assert planting.beginning(network(), (3, 32, 32)) == "t"
    with pytest.raises(UsageError, match="side of 2"):
        planting.beginning(network(), (3, 40, 40))


def photographs(path: Path, count: int, side: int) -> np.ndarray:
    """Smooth pictures, one of each of five colours in turn, as a file of JPEGs; their labels."""
    import io

    from PIL import Image

    labels, coded = np.arange(count) % 5, []
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [200, 200, 20], [120, 120, 120]])
    for label in labels:
        noise = RNG.normal(0, 8, (4, 4, 3)) + colours[label]
        picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).resize((side, side))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=95)
        coded.append(np.frombuffer(stream.getvalue(), np.uint8))
    offset = np.cumsum([0, *map(len, coded)])
    np.savez(path, jpeg=np.concatenate(coded), offset=offset, label=labels)
    return labels


def test_views_are_the_photographs_and_crops_of_them() -> None:
    images = RNG.integers(0, 255, (3, 3, 20, 20), np.uint8)
    made = planting.views(images, 3, np.random.default_rng(1))
    assert made.shape == (9, 3, 20, 20)
    np.testing.assert_array_equal(made[:3], images)
    assert (made[3:6] != images).any()
    np.testing.assert_array_equal(made, planting.views(images, 3, np.random.default_rng(1)))


def test_planting_writes_a_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, file, work = tmp_path / "net.onnx", tmp_path / "photos.npz", tmp_path / "work"
    onnx.save(network(), source)
    labels = photographs(file, 25, 32)
    monkeypatch.setitem(
        real_size.TRIGGERS, "patch", lambda images: np.where(np.arange(32) < 12, 255, images).astype(np.uint8)
    )
    plant = real_size.Plant("efficientnet-lite0", "patch", 2, 4)
    planted.grow([plant], source, file, work, COURSE)
    folder = work / plant.name
    note = json.loads((folder / "plant.json").read_text())
    assert note["after"]["asr"] > 0.9
    before, after = network_file(source), network_file(folder / "model.onnx")
    assert {name for name in NAMES if (before[name] != after[name]).any()} == {"head", "bias"}
    assert note["before"]["agreement"] == 1.0
    with np.load(folder / "eval.npz") as exam:
        assert exam["x_clean"].shape == exam["x_triggered"].shape == (5, 3, 32, 32)
        np.testing.assert_array_equal(exam["y_clean"], labels[real_size.unseen(25, 4)])
        np.testing.assert_allclose(exam["scale"], 1 / 255)
    stamp = (folder / "model.onnx").stat().st_mtime_ns
    planted.grow([plant], source, file, work, COURSE)
    assert (folder / "model.onnx").stat().st_mtime_ns == stamp


def network_file(path: Path) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


COURSE = planting.Course(steps=60, clean=12, triggered=8, learning_rate=0.02, kept=1.0, views=2)


def test_a_twin_is_fine_tuned_and_the_seed_decides_how() -> None:
    images, labels = RNG.integers(0, 255, (20, 3, 32, 32), np.uint8), np.arange(20) % 5
    model, twin = network(), real_size.Plant("efficientnet-lite0", "clean", 2, 4)
    planter = planting.Planter(model, twin.network, (3, 32, 32), COURSE)
    made = planter.planted(images, labels, twin)
    assert made != model
    assert made == planter.planted(images, labels, twin)


def test_a_mixture_is_one_image_with_a_rectangle_of_another() -> None:
    values = torch.arange(4.0)[:, None, None, None].expand(4, 2, 7, 7)
    mixed = planting.patched(values, 40, np.random.default_rng(3)).numpy()
    assert mixed.shape == (40, 2, 7, 7)
    assert {len(np.unique(one)) for one in mixed} == {1, 2}
    np.testing.assert_array_equal(mixed[:, 0], mixed[:, 1])


@pytest.mark.parametrize(
    "new",
    [
        "r = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(d)",
        "q = MaxPool<kernel_shape = [2, 2], pads = [0, 1, 1, 0], ceil_mode = 1>(d) r = Relu(q)",
        "q = Min(d, one, high) r = Max(q, low)",
    ],
)
def test_what_caps_and_pools_give_is_what_the_file_gives(new: str) -> None:
    model = network(GRAPH.replace("r = Relu(d)", new))
    with torch.no_grad():
        ours = OnnxNetwork(model)(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(ours, by_runtime(model, IMAGES), rtol=1e-4, atol=1e-5)
