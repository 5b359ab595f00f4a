"""Where a weight may lie and of what type it may be: each is cut where it stands, or stays with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import DTypeLike, NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from onnx_clp import CleanConfig
from onnx_clp.compaction import linear
from onnx_clp.document.run import Compaction
from onnx_clp.run.pipeline import clean, run
from tests.compact_models import CHAIN, dead, filled, outputs
from tests.compact_rows import ROWS
from tests.test_compaction import compacted

CONFIG = CleanConfig(compact=True, compact_multiple=1, prune=False, validate=False)
Array = NDArray[Any]


def chain() -> ModelProto:
    return ROWS[0].model()


def section(model: ModelProto, config: CleanConfig = CONFIG) -> tuple[ModelProto, Compaction]:
    result = clean(model, config)
    assert result.report.compaction is not None
    return result.model, result.report.compaction


def same(one: ModelProto, other: ModelProto, tolerance: float = 1e-5) -> None:
    feed = {"x": np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    for before, after in zip(outputs(one, feed), outputs(other, feed), strict=True):
        np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)


def sentences(found: Compaction) -> str:
    return " / ".join(part.sentence for layer in found.layers for part in layer.kept)


def test_a_weight_that_a_caller_may_replace_stays_until_it_is_frozen() -> None:
    model = chain()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made, found = section(model)
    assert (found.removed, made) == (0, model)
    frozen, found = section(
        model, CleanConfig(compact=True, compact_multiple=1, prune=False, validate=False, freeze_inputs=True)
    )
    assert found.removed == 2
    same(chain(), frozen)


def test_before_ir_4_a_weight_is_an_input_whose_shape_must_not_change() -> None:
    model = chain()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made, found = section(model)
    assert found.removed == 0
    assert found.kept == 2
    assert "is also a graph input" in sentences(found)
    assert made == model


def test_weights_in_constant_nodes_are_cut_in_place() -> None:
    model = chain()
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    made, found = section(model)
    assert found.removed == 2
    assert len(made.graph.node) == len(nodes)
    same(model, made)


def test_weights_that_are_computed_are_stored_cut() -> None:
    model = chain()
    stored = {t.name: t for t in model.graph.initializer}
    turned = numpy_helper.from_array(numpy_helper.to_array(stored["w2"]).transpose(2, 3, 1, 0), "turned")
    stored["w2"].CopyFrom(turned)
    model.graph.node.insert(0, helper.make_node("Transpose", ["turned"], ["w2"], perm=[3, 2, 0, 1]))
    made, found = section(model)
    assert found.removed == 2
    assert "Transpose" not in [node.op_type for node in made.graph.node]
    same(model, made)


def test_a_constant_that_others_use_too_is_copied() -> None:
    model = parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]> g (float[2,3,8,8] x) => (float[2,4,6,6] y) {
        a = Conv(x, w1, b) r = Relu(a) s = Add(r, b3) t = Mul(s, b3) u = Relu(t) c = Conv<pads=[1,1,1,1]>(x, w3, b)
        d = Sigmoid(c) e = Conv<pads=[0,0,0,0]>(d, w4) f = Conv<pads=[1,1,1,1]>(u, w2) y = Add(f, e) }""")
    arrays = {"w1": CHAIN["w1"], "b": CHAIN["b1"], "b3": CHAIN["b1"].reshape(8, 1, 1), "w2": filled("w2", (4, 8, 3, 3))}
    arrays |= {"w3": filled("w3", (8, 3, 3, 3)), "w4": filled("w4", (4, 8, 3, 3))}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in arrays.items())
    made, found = section(model)
    assert [(layer.name, layer.removed) for layer in found.layers] == [("a", (2, 5))]
    shapes = {t.name: tuple(t.dims) for t in made.graph.initializer}
    assert shapes["b"] == (8,)
    assert sorted(shape for shape in shapes.values() if shape[0] == 6) == [(6,), (6, 1, 1), (6, 3, 3, 3)]
    same(model, made)


def test_a_body_of_a_function_is_compacted_within_and_its_edges_stay() -> None:
    nodes = parser.parse_graph(
        "g (float[n] x) => (float[n] y) { a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2) }"
    ).node
    constants = [helper.make_node("Constant", [], [n], value=numpy_helper.from_array(filled(n, w), n))
                 for n, w in CHAIN.items()]  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    function = helper.make_function("local", "F", ["x"], ["y"], [*constants, *nodes], opset)
    model = chain()
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="local"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    made, found = section(model)
    assert [(layer.place, layer.removed) for layer in found.layers] == [("function local::F", (2, 5))]
    same(model, made)


def retype(model: ModelProto, dtype: DTypeLike) -> dict[str, NDArray[Any]]:
    """Give a float32 model another float type, in place; its initializers by name."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.type.tensor_type.elem_type = kind
    old = {}
    for tensor in model.graph.initializer:
        old[tensor.name] = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(old[tensor.name], tensor.name))
    return old


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_float_type_is_cut_bit_by_bit(dtype: DTypeLike) -> None:
    model = chain()
    old = retype(model, dtype)
    made, found = section(model)
    assert found.removed == 2
    new = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    kept = [0, 1, 3, 4, 6, 7]
    assert new["w1"].tobytes() == old["w1"][kept].tobytes()
    assert new["b1"].tobytes() == old["b1"][kept].tobytes()
    assert new["w2"].tobytes() == old["w2"][:, kept].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("row", ["a new bias", "a bias that is there"])
def test_a_constant_goes_into_a_bias_of_the_weights_type_rounded_once(dtype: DTypeLike, row: str) -> None:
    model = next(r for r in ROWS if r.id == f"constant goes/{row}").model()
    old = retype(model, dtype)
    made, found = section(model)
    assert found.removed == 2
    (name,) = [node.input[2] for node in made.graph.node if node.output[0] == "y"]
    (bias,) = [numpy_helper.to_array(t) for t in made.graph.initializer if t.name == name]
    wide = old["w2"].astype(np.float64)
    before = old["b2"].astype(np.float64) if row == "a bias that is there" else np.zeros(4)
    assert bias.dtype == np.dtype(dtype)
    exact = (before + 0.5 * wide[:, [2, 5]].sum(axis=(1, 2, 3))).astype(dtype)
    np.testing.assert_array_max_ulp(bias.astype(np.float64), exact.astype(np.float64), 2)


def test_external_data_is_cut_and_the_input_left_alone(tmp_path: Path) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    wide = {
        "w1": dead("w1", (64, 3, 3, 3), (2, 5)),
        "b1": dead("b1", (64,), (2, 5)),
        "w2": filled("w2", (32, 64, 3, 3)),
    }
    model = replace(ROWS[0], weights=wide).model()
    whole = model.SerializeToString()
    onnx.save(model, source, save_as_external_data=True, location="in.data", size_threshold=0)
    before = (tmp_path / "in.data").read_bytes()
    report = run(source, out, CleanConfig(compact=True, compact_multiple=1, prune=False, provider="cpu"))
    assert report.compaction is not None
    assert report.compaction.removed == 2
    assert (tmp_path / "in.data").read_bytes() == before
    made = onnx.load(out)
    assert [tuple(t.dims) for t in made.graph.initializer] == [(62, 3, 3, 3), (62,), (32, 62, 3, 3)]
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert data.stat().st_size < len(before)
    same(ModelProto.FromString(whole), made, 1e-4)


def test_recorded_shapes_follow_and_what_was_not_recorded_stays_so() -> None:
    made, _ = section(chain())
    recorded = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in made.graph.value_info}
    assert recorded == {"a": [2, 6, 8, 8], "r": [2, 6, 8, 8]}
    bare = chain()
    del bare.graph.value_info[:]
    assert len(section(bare)[0].graph.value_info) == 0


def test_values_that_are_not_numbers_are_not_zero() -> None:
    model = chain()
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[2, 0, 0, 0], weight[5, 0, 0, 0] = np.nan, np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w1"))
    made, found = section(model)
    assert (found.removed, found.kept, made) == (0, 0, model)


def test_a_table_too_large_to_hold_falls_back_to_what_any_output_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(r for r in ROWS if r.id == "chain/what only a dead channel reads goes too")
    monkeypatch.setattr(linear, "_LARGEST_TABLE", 0)
    made, layers = compacted(row.model())
    assert {name: layer.removed for name, layer in layers.items()} == {"b": (2,)}
    same(row.model(), made)


def test_the_callers_model_is_never_changed() -> None:
    for row in ROWS:
        model = row.model()
        before = model.SerializeToString(deterministic=True)
        section(model)
        assert model.SerializeToString(deterministic=True) == before


def test_names_metadata_and_opset_stay() -> None:
    model = next(r for r in ROWS if r.id == "constant goes/a new bias").model()
    model.metadata_props.add(key="author", value="someone")
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    model.graph.node[0].doc_string, model.producer_name = "the first", "a test"
    made, found = section(model)
    assert found.removed == 2
    for field in ("metadata_props", "opset_import", "producer_name", "ir_version", "functions"):
        assert getattr(made, field) == getattr(model, field)
    assert made.graph.input == model.graph.input
    assert made.graph.output == model.graph.output
    assert [n.output[0] for n in made.graph.node] == [n.output[0] for n in model.graph.node]
    assert made.graph.node[0] == model.graph.node[0]


@pytest.mark.parametrize("before_4", [False, True])
def test_a_new_bias_is_stored_as_the_ir_version_has_it(before_4: bool) -> None:
    model = next(r for r in ROWS if r.id == "constant goes/a new bias").model()
    if before_4:
        constants = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
        nodes = [*constants, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(nodes)
        model.ir_version = 3
    made, found = section(model)
    assert found.removed == 2
    onnx.checker.check_model(made, full_check=True)
    assert len(made.graph.initializer) == (0 if before_4 else 4)
    same(model, made)


def test_quantisation_annotations_stay() -> None:
    model = chain()
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(0.1, np.float32), "scale"))
    annotation = model.graph.quantization_annotation.add(tensor_name="r")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    made, found = section(model)
    assert found.removed == 2
    assert list(made.graph.quantization_annotation) == [annotation]
    assert made.graph.initializer[-1].data_type == TensorProto.FLOAT
