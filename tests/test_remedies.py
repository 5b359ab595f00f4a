"""What takes out what an audit found does what the dial that measures it does, and no more than the dose allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp.audit.sites import Read, reads
from onnx_clp.document.audit import DormantPath, PathLayer, QuietValue
from onnx_clp.file.store import TensorStore
from onnx_clp.gauge.dials import Panel
from onnx_clp.gauge.request import DialSetting
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import find_layers
from onnx_clp.run import remedies
from onnx_clp.run.remedies import GateFix, PathCap, PathCut
from tests import silent_paths
from tools.redteam import catalogue

Array = NDArray[Any]

PATH = DormantPath(
    (PathLayer("r1", (2, 5), None, ((0.1, 0.2), (0.0, 0.1))), PathLayer("flat", (4,), 0.9, ((0.0, 0.05),))),
    target=4,
    turned=1.0,
    others=0.0,
    strength=2.0,
    silent=0.0,
    held=0.0,
)


def _index(model: ModelProto) -> ModelIndex:
    return ModelIndex(model, TensorStore())


def _sites(index: ModelIndex) -> list[Read]:
    return reads(index, find_layers(index.main))


def _answers(model: ModelProto, names: list[str], **more: Array) -> list[Array]:
    images = silent_paths.samples(8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(names, {"images": images.fed(images.images), **more}))


@pytest.mark.parametrize(
    ("silent", "held", "kind"), [(0.0, 0.0, PathCap), (1.0, 0.0, PathCut), (0.0, 1.0, PathCut), (1.0, 1.0, PathCut)]
)
def test_channels_are_kept_where_most_of_a_path_fires_and_that_stops_it_else_zeroed(
    silent: float, held: float, kind: type
) -> None:
    found = _sites(_index(silent_paths.plain()))
    cuts = list(remedies.of_path(replace(PATH, silent=silent, held=held), found, zero=False))
    assert {type(one) for one in cuts} == {kind}
    assert len(cuts) == 2


@pytest.mark.parametrize("off", [(2,), (2, 5), ()])
def test_channels_are_kept_within_their_limits_as_the_dial_does_it(off: tuple[int, ...]) -> None:
    model = silent_paths.plain()
    cap, _ = remedies.of_path(PATH, _sites(_index(model)), zero=False)
    on_dials = ModelProto()
    on_dials.CopyFrom(model)
    panel = Panel(on_dials, _index(model).names())
    dial = panel.add_switch(cap.switch)
    panel.add_output("r1")
    panel.finish()
    edited = ModelProto()
    edited.CopyFrom(model)
    edit = GraphEdit(_index(edited))
    cap.carry_out(edit, DialSetting("r1", (0.0, 0.0), off))
    edit.finish()
    onnx.checker.check_model(edited)
    edited.graph.output.append(onnx.ValueInfoProto(name="r1"))
    chosen = np.isin(np.arange(silent_paths.WIDTH), off).reshape(dial.switch.shape)
    tried = _answers(on_dials, ["scores", "r1"], **{dial.off: chosen})
    written = _answers(edited, ["scores", "r1"])
    assert dial.fill == ""
    for one, other in zip(tried, written, strict=True):
        assert np.array_equal(one, other)
    for channel, (low, high) in zip((2, 5), PATH.layers[0].usual, strict=True):
        values = written[1][:, channel]
        assert bool(values.min() >= low - 1e-6 and values.max() <= high + 1e-6) is (channel in off)


def _gated() -> tuple[ModelProto, str]:
    model = catalogue.write("gate-ramp", silent_paths.plain(), silent_paths.samples(), target=4, seed=3).model
    return model, model.graph.node[-1].input[1]


@pytest.mark.parametrize("gives", [(0.0,), (0.0,) * silent_paths.CLASSES])
def test_a_gate_gives_its_constant_and_the_scores_are_the_networks_own(gives: tuple[float, ...]) -> None:
    model, gate = _gated()
    index = _index(model)
    (fix,) = remedies.of_gates([QuietValue(gate, "n", gives)], index.main)
    edit = GraphEdit(index)
    fix.carry_out(edit, DialSetting(gate, gives, tuple(range(len(gives)))))
    edit.finish()
    clean = silent_paths.plain()
    plain, gated = (_answers(one, ["scores"])[0] for one in (clean, model))
    assert np.array_equal(plain, gated)
    assert len(model.graph.node) == len(clean.graph.node) + 1  # the sum stays, nothing of what made the gate


def test_a_gate_goes_whole_or_stays() -> None:
    model, gate = _gated()
    index = _index(model)
    (fix,) = remedies.of_gates([QuietValue(gate, "n", (0.0,) * silent_paths.CLASSES)], index.main)
    edit = GraphEdit(index)
    fix.carry_out(edit, DialSetting(gate, (0.0,) * silent_paths.CLASSES, (0, 1)))
    assert not edit.changed
    assert model.graph.node[-1].input[1] == gate


def test_a_value_that_is_no_constant_or_that_more_read_than_nodes_entry_by_entry_stays() -> None:
    model, gate = _gated()
    assert list(remedies.of_gates([QuietValue(gate, "n")], _index(model).main)) == []
    model.graph.node.append(onnx.helper.make_node("Softmax", [gate], ["more"], axis=1))
    assert list(remedies.of_gates([QuietValue(gate, "n", (0.0,))], _index(model).main)) == []
    model.graph.node.pop()
    assert [type(one) for one in remedies.of_gates([QuietValue(gate, "n", (0.0,))], _index(model).main)] == [GateFix]
