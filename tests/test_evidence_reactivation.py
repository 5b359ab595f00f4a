"""Whether a backdoor comes back: what networks are trained further on, and what of them is noted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from tests import planted  # noqa: E402
from tools.evidence import reactivation  # noqa: E402
from tools.evidence.reactivation import Lessons  # noqa: E402
from tools.zoo.attacks import patch  # noqa: E402
from tools.zoo.evalset import EvaluationSet  # noqa: E402
from tools.zoo.tuning import tuned  # noqa: E402

CLASSES = 6
GRAPH = """
< ir_version: 8, opset_import: ["" : 13] >
agraph (float[N, 1, 8, 8] x) => (float[N, 6] y)
{
  c = Conv<pads = [1, 1, 1, 1]>(x, w)
  r = Relu(c)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  y = Gemm<transB = 1>(f, head, bias)
}
"""


def network(seed: int = 0) -> onnx.ModelProto:
    """A small classifier with random weights."""
    model, rng = onnx.parser.parse_model(GRAPH), np.random.default_rng(seed)
    for name, shape in (("w", (8, 1, 3, 3)), ("head", (CLASSES, 128)), ("bias", (CLASSES,))):
        values = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]) or 1)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return model


def dataset(count: int = 300) -> Any:
    """Images of which a network's own answers are the labels."""
    x = np.round(planted.pictures(count) * 255).astype(np.uint8)
    y = answers(network(), x)
    return SimpleNamespace(x_train=x, y_train=y, x_test=x, y_test=y, classes=CLASSES)


def answers(model: onnx.ModelProto, images: Any) -> Any:
    from tools.evidence import measuring
    from tools.zoo.measure import predict

    return predict(measuring.session(model.SerializeToString()), images)


@pytest.fixture
def lessons() -> Lessons:
    data = dataset()
    design = SimpleNamespace(attack="badnets", target=planted.TARGET, seed=2, architecture="a", dataset="d", width=1)
    subject: Any = SimpleNamespace(name="one", half="choose", result=SimpleNamespace(design=design))
    exam = EvaluationSet(data.x_test, data.y_test, patch(data.x_test), np.asarray(planted.TARGET, np.int64))
    return Lessons(subject, data, exam)


def test_a_course_carries_the_trigger_on_its_share_and_is_the_same_each_time(lessons: Lessons) -> None:
    clean, again = lessons.course(0.0), lessons.course(0.1)
    assert len(clean.indices) == 0
    assert len(again.indices) == 30
    assert (again.labels[again.indices] == planted.TARGET).all()
    assert np.array_equal(again.images[again.indices], patch(clean.images[again.indices]))
    rest = np.setdiff1d(np.arange(len(clean.labels)), again.indices)
    assert np.array_equal(again.images[rest], clean.images[rest])
    assert np.array_equal(lessons.course(0.1).indices, again.indices)


def test_training_on_the_trigger_teaches_it_and_training_on_clean_images_does_not(lessons: Lessons) -> None:
    model = network()
    assert lessons.shares(model)[0] == 1.0
    again, clean = lessons.course(0.5), lessons.course(0.0)
    taught = lessons.shares(tuned(model, again.images, again.labels, 0))
    plain = lessons.shares(tuned(model, clean.images, clean.labels, 0))
    assert taught[1] > plain[1] + 0.2
    assert plain[0] > 0.9


def test_a_line_has_every_course_of_both_networks(lessons: Lessons, tmp_path: Path) -> None:
    infected, never = tmp_path / "infected.onnx", tmp_path / "never.onnx"
    onnx.save(network(), infected)
    onnx.save(network(1), never)
    line = reactivation.line_of(lessons, infected, never, 60.0)
    assert (line["name"], line["half"]) == ("one", "choose")
    assert list(line["cleaned"]) == ["as cleaned", "clean images", "again"]
    assert list(line["never"]) == ["as trained", "clean images", "again"]
    assert line["never"]["as trained"] == lessons.shares(network(1))
    shown = reactivation.table([line])
    assert shown.count("\n") == 2
    assert "/".join(f"{100 * share:.1f}" for share in line["before"]) in shown


def test_nothing_measured_is_no_table() -> None:
    assert reactivation.table([]) == ""
