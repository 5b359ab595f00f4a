"""What the bench for clean networks makes: networks in other forms, inputs, and drawn text."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from onnx_clp.errors import LoadError, UsageError
from tools.harm import forms, inputs, photographs, samples
from tools.harm.inputs import Inputs, Material
from tools.harm.lettering import Printer, font_files
from tools.harm.making import Workshop
from tools.harm.network import CORPUS, Kind, Network, Package

NETWORK = Network("small", Kind.CLASSIFIER, Package(CORPUS, "small", "", ""), "small.onnx", "photographs-224", "", "")


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    random = np.random.default_rng(0)
    tensors = {"k": random.normal(0, 0.2, (4, 3, 3, 3)), "h": random.normal(0, 1, (4, 5))}
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["c"], strides=[8, 8]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), corpus / "small.onnx"
    )
    _photographs(tmp_path / "photographs.npz", 3)
    return Workshop(tmp_path / "work", corpus, tmp_path / "photographs.npz", None)


def _photographs(path: Path, count: int) -> None:
    coded = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (224, 224), (80 * number, 40, 200)).save(buffer, "JPEG")
        coded.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offset = np.cumsum([0, *map(len, coded)]).astype(np.uint32)
    np.savez(path, jpeg=np.concatenate(coded), offset=offset, label=np.arange(count))


def test_a_network_is_made_with_its_inputs(shop: Workshop) -> None:
    assert shop.make_all([replace(NETWORK, labelled=True)]) == []
    real = samples.read(shop.inputs("small"))
    assert real.arrays["image"].shape == (3, 1, 3, 224, 224)
    assert real.labels is not None
    assert real.labels.tolist() == [0, 1, 2]
    assert real.arrays["image"][2, 0, :, 100, 100] == pytest.approx([160 / 255, 40 / 255, 200 / 255], abs=0.02)
    assert samples.answers(shop.model("small"), real)["y"].shape == (3, 1, 5)


def test_what_is_not_labelled_keeps_no_labels(shop: Workshop) -> None:
    shop.make_all([NETWORK])
    assert samples.read(shop.inputs("small")).labels is None


def test_what_cannot_be_made_is_named_and_the_rest_is_made(shop: Workshop) -> None:
    failed = shop.make_all([replace(NETWORK, name="lost", member="lost.onnx"), NETWORK])
    assert failed == ["lost: small: 0 files fit lost.onnx; one is needed"]
    assert shop.model("small").exists()
    assert not shop.model("lost").exists()


def test_photographs_are_needed_where_inputs_are_made_of_them(shop: Workshop) -> None:
    (failed,) = replace(shop, photographs=None).make_all([NETWORK])
    assert "--photographs" in failed


@pytest.mark.parametrize("form", ["fp16", "qdq", "qoperator"])
def test_another_form_answers_nearly_the_same_with_other_tensors(shop: Workshop, form: str) -> None:
    shop.make_all([NETWORK])
    real = samples.read(shop.inputs("small"))
    out = shop.work / "other.onnx"
    forms.write(form, shop.model("small"), out, real.feeds())
    before, after = (samples.answers(path, real)["y"] for path in (shop.model("small"), out))
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    operators = {node.op_type for node in onnx.load(out).graph.node}
    kinds = {tensor.data_type for tensor in onnx.load(out).graph.initializer}
    assert (TensorProto.FLOAT16 in kinds) is (form == "fp16")
    onnx.checker.check_model(onnx.load(out))
    assert ("QLinearConv" in operators) is (form == "qoperator")
    assert ("DequantizeLinear" in operators) is (form != "fp16")


def test_an_unknown_form_is_refused(shop: Workshop) -> None:
    with pytest.raises(UsageError, match="int3"):
        forms.write("int3", shop.model("small"), shop.work / "other.onnx", [])


@pytest.mark.parametrize(("recipe", "shape"), [("lines-turned", (1, 3, 48, 192)), ("words-grey", (1, 1, 64, 160))])
def test_drawn_text_has_the_shape_and_range_of_its_recipe(recipe: str, shape: tuple[int, ...]) -> None:
    made = inputs.made(recipe, Material(None, None, 4, Path))
    (array,) = made.arrays
    assert array.shape == (4, *shape)
    assert array.dtype == np.float32
    assert -1 <= array.min() < array.max() <= 1


def test_words_are_labelled_with_their_characters() -> None:
    made = inputs.made("words-colour", Material(None, None, 3, Path))
    assert made.labels is not None
    assert [int((row >= 0).sum()) for row in made.labels] == [4, 5, 6]
    assert made.labels[0, :4].tolist() == [int(character, 36) for character in Printer(None, 4).code(4)]


def test_half_of_the_lines_are_turned() -> None:
    made = inputs.made("lines-turned", Material(None, None, 4, Path))
    assert made.labels is not None
    assert made.labels.tolist() == [0, 1, 0, 1]
    again = inputs.made("lines-turned", Material(None, None, 4, Path))
    assert np.array_equal(made.arrays[0], again.arrays[0])


def test_lines_are_labelled_with_the_characters_that_are_drawn(tmp_path: Path) -> None:
    characters = "'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    reader = helper.make_model(helper.make_graph([], "reader", [], []))
    helper.set_model_props(reader, {"character": "\n".join(characters)})
    onnx.save(reader, tmp_path / "reader.onnx")
    made = inputs.made("lines", Material(None, None, 3, lambda _: tmp_path / "reader.onnx"))
    assert made.labels is not None
    space = 6624  # the last of the network's classes, behind the characters of the file
    first = "".join(" " if index == space else characters[index - 1] for index in made.labels[0] if index >= 0)
    assert first == Printer(None, 1).words(3)


def test_text_is_drawn_dark_enough_to_be_read() -> None:
    printer = Printer(None, 0)
    empty, full = printer.line("", 40, 120), printer.line("mmmmm", 40, 120)
    assert full.astype(float).std() > 3 * empty.astype(float).std()
    assert printer.page(64).shape == (64, 64, 3)
    assert set(printer.code(50)).isdisjoint("01IO")
    assert font_files(None)


@pytest.mark.parametrize("way", sorted(photographs.WAYS))
def test_a_photograph_is_laid_out_as_its_way_says(way: str) -> None:
    side, prepared = photographs.WAYS[way]
    made = prepared(np.full((side, side, 3), (255, 0, 0), np.uint8))
    assert made.dtype == np.float32
    assert made.shape in {(1, 3, side, side), (1, side, side, 3)}
    channels = made[0, :, 0, 0] if made.shape[1] == 3 else made[0, 0, 0]
    red = 2 if way == "caffe" else 0
    assert int(channels.argmax()) == red


def test_inputs_must_fit_the_network(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="takes 2 inputs, 1 are made"):
        inputs.write(Inputs((np.zeros((1, 1)),)), ["a", "b"], tmp_path / "made.npz")


@pytest.mark.parametrize(("given", "wanted"), [(11, 13), (13, 13), (17, 17)])
def test_a_model_is_quantised_in_an_opset_whose_scales_have_an_axis(given: int, wanted: int) -> None:
    text = f'<ir_version: 7, opset_import: ["" : {given}]> g (float[1,4] x) => (float[1,4] y) {{ y = Relu(x) }}'
    model = forms.scales_per_channel(onnx.parser.parse_model(text))
    assert [one.version for one in model.opset_import] == [wanted]
