"""Weights left in their file: the same model, none of it copied, and every fault still found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp.errors import ValidationFailed
from onnx_clp.validation import checking, session
from onnx_clp.validation import terms as terms_module
from onnx_clp.validation.mapping import map_weights
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import CPU, CUDA, Engine, cpu_engine
from onnx_clp.validation.request import Request
from onnx_clp.validation.session import RunError, Runner, open_runner
from onnx_clp.validation.terms import settle_terms
from onnx_clp.validation.watching import WatchingRunner
from tests.validation_models import MEMORY, run, save

FEED = {"x": np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def network(folded: bool, tweak: float = 1.0, channels: int = 16, size: int = 8) -> ModelProto:
    """Conv, BatchNormalization, Relu with a weight large enough to be left in the file.

    The last of its `channels` is multiplied by `tweak`.
    """
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((channels, 3, 3, 3))
    gamma, beta, mean = rng.standard_normal((3, channels))
    var = rng.random(channels) + 0.5
    scale = gamma / np.sqrt(var + 1e-5)
    arrays = {"w": weight, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["h"]),
    ]
    if folded:
        arrays = {"w": weight * scale[:, None, None, None], "b": beta - mean * scale}
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["h"])]
    arrays["w"][-1] *= tweak
    graph = helper.make_graph(
        [*nodes, helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, size - 2, size - 2])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(network(folded=False), tmp_path / "model.onnx")


def mapped(path: Path) -> ModelProto:
    light = map_weights(path)
    assert light is not None
    assert light.folder == path.resolve().parent
    return ModelProto.FromString(light.model)


# --- what is left in the file -------------------------------------------------------------------------


def test_a_large_initializer_becomes_the_range_of_the_file_it_lies_in(path: Path) -> None:
    weight, *others = mapped(path).graph.initializer
    where = {e.key: e.value for e in weight.external_data}
    assert (weight.data_location, weight.raw_data, where["location"]) == (TensorProto.EXTERNAL, b"", "model.onnx")
    start, length = int(where["offset"]), int(where["length"])
    whole = onnx.load(path).graph.initializer[0]
    assert path.read_bytes()[start : start + length] == whole.raw_data
    assert all(t.data_location == TensorProto.DEFAULT and t.raw_data for t in others)


def test_all_but_the_payload_is_as_it_was(path: Path) -> None:
    model, before = mapped(path), onnx.load(path)
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = before.graph.initializer[0].raw_data
    assert model == before


def test_attributes_keep_their_bytes(path: Path) -> None:
    model = onnx.load(path)
    values = np.arange(400, dtype=np.float32)
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(values)))
    save(model, path)
    (constant,) = mapped(path).graph.node[-1].attribute
    assert constant.t.data_location == TensorProto.DEFAULT
    assert np.array_equal(numpy_helper.to_array(constant.t), values)


def test_a_model_without_large_initializers_has_nothing_to_leave(tmp_path: Path) -> None:
    assert map_weights(save(network(folded=False, channels=4), tmp_path / "small.onnx")) is None


def test_a_link_is_followed_unless_the_model_has_data_beside_the_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link = tmp_path / "link.onnx"
    real = path.rename(tmp_path / "store" / "blob")
    link.symlink_to(real)
    light = map_weights(link)
    assert light is not None
    assert light.folder == real.resolve().parent
    model = onnx.load(real)
    big = model.graph.initializer.add(name="elsewhere", data_type=TensorProto.FLOAT, dims=[300])
    big.data_location = TensorProto.EXTERNAL
    big.external_data.add(key="location", value="data.bin")
    save(model, real)
    assert map_weights(link) is None
    assert map_weights(real) is not None


# --- what runs ----------------------------------------------------------------------------------------


def test_a_mapped_model_gives_what_the_whole_one_gives(path: Path) -> None:
    whole, left = (open_runner(path, cpu_engine(), Plan(mapped=m)) for m in (False, True))
    assert (left.inputs, left.outputs, left.placed) == (whole.inputs, whole.outputs, whole.placed)
    assert np.array_equal(left.run(FEED)["y"], whole.run(FEED)["y"])


def test_weights_are_read_from_the_file_and_not_from_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_runner(path, cpu_engine(), Plan(mapped=True)).run(FEED)["y"]
    light = map_weights(path)
    assert light is not None
    monkeypatch.setattr(session, "map_weights", lambda _: light)
    content = path.read_bytes()
    raw = onnx.load(path).graph.initializer[0].raw_data
    path.write_bytes(content.replace(raw, bytes(len(raw))))
    after = open_runner(path, cpu_engine(), Plan(mapped=True)).run(FEED)["y"]
    assert not np.array_equal(before, after)
    assert np.ptp(after, axis=(2, 3)).max() == 0  # zero weights: every channel is its bias


def test_what_cannot_be_mapped_is_loaded_whole_and_its_refusal_is_the_whole_models(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(_: Path) -> None:
        raise OSError("no mappings here")

    monkeypatch.setattr(session, "map_weights", no)
    assert open_runner(path, cpu_engine(), Plan(mapped=True)).run(FEED)["y"].shape == (1, 16, 6, 6)
    model = onnx.load(path)
    model.graph.initializer[0].raw_data += b"\0" * 4
    save(model, path)
    monkeypatch.undo()
    said = []
    for plan in (Plan(), Plan(mapped=True)):
        with pytest.raises(RunError) as refused:
            open_runner(path, cpu_engine(), plan)
        said.append(str(refused.value))
    assert said[0] == said[1]


# --- what a proof opens how ---------------------------------------------------------------------------


def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Plan]:
    plans: dict[str, Plan] = {}

    def note(path: Path, engine: Engine, plan: Plan, *, reference: bool = False) -> Runner:
        plans[path.stem] = plan
        return open_runner(path, engine, plan, reference=reference)

    def watch(path: Path, names: Sequence[str], engine: Engine, plan: Plan) -> WatchingRunner:
        plans[path.stem] = plan
        return WatchingRunner(path, names, engine, plan)

    monkeypatch.setattr(terms_module, "open_runner", note)
    monkeypatch.setattr(terms_module, "WatchingRunner", watch)
    return plans


def test_what_is_written_is_loaded_whole_and_the_rest_is_mapped(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = opened(monkeypatch)
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    final = save(network(folded=True, tweak=0.0), tmp_path / "final.onnx")
    run(path, folded, final)
    assert {name: plan.mapped for name, plan in plans.items()} == {"model": True, "folded": True, "final": False}
    run(path, folded)
    assert not plans["folded"].mapped


def test_a_model_that_cleaning_must_not_change_is_loaded_like_the_cleaned_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = opened(monkeypatch)
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    run(path, folded, cleaned=save(network(folded=True), tmp_path / "cleaned.onnx"))
    assert {name: plan.mapped for name, plan in plans.items()} == {"model": True, "folded": False, "cleaned": False}


def test_a_gpu_gets_whole_models_and_large_networks_get_several_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = opened(monkeypatch)
    terms = settle_terms(Request(original=path, folded=None, final=None), cpu_engine(), MEMORY)
    assert terms.macs == 16 * 27 * 36
    terms.open(path)
    assert plans["model"] == Plan(mapped=True, one_thread=True)
    for macs in (None, 10**11):
        replace(terms, macs=macs).open(path)
        assert not plans["model"].one_thread
    monkeypatch.setattr(terms_module, "open_runner", lambda p, _, plan, **__: plans.update({p.stem: plan}))
    replace(terms, engine=Engine((CUDA, CPU), "9.9", "")).open(path)
    assert not plans["model"].mapped


# --- faults are still found ---------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["folded", "final"])
def test_a_wrong_weight_is_a_mismatch_mapped_or_not(path: Path, tmp_path: Path, written: str) -> None:
    good = save(network(folded=True), tmp_path / "good.onnx")
    bad = save(network(folded=True, tweak=1.01), tmp_path / "bad.onnx")
    final = None if written == "folded" else good
    assert run(path, good, final).validation.outcome == "validated"
    with pytest.raises(ValidationFailed, match="folding changed output y"):
        run(path, bad, final)


def break_shape(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 17


def break_node(model: ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", "no numbers"))


def shorten(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-4]


@pytest.mark.parametrize("fault", [break_shape, break_node, shorten])
def test_a_fault_in_what_is_written_is_found_without_its_weights(
    path: Path, tmp_path: Path, fault: Callable[[ModelProto], None]
) -> None:
    model = network(folded=True)
    assert run(path, save(model, tmp_path / "f.onnx")).validation.outcome == "validated"
    fault(model)
    with pytest.raises(ValidationFailed):
        run(path, save(model, tmp_path / "f.onnx"))


def test_the_check_reads_no_whole_model_where_the_graph_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def complaint(path: Path, full: bool) -> str:
        assert full
        asked.append(path)
        return ""

    monkeypatch.setattr(checking, "complaint", complaint)
    here = Path.cwd()
    assert checking.check_written(path, path) == ()
    assert asked == []
    assert Path.cwd() == here
    model = onnx.load(path)
    break_shape(model)
    assert checking.check_written(path, save(model, path)) == ()
    assert asked == [path]
