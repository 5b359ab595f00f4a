"""The second reader: it passes what joins up, and names what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto

import onnx_clp
from onnx_clp.errors import ValidationFailed
from onnx_clp.validation.second_reader import read_again

OPSET, IR = 17, 8


def network() -> ModelProto:
    """Conv > BatchNormalization > Relu, built with graphsurgeon."""
    x, y = (gs.Variable(n, np.float32, s) for n, s in (("x", (1, 3, 8, 8)), ("y", (1, 4, 8, 8))))
    made, normal = gs.Variable("c"), gs.Variable("b")
    rng = np.random.default_rng(0)
    weight = gs.Constant("W", rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    rest = [gs.Constant(n, rng.uniform(0.5, 1.5, 4).astype(np.float32)) for n in ("scale", "shift", "mean", "var")]
    nodes = [
        gs.Node("Conv", "conv", {"pads": [1, 1, 1, 1]}, [x, weight], [made]),
        gs.Node("BatchNormalization", "bn", {}, [made, *rest], [normal]),
        gs.Node("Relu", "relu", {}, [normal], [y]),
    ]
    model: ModelProto = gs.export_onnx(gs.Graph(nodes, [x], [y], opset=OPSET))
    model.ir_version = IR
    return model


def cut(model: ModelProto) -> None:
    del model.graph.node[0]


def rename_output(model: ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "z"


def add_input(model: ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("extra", 1, [1]))


def test_what_the_tool_writes_joins_up(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "in.onnx")
    result = onnx_clp.clean(tmp_path / "in.onnx", onnx_clp.CleanConfig(validate=False))
    assert result.report.summary.affines_folded == 1
    result.save(tmp_path / "out.onnx")
    assert read_again(tmp_path / "in.onnx", tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("damage", "words"),
    [(cut, "c is used and made by nothing"), (rename_output, "outputs"), (add_input, "an input that")],
)
def test_what_does_not_join_up_is_named(damage: Callable[[ModelProto], None], words: str, tmp_path: Path) -> None:
    model = network()
    onnx.save(model, tmp_path / "in.onnx")
    damage(model)
    onnx.save(model, tmp_path / "out.onnx")
    with pytest.raises(ValidationFailed, match=words):
        read_again(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_a_model_it_cannot_read_is_not_judged(tmp_path: Path) -> None:
    model = network()
    text = onnx.AttributeProto(name="note", type=onnx.AttributeProto.STRING, s=b"\xff")
    model.graph.node[0].attribute.append(text)
    onnx.save(model, tmp_path / "in.onnx")
    assert not read_again(tmp_path / "in.onnx", tmp_path / "in.onnx")
