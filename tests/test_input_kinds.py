"""Inputs of every type and rank, and none; operators without a definition; models as bytes; weights that are inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_clp
from onnx_clp import CleanConfig, UnsupportedModelError, UsageError
from onnx_clp.check.signatures import EXPERIMENTAL, is_experimental
from onnx_clp.document.run import Report
from onnx_clp.report.advice import Advice, steps
from onnx_clp.validation import inputs
from onnx_clp.validation.anatomy import InputSpec
from tests.hostile.networks import network

ON_CPU = CleanConfig(provider="cpu", prune=False)
PLAIN = ("FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BOOL", "FLOAT16", "DOUBLE", "UINT32", "UINT64")
RARE = ("STRING", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4")
SIZES = {0: (), 1: (4,), 2: (1, 4)}


def with_input(kind: int, rank: int) -> ModelProto:
    """Conv > BatchNormalization, and beside it an input of that type and rank that goes to an output of its own."""
    model = bare()
    model.graph.input.append(helper.make_tensor_value_info("e", kind, SIZES[rank]))
    text = kind == TensorProto.STRING
    reader = helper.make_node("Identity", ["e"], ["z"]) if text else helper.make_node("Cast", ["e"], ["z"], to=1)
    model.graph.node.append(reader)
    model.graph.output.append(helper.make_tensor_value_info("z", kind if text else TensorProto.FLOAT, SIZES[rank]))
    return model


def bare(source: str = "x") -> ModelProto:
    """Conv > BatchNormalization on `source`."""
    rng = np.random.default_rng(1)
    stored = {"w": rng.standard_normal((12, 3, 3, 3)), "s": rng.uniform(1, 2, 12), "b": rng.standard_normal(12)}
    stored |= {"m": rng.standard_normal(12), "v": rng.uniform(1, 2, 12)}
    nodes = [
        helper.make_node("Conv", [source, "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], "bn"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 12, 4, 4])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in stored.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def folded(model: ModelProto, config: CleanConfig = ON_CPU) -> Report:
    report = onnx_clp.clean(model, config).report
    assert report.summary.affines_folded == 1
    assert report.validation.outcome in ("validated", "not asked for")
    return report


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("name", [*PLAIN, *RARE, "FLOAT4E2M1"])
def test_values_are_arrays_of_the_inputs_type_and_shape(name: str, rank: int) -> None:
    kind = TensorProto.DataType.Value(name)
    drawn = inputs.draw([InputSpec("e", kind, SIZES[rank])], {"e": SIZES[rank]}, 0, 1, "small")["e"]
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == SIZES[rank]
    assert drawn.dtype == (object if name == "STRING" else helper.tensor_dtype_to_np_dtype(kind))


@pytest.mark.parametrize(("name", "rank"), [("BOOL", 0), ("FLOAT", 0), ("STRING", 0), ("BFLOAT16", 0), ("INT4", 1)])
def test_a_model_with_such_an_input_is_proven(name: str, rank: int) -> None:
    assert folded(with_input(TensorProto.DataType.Value(name), rank)).validation.fold_error is not None


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("name", [*PLAIN, *RARE])
def test_a_model_with_any_input_is_proven_and_its_loss_predicted(name: str, rank: int) -> None:
    model = with_input(TensorProto.DataType.Value(name), rank)
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[3] *= 30
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    report = folded(model, replace(ON_CPU, prune=True, layers="all", include=("conv",)))
    assert report.summary.channels_pruned == 1


def without_inputs() -> ModelProto:
    model = bare("k")
    value = np.random.default_rng(2).standard_normal((1, 3, 6, 6)).astype(np.float32)
    model.graph.node.insert(0, helper.make_node("RandomNormal", [], ["r"], shape=[1, 3, 6, 6]))
    model.graph.node.insert(1, helper.make_node("Mul", ["r", "nought"], ["q"]))
    model.graph.node.insert(2, helper.make_node("Add", ["q", "image"], ["k"]))
    model.graph.initializer.append(numpy_helper.from_array(value, "image"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nought"))
    del model.graph.input[:]
    return model


def test_a_model_without_inputs_is_proven() -> None:
    assert folded(without_inputs()).validation.fold_error is not None


def test_shapes_of_no_inputs_are_one_set_and_a_given_one_is_refused() -> None:
    assert list(inputs.trial_shapes([], {})) == [{}]
    with pytest.raises(UsageError, match="it has none"):
        list(inputs.trial_shapes([], {"x": (1,)}))


# --- operators without a definition ---------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EXPERIMENTAL))
def test_the_list_of_experimental_operators_is_the_checkers(name: str) -> None:
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 8, {"": 9}
    onnx.checker.check_node(helper.make_node(name, ["x"], ["y"]), context)
    assert is_experimental("", name)
    assert not is_experimental("ai.onnx.ml", name)


def test_an_experimental_operator_is_left_alone_and_the_rest_processed() -> None:
    model = bare("t")
    model.opset_import[0].version, model.ir_version = 9, 4
    model.graph.node.insert(0, helper.make_node("Affine", ["x"], ["t"], alpha=0.5, beta=0.1))
    assert folded(model).validation.fold_error is not None


@pytest.mark.parametrize(
    ("op", "advice"),
    [("Gelu", "it came with opset 20; export the model with that one or a later one"), ("Gelo", "a domain of its own")],
)
def test_an_unknown_operator_is_refused_with_what_to_do(op: str, advice: str) -> None:
    model = network()
    model.graph.node.append(helper.make_node(op, ["c"], ["extra"]))
    with pytest.raises(UnsupportedModelError, match="has no such operator; .*" + advice):
        onnx_clp.clean(model)


# --- weights that are inputs ----------------------------------------------------------------------------


def overridable() -> ModelProto:
    model = bare()
    del model.graph.node[1]
    model.graph.node.append(helper.make_node("Relu", ["c"], ["y"]))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [12, 3, 3, 3]))
    return model


def test_the_next_step_for_weights_that_are_inputs_is_to_freeze_them() -> None:
    config = replace(ON_CPU, validate=False, prune=True, include=("*",))
    report = onnx_clp.clean(overridable(), config).report
    wanted = "1 layer not judged, because the weights are inputs too: freeze them with --freeze-inputs"
    assert steps(report)[0].sentence == wanted
    again = onnx_clp.clean(overridable(), replace(config, freeze_inputs=True)).report
    assert again.summary.layers_judged == 1
    assert not [step for step in steps(again) if "inputs too" in step.sentence]


def test_include_is_offered_only_where_it_overrules_something() -> None:
    config = replace(ON_CPU, validate=False, prune=True)
    head = onnx_clp.clean(bare(), replace(config, exclude=("*",))).report
    assert "--include PATTERN overrules that" in steps(head)[0].sentence
    unread = bare()
    numpy_helper.to_array(unread.graph.initializer[0])
    unread.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((12, 3, 3, 3), np.nan, np.float32), "w"))
    assert Advice("see with -v why each layer cannot be judged") in steps(onnx_clp.clean(unread, config).report)


# --- the library ----------------------------------------------------------------------------------------


def test_a_model_may_be_bytes(tmp_path: Path) -> None:
    model = network()
    config = replace(ON_CPU, validate=False)
    expected = onnx_clp.clean(model, config)
    for source in (model.SerializeToString(), bytearray(model.SerializeToString())):
        result = onnx_clp.clean(source, config)
        assert result.model == expected.model
        result.save(tmp_path / "out.onnx", overwrite=True)
        assert onnx.load(tmp_path / "out.onnx") == expected.model


@pytest.mark.parametrize("source", [None, 3, onnx.GraphProto(), [b"x"]], ids=repr)
def test_anything_else_is_refused(source: object) -> None:
    with pytest.raises(UsageError, match="a model is a path, bytes or a ModelProto, not"):
        onnx_clp.clean(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["eval_data", "images", "calibrate"])
def test_a_data_file_may_be_relative_text_and_must_be_a_file(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    more = {"bound_activations": 3.0} if field == "calibrate" else {}
    for name, said in (("sub/x.npz", "sub/x.npz: does not exist"), ("sub", "sub: is not a file")):
        with pytest.raises(UsageError, match=said):
            onnx_clp.clean(network(), CleanConfig(provider="cpu", **{field: name}, **more))  # type: ignore[arg-type]


def test_relative_text_is_read_from_where_the_caller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    model = bare()
    model.graph.node[1].output[0] = "n"
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["n"], ["p"]))
    model.graph.node.append(helper.make_node("Flatten", ["p"], ["y"]))
    model.graph.output[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 12]).type.tensor_type.shape
    )
    images = np.zeros((2, 3, 6, 6), np.float32)
    labels = np.zeros(2, np.int64)
    np.savez(tmp_path / "sub" / "x.npz", x_clean=images, y_clean=labels, x_triggered=images, y_target=labels)
    report = onnx_clp.clean(model, replace(ON_CPU, eval_data="sub/x.npz")).report  # type: ignore[arg-type]
    assert report.evaluation is not None
    assert report.evaluation.data == "sub/x.npz"
