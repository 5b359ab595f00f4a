"""What a run does not touch stays: the bytes of a file with nothing to do, every field but those of one fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

import onnx_clp
from onnx_clp import CleanConfig
from onnx_clp.run.pipeline import run
from tests.forms.build import bn, model, rand
from tests.judging import cleaned, network

QUIET = CleanConfig(validate=False)
BODY = (
    "c = Conv(x, w, b) n = BatchNormalization(c, g, b1, m, v) r = Relu(n) d = Conv(r, w2) "
    "h = MaxPool<kernel_shape=[2,2]>(d) y = Conv(h, w3)"
)


def rich(*, norm: bool = True) -> ModelProto:
    """A model that uses every corner of ONNX that a rewrite could lose."""
    given = bn(12)
    given["b1"] = given.pop("b")
    body = BODY if norm else BODY.replace("BatchNormalization(c, g, b1, m, v)", "Relu(c)")
    weights: dict[str, Any] = {
        "w": rand(12, 3, 3, 3),
        "b": rand(12, seed=5),
        "w2": rand(14, 12, 1, 1),
        "w3": rand(13, 14, 3, 3, seed=2),
    } | (given if norm else {})
    proto = network(body, **weights)
    proto.producer_name, proto.producer_version = "an exporter", "1.2 βeta"
    proto.domain, proto.model_version, proto.doc_string = "org.example", 7, "a model\nof ours ✓"
    helper.set_model_props(proto, {"author": "nobody", "": "empty key", "ключ": "значение"})
    proto.opset_import.append(helper.make_opsetid("com.acme", 3))
    graph = proto.graph
    graph.name, graph.doc_string = "грaph 图", "graph doc"
    graph.metadata_props.add(key="k", value="v")
    for at, node in enumerate(graph.node):
        node.name = ["same", "same", "", "дуб/5", "same", ""][at]
        node.doc_string = f"node {at}"
        node.metadata_props.add(key="at", value=str(at))
    for tensor in graph.initializer:
        tensor.doc_string = f"doc of {tensor.name}"
    graph.initializer.append(numpy_helper.from_array(np.arange(3.0), "used by nothing"))
    graph.input[0].doc_string = "the input"
    graph.input[0].type.denotation = "IMAGE"
    graph.value_info.add(name="h").type.tensor_type.elem_type = TensorProto.FLOAT
    for name in ("d", "h"):
        note = graph.quantization_annotation.add(tensor_name=name)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    info = proto.training_info.add()
    info.algorithm.name = "step"
    info.algorithm.node.append(helper.make_node("Identity", ["w2"], ["w2 next"]))
    info.update_binding.add(key="w2", value="w2 next")
    body_node = helper.make_node("Relu", ["p"], ["q"], name="inner")
    function = helper.make_function("com.acme", "Unused", ["p"], ["q"], [body_node], [helper.make_opsetid("", 20)])
    function.doc_string = "a function"
    function.value_info.add(name="q")
    proto.functions.append(function)
    return proto


def without(proto: ModelProto, *fields: str) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(proto)
    for field in fields:
        copy.graph.ClearField(field)
    return copy


def save(proto: ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


# --- nothing to do ------------------------------------------------------------------------------------


def odd_encoding(proto: ModelProto) -> bytes:
    """The same model as no serialiser writes it: fields out of order, a long varint, an unknown field."""
    rest = ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("ir_version")
    return rest.SerializeToString() + b"\x08\x8a\x80\x00" + b"\xfa\x7f\x03xyz"


def test_a_model_with_nothing_to_do_keeps_its_bytes(tmp_path: Path) -> None:
    proto = rich(norm=False)
    for data in (proto.SerializeToString(), odd_encoding(proto)):
        source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
        source.write_bytes(data)
        report = run(source, out, QUIET, overwrite=True)
        assert report.summary.affines_folded == 0
        assert report.summary.channels_pruned == 0
        assert out.read_bytes() == data
        assert source.read_bytes() == data
    assert odd_encoding(proto) != proto.SerializeToString()


def test_a_proto_with_nothing_to_do_comes_back_equal() -> None:
    proto = rich(norm=False)
    assert cleaned(proto).model == proto


# --- one fold -----------------------------------------------------------------------------------------


def test_one_fold_changes_that_batch_norm_and_that_convolution_alone(tmp_path: Path) -> None:
    proto = rich()
    out = tmp_path / "out.onnx"
    report = run(save(proto, tmp_path / "in.onnx"), out, QUIET)
    assert report.summary.affines_folded == 1
    assert report.summary.channels_pruned == 0
    result = onnx.load(out)
    assert without(result, "node", "initializer", "value_info") == without(proto, "node", "initializer", "value_info")
    expected = [n for n in proto.graph.node if n.op_type != "BatchNormalization"]
    expected[0].output[0] = "n"
    assert list(result.graph.node) == expected
    before = {t.name: t for t in rich().graph.initializer}
    after = {t.name: t for t in result.graph.initializer}
    assert list(after) == [name for name in before if name not in ("g", "b1", "m", "v")]
    for name, tensor in after.items():
        same = TensorProto()
        same.CopyFrom(tensor)
        if name in ("w", "b"):
            assert tensor.raw_data != before[name].raw_data
            same.raw_data = before[name].raw_data
        assert same == before[name]
    assert [v for v in proto.graph.value_info if v.name != "c"] == list(result.graph.value_info)


def test_the_callers_model_is_not_touched() -> None:
    proto = rich()
    copy = ModelProto()
    copy.CopyFrom(proto)
    data = proto.SerializeToString(deterministic=True)
    result = cleaned(proto, u=0.5)
    assert result.report.summary.channels_pruned > 0
    assert result.model != proto
    assert proto == copy
    assert proto.SerializeToString(deterministic=True) == data


def test_unknown_fields_survive_a_fold() -> None:
    """A newer ONNX may add fields: protobuf keeps them, and so must lifting, editing and writing."""
    data = rich().SerializeToString() + b"\xfa\x7f\x03xyz"
    result = cleaned(ModelProto.FromString(data))
    assert result.report.summary.affines_folded == 1
    assert b"\xfa\x7f\x03xyz" in result.model.SerializeToString()


def test_a_pruned_layer_changes_its_weight_and_bias_alone() -> None:
    proto = rich(norm=False)
    weight = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "w")).copy()
    weight[3] *= 40
    next(t for t in proto.graph.initializer if t.name == "w").raw_data = weight.tobytes()
    result = cleaned(proto)
    assert result.report.summary.channels_pruned == 1
    assert without(result.model, "initializer") == without(proto, "initializer")
    changed = {a.name for a, b in zip(proto.graph.initializer, result.model.graph.initializer, strict=True) if a != b}
    assert changed == {"w", "b"}


def test_a_second_run_finds_nothing_to_fold(tmp_path: Path) -> None:
    source = save(rich(), tmp_path / "a.onnx")
    first, second = tmp_path / "b.onnx", tmp_path / "c.onnx"
    run(source, first, QUIET)
    report = run(first, second, QUIET)
    assert report.summary.affines_folded == 0
    assert second.read_bytes() == first.read_bytes()


# --- names --------------------------------------------------------------------------------------------


def test_names_we_would_make_are_taken_already() -> None:
    """A bias has to be added; every name it could get exists in some scope."""
    given = bn(12)
    proto = model(
        "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) w_bias = Identity(other) z = Relu(w_bias)",
        x="float[2,3,6,6] x, float[2] other, float[1] w_bias_2",
        y="float[2,12,4,4] y, float[2] z",
        w=rand(12, 3, 3, 3),
        **given,
    )()
    result = cleaned(proto)
    onnx.checker.check_model(result.model, full_check=True)
    conv = result.model.graph.node[0]
    assert conv.input[2] not in {"", "w_bias", "w_bias_2"}
    names = [t.name for t in result.model.graph.initializer]
    assert len(set(names)) == len(names)
    assert "w_bias" in result.model.graph.node[1].output


@pytest.mark.parametrize("attribute", ["", "vendor"])
def test_attributes_of_the_folded_convolution_stay(attribute: str) -> None:
    proto = rich()
    if attribute:
        proto.graph.node[3].domain = "com.acme"
        proto.graph.node[3].op_type = "Fancy"
        proto.graph.node[3].attribute.append(AttributeProto(name=attribute, type=AttributeProto.INT, i=3))
    kept = [list(n.attribute) for n in proto.graph.node if n.op_type != "BatchNormalization"]
    result = onnx_clp.clean(proto, QUIET)
    assert [list(n.attribute) for n in result.model.graph.node] == kept
