"""Fine-pruning as a yardstick: which channels it switches off, that they stay off, and what is noted."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests import planted
from tools.evidence import fine_pruning, measuring
from tools.zoo.attacks import patch
from tools.zoo.datasets import Images, Labels
from tools.zoo.evalset import EvaluationSet
from tools.zoo.measure import predict

CLASSES = 6
PLAIN = """
< ir_version: 8, opset_import: ["" : 13] >
agraph (float[N, 1, 8, 8] x) => (float[N, 6] y)
{
  c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
  r = Relu(c)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  y = Gemm<transB = 1>(f, head)
}
"""
NORMALISED = PLAIN.replace("r = Relu(c)", "n = BatchNormalization(c, s, t, m, v)\n  r = Relu(n)")


def network(graph: str = PLAIN) -> onnx.ModelProto:
    """A small classifier with random weights; its channels 0 and 1 answer to nothing."""
    model, rng = onnx.parser.parse_model(graph), np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((10, 1, 3, 3)) / 3,
        "b": np.r_[-9.0, -9.0, np.zeros(8)],
        "head": rng.standard_normal((CLASSES, 160)) / 12,
    }
    if "BatchNormalization" in graph:
        values |= {"s": np.ones(10), "t": np.zeros(10), "m": np.zeros(10), "v": np.ones(10)}
    for name, one in values.items():
        model.graph.initializer.append(numpy_helper.from_array(one.astype(np.float32), name))
    return model


def lessons(model: onnx.ModelProto, count: int = 200) -> tuple[Images, Labels]:
    """Images and what the network says of them."""
    images = np.round(planted.pictures(count) * 255).astype(np.uint8)
    return images, answers(model, images)


def answers(model: onnx.ModelProto, images: Images) -> Labels:
    return predict(measuring.session(model.SerializeToString()), images)


@pytest.mark.parametrize("graph", [PLAIN, NORMALISED])
def test_channels_that_answer_to_nothing_go_first(graph: str) -> None:
    model = network(graph)
    images, labels = lessons(model)
    active = fine_pruning.activity(model, images)
    assert (active[:2] == 0).all()
    assert (active[2:] > 0).all()
    off = fine_pruning.chosen(model, images, labels)
    assert off[:2].all()
    assert not off.all()
    pruned, zeros = fine_pruning.switched_off(model, off)
    rows = {"s", "t"} if "Batch" in graph else {"w", "b"}
    assert set(zeros) == rows
    for tensor in pruned.graph.initializer:
        same = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == tensor.name))
        if tensor.name in rows:
            assert (numpy_helper.to_array(tensor)[off] == 0).all()
            assert np.array_equal(numpy_helper.to_array(tensor)[~off], same[~off])
        else:
            assert np.array_equal(numpy_helper.to_array(tensor), same)
    assert (labels == answers(pruned, images)).mean() >= 0.96


def test_channels_stay_off_in_training_and_the_line_says_what_came_of_it() -> None:
    pytest.importorskip("torch")
    from tools.zoo.tuning import tuned

    model = network()
    images, labels = lessons(model)
    off = np.arange(10) < 3
    pruned, zeros = fine_pruning.switched_off(model, off)
    kernels = {t.name: numpy_helper.to_array(t) for t in tuned(pruned, images, labels, 0, zeros).graph.initializer}
    before = {t.name: numpy_helper.to_array(t) for t in pruned.graph.initializer}
    assert (kernels["w"][off] == 0).all()
    assert (kernels["b"][off] == 0).all()
    assert not np.array_equal(kernels["w"][~off], before["w"][~off])
    exam = EvaluationSet(images, labels, patch(images), np.asarray(planted.TARGET, np.int64))
    line = fine_pruning.line_of(model, images, labels, exam, 0)
    assert line["before"][0] == 1.0
    assert 0.2 <= line["pruned"] < 1
    assert line["tuned"][0] > 0.5
    assert line["tuned"] != line["fine-pruned"]


def test_the_table_stands_beside_the_tool_and_leaves_out_what_it_was_not_measured_on() -> None:
    line: dict[str, Any] = {
        "name": "one",
        "before": (0.9, 1.0),
        "fine-pruned": (0.88, 0.2),
        "pruned": 0.5,
        "tuned": (0.89, 0.7),
    }
    runs: dict[str, Any] = {"one": {"runs": {"high": {"rates": [0.89, 0.05, 0.8]}}}, "two": {"runs": {"default": {}}}}
    made = fine_pruning.table([line, line | {"name": "two"}, line | {"name": "three"}], runs)
    assert made.splitlines()[2:] == ["| one | 90.0/100.0 | 89.0/5.0 | 88.0/20.0 | 50.0 | 89.0/70.0 |"]
    assert fine_pruning.table([], runs) == ""
