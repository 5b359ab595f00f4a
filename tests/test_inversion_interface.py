"""Models that take 8-bit images or give scores in another form are searched as ones of floats and rows of scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_clp import UsageError
from onnx_clp.gauge.request import Landmark
from onnx_clp.inversion import values
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.validation.provider import Engine, choose
from tests import planted

UINT8, INT8 = TensorProto.UINT8, TensorProto.INT8
SHIFT: dict[int, int] = {UINT8: 0, INT8: -128}
NODES = {
    "cast": [helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.FLOAT)],
    "moved": [
        helper.make_node("Transpose", ["pixels"], ["across"], perm=[0, 1, 3, 2]),
        helper.make_node("Transpose", ["across"], ["back"], perm=[0, 1, 3, 2]),
        helper.make_node("Cast", ["back"], ["whole"], to=TensorProto.FLOAT),
    ],
    "dequantized": [helper.make_node("DequantizeLinear", ["pixels", "one", "zero"], ["whole"])],
    "compared": [
        helper.make_node("Max", ["pixels", "least"], ["lit"]),
        helper.make_node("Cast", ["lit"], ["whole"], to=TensorProto.FLOAT),
    ],
}
DIRECT = ("cast", "moved", "dequantized")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def of_bytes(form: str, kind: int = UINT8, opset: int = 19) -> ModelProto:
    """The planted classifier with 8-bit pixels, black at the type's least value; `form` is a key of `NODES`."""
    model = planted.classifier(planted=True)
    graph, dtype = model.graph, helper.tensor_dtype_to_np_dtype(kind)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("pixels", kind, ["n", 1, planted.SIDE, planted.SIDE]))
    base = SHIFT[kind] if form != "dequantized" else 0
    constants: dict[str, NDArray[np.generic]] = {
        "one": np.array(1, np.float32),
        "zero": np.array(SHIFT[kind], dtype),
        "least": np.array(SHIFT[kind] + 3, dtype),
        "black": np.array(base, np.float32),
        "white": np.array(255, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    last = [
        helper.make_node("Sub", ["whole", "black"], ["level"]),
        helper.make_node("Div", ["level", "white"], ["images"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*NODES[form], *last, *rest])
    model.ir_version = 9
    model.opset_import[0].version = opset
    onnx.checker.check_model(model)
    return model


def read(model: ModelProto, folder: Path, output: str | None = None) -> Subject:
    onnx.save(model, folder / "m.onnx")
    return read_subject(folder / "m.onnx", {}, output)


def run(model: ModelProto, name: str, images: NDArray[np.generic]) -> NDArray[np.float32]:
    found = ReferenceEvaluator(model).run(None, {name: images})
    assert isinstance(found, list)
    return np.asarray(found[0], np.float32)


def pixels(kind: int) -> NDArray[np.generic]:
    levels = np.rint(255 * planted.pictures(20)) + SHIFT[kind]
    return np.asarray(levels.astype(helper.tensor_dtype_to_np_dtype(kind)))


@pytest.mark.parametrize("kind", [UINT8, INT8])
@pytest.mark.parametrize("form", list(NODES))
def test_of_whole_numbers_the_scores_are_the_files_own(form: str, kind: int, tmp_path: Path, engine: Engine) -> None:
    model, images = of_bytes(form, kind), pixels(kind)
    subject = read(model, tmp_path)
    assert (subject.data_type, subject.shape) == (kind, (1, planted.SIDE, planted.SIDE))
    found = Attack(subject, engine).logits(images.astype(np.float32))
    np.testing.assert_allclose(found, run(model, "pixels", images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", list(NODES))
def test_between_whole_numbers_scores_change_where_the_file_only_converts_them(
    form: str, tmp_path: Path, engine: Engine
) -> None:
    attack = Attack(read(of_bytes(form), tmp_path), engine)
    images = np.clip(pixels(UINT8).astype(np.float32), 10, 240)
    moved = np.abs(attack.logits(np.asarray(images + 0.3, np.float32)) - attack.logits(images)).max()
    assert (moved > 1e-4) == (form in DIRECT)


@pytest.mark.parametrize("form", list(NODES))
def test_a_step_against_the_gradient_brings_the_class_nearer(form: str, tmp_path: Path, engine: Engine) -> None:
    attack = Attack(read(of_bytes(form), tmp_path), engine)
    images = np.clip(pixels(UINT8).astype(np.float32), 10, 240)
    scores, gradient = attack.pull(images, planted.TARGET)
    assert np.abs(gradient).max() > 0
    after = attack.logits(np.asarray(images - 4 * np.sign(gradient), np.float32))
    before = scores[:, planted.TARGET] - np.delete(scores, planted.TARGET, 1).max(axis=1)
    assert (after[:, planted.TARGET] - np.delete(after, planted.TARGET, 1).max(axis=1)).mean() > before.mean()


def test_pixels_that_must_be_rounded_need_an_operator_that_old_opsets_lack(tmp_path: Path) -> None:
    model = of_bytes("cast", opset=9)
    assert read(model, tmp_path).data_type == UINT8
    square = helper.make_node("Gather", ["pixels", "first"], ["one_channel"], axis=1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node.insert(0, square)
    model.graph.node[1].input[0] = "one_channel"
    with pytest.raises(UsageError, match="8-bit images needs opset 10"):
        read(model, tmp_path)
    model.opset_import[0].version = 19
    assert read(model, tmp_path).data_type == UINT8


@pytest.mark.parametrize(("kind", "ends"), [(UINT8, (0.0, 255.0)), (INT8, (-128.0, 127.0))])
@pytest.mark.parametrize("landmark", [None, Landmark("raw", (), ())])
def test_eight_bits_state_their_range_and_what_was_asked_for_stays(
    kind: int, ends: tuple[float, float], landmark: Landmark | None, tmp_path: Path, engine: Engine
) -> None:
    subject = read(of_bytes("cast", kind), tmp_path)
    request = SearchRequest(original=tmp_path / "m.onnx", landmark=landmark)
    found = values.in_its_values(request, subject, Attack(subject, engine), engine)
    assert (found.low, found.high) == ends
    asked = SearchRequest(original=tmp_path / "m.onnx", low=3.0, high=7.0, asked_range=True)
    assert values.in_its_values(asked, subject, Attack(subject, engine), engine) is asked


# --- the other end -----------------------------------------------------------------------------------------


def ending(*nodes: NodeProto, kind: int, dims: list[int | str]) -> ModelProto:
    """The planted classifier with nodes behind its scores that lead to an output of that type and those sizes."""
    model = planted.classifier(planted=True)
    model.opset_import[0].version = 19
    constants: dict[str, NDArray[np.generic]] = {
        "tall": np.array([0, planted.CLASSES, 1, 1]),
        "deep": np.array([0, 1, 1, planted.CLASSES]),
        "square": np.array([0, planted.CLASSES // 2, 2, 1]),
        "step": np.array(1 / 256, np.float32),
        "none": np.array(0, np.uint8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("end", kind, dims))
    onnx.checker.check_model(model)
    return model


def shaped(source: str, to: str, name: str) -> NodeProto:
    return helper.make_node("Reshape", [source, to], [name])


LAST: dict[str, tuple[list[NodeProto], int, list[int | str]]] = {
    "tall": ([shaped("scores", "tall", "end")], 1, ["n", planted.CLASSES, 1, 1]),
    "deep": ([shaped("scores", "deep", "end")], 1, ["n", 1, 1, planted.CLASSES]),
    "shares": (
        [shaped("scores", "tall", "t"), helper.make_node("Softmax", ["t"], ["end"], axis=1)],
        1,
        ["n", planted.CLASSES, 1, 1],
    ),
    "rounded": (
        [
            helper.make_node("Softmax", ["scores"], ["s"]),
            helper.make_node("QuantizeLinear", ["s", "step", "none"], ["end"]),
        ],
        UINT8,
        ["n", planted.CLASSES],
    ),
}


@pytest.mark.parametrize("form", list(LAST))
def test_scores_of_other_forms_become_one_row_an_image(form: str, tmp_path: Path, engine: Engine) -> None:
    nodes, kind, dims = LAST[form]
    images = planted.pictures(20)
    found = Attack(read(ending(*nodes, kind=kind, dims=dims), tmp_path), engine).logits(images)
    np.testing.assert_allclose(found, run(planted.classifier(planted=True), "images", images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "kind", "dims"),
    [
        ([shaped("scores", "square", "end")], 1, ["n", planted.CLASSES // 2, 2, 1]),
        ([helper.make_node("Cast", ["scores"], ["end"], to=UINT8)], UINT8, ["n", planted.CLASSES]),
    ],
    ids=["positions", "whole numbers"],
)
def test_what_is_no_row_of_scores_is_refused(
    nodes: list[NodeProto], kind: int, dims: list[int | str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="needs class scores, floats of shape"):
        read(ending(*nodes, kind=kind, dims=dims), tmp_path)
