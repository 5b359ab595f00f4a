"""Models in half precision are searched as the same ones in single precision, and capped as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp import CleanConfig, clean
from onnx_clp.cap.bound_directions import Site
from onnx_clp.config import RunLimits
from onnx_clp.inversion.precision import in_single, widen
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import read_subject
from onnx_clp.validation.provider import choose
from tests import planted
from tests.test_inversion import supplied


def halved(model: ModelProto, data_type: int = TensorProto.FLOAT16) -> ModelProto:
    """The model with every float in half precision; constants within nodes stay as they are."""
    half = ModelProto()
    half.CopyFrom(model)
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(data_type))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*half.graph.input, *half.graph.output, *half.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = data_type
    return half


@pytest.mark.parametrize("data_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_widened_a_model_is_the_one_it_was_made_from_but_for_rounding(data_type: int) -> None:
    model = planted.classifier(planted=True)
    wide = halved(model, data_type)
    widen(wide)
    for before, after in zip(model.graph.initializer, wide.graph.initializer, strict=True):
        assert (after.name, after.data_type, after.dims) == (before.name, before.data_type, before.dims)
        values, rounded = numpy_helper.to_array(before), numpy_helper.to_array(after)
        assert np.allclose(values, rounded, rtol=2**-7, atol=1e-6)
    assert [v.type for v in wide.graph.input] == [v.type for v in model.graph.input]
    assert [v.type for v in wide.graph.output] == [v.type for v in model.graph.output]


def test_casts_constants_and_branches_are_widened_and_whole_numbers_are_not() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float16[n, 2] x, bool c) => (float16[n, 2] y)
        {
            half = Constant <value = float {1.5}> ()
            whole = Constant <value = int64 {3}> ()
            single = Cast <to = 1> (x)
            back = Cast <to = 10> (single)
            many = Cast <to = 7> (x)
            y = If (c) <
                then_branch = a () => (float16[n, 2] p) { k = Cast <to = 10> (single)  p = Add (k, half) },
                else_branch = b () => (float16[n, 2] q) { q = Identity (back) }
            >
        }""")
    model.graph.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(np.array([1.5], np.float16)))
    widen(model)
    onnx.checker.check_model(model)
    types = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*types.value_info, *types.input, *types.output)}
    assert found["half"] == found["back"] == found["x"] == found["y"] == TensorProto.FLOAT
    assert found["whole"] == found["many"] == TensorProto.INT64
    assert found["c"] == TensorProto.BOOL


def test_a_model_in_single_precision_stays_as_it_is() -> None:
    model = planted.classifier(planted=True)
    before = model.SerializeToString(deterministic=True)
    widen(model)
    assert model.SerializeToString(deterministic=True) == before


def test_sites_are_those_of_the_widened_model() -> None:
    site = Site("v", 4, 4, TensorProto.FLOAT16, "layer")
    assert in_single(site) == Site("v", 4, 4, TensorProto.FLOAT, "layer")
    double = Site("v", 4, 4, TensorProto.DOUBLE, "layer")
    assert in_single(double) is double


def test_a_trigger_is_found_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    onnx.save(halved(planted.classifier(planted=True)), path)
    assert read_subject(path, {}, None).shape == (1, 8, 8)
    asked = SearchRequest(original=path, images=supplied(tmp_path), limits=RunLimits(provider="cpu"))
    assert search(asked, choose("cpu"), lambda *_: None).inversion.likely == planted.TARGET


def test_it_is_undone_in_the_file_as_it_came(tmp_path: Path) -> None:
    path, images = tmp_path / "half.onnx", supplied(tmp_path)
    onnx.save(halved(planted.classifier(planted=True)), path)
    with clean(path, CleanConfig(rule="inverted", provider="cpu", images=images)) as result:
        assert result.report.validation.outcome == "validated"
        assert result.report.inversion is not None
        assert result.report.inversion.likely == planted.TARGET
        assert result.report.inversion.repair is not None
        types = {tensor.data_type for tensor in result.model.graph.initializer}
    assert TensorProto.FLOAT16 in types
    assert TensorProto.FLOAT not in types
