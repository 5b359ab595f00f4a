"""Cleaning up: each kind of waste goes, whatever only looks like it stays, and no output changes by a bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from onnx_clp import CleanConfig, clean
from onnx_clp.cleanup import cleaning
from onnx_clp.cli.main import main
from onnx_clp.document.changes import Cleanup
from onnx_clp.errors import ValidationFailed
from onnx_clp.file.store import TensorStore
from onnx_clp.modelfile.reader import from_proto
from onnx_clp.modelfile.reader import read as read_file
from onnx_clp.modelfile.staging import complete
from onnx_clp.run.pipeline import run
from tests import validation_models
from tests.forms.build import Oracle, bn, model, overridable, rand
from tests.forms.run import feeds, outputs
from tests.test_random_models import usable

ALL = CleanConfig(cleanup="all", prune=False, validate=False)


def cleaned(proto: ModelProto) -> tuple[ModelProto, Cleanup]:
    """The model cleaned, and what went; it must be valid, give the very same outputs and have nothing left."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    tally = cleaning.clean(copy, TensorStore())
    onnx.checker.check_model(copy, full_check=True)
    for feed in feeds(proto):
        same(outputs(copy, feed, Oracle.ORT), outputs(proto, feed, Oracle.ORT))
    after = copy.SerializeToString()
    assert not cleaning.clean(copy, TensorStore())
    assert copy.SerializeToString() == after
    assert bool(tally) == (copy != proto)
    return copy, tally


def same(one: Any, other: Any) -> None:
    values = zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else zip(one, other, strict=True)
    for a, b in values:
        first, second = np.asarray(a), np.asarray(b)
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.tobytes() == second.tobytes()


def alike(one: Any, other: Any) -> None:
    """The same but for rounding: with fewer nodes the runtime may place its buffers, and so add, otherwise."""
    values = zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else zip(one, other, strict=True)
    for a, b in values:
        first, second = np.asarray(a), np.asarray(b)
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        if first.dtype.kind == "f" and first.size:
            largest = np.abs(second.astype(np.float64)[np.isfinite(second)]).max(initial=1e-6)
            steps = 64 * float(np.finfo(first.dtype).eps)
            np.testing.assert_allclose(first, second, rtol=0, atol=steps * largest)
        else:
            assert first.tobytes() == second.tobytes()


def graph(body: str, x: str = "float[2,3] x", y: str = "", **options: Any) -> ModelProto:
    proto = model(body, x=x, y=y, **options)()
    assert isinstance(proto, ModelProto)
    return proto


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def stored(proto: ModelProto) -> list[str]:
    return [tensor.name for tensor in proto.graph.initializer]


# --- dead nodes ---------------------------------------------------------------------------------------


def test_a_chain_that_leads_nowhere_goes() -> None:
    after, tally = cleaned(graph("a = Exp(x) b = Neg(a) y = Relu(x)"))
    assert ops(after) == ["Relu"]
    assert tally == Cleanup(dead_nodes=2)


def test_a_random_node_that_leads_nowhere_goes() -> None:
    after, tally = cleaned(graph("r = RandomNormalLike(x) y = Relu(x)"))
    assert (ops(after), tally.dead_nodes) == (["Relu"], 1)


def test_a_node_with_one_output_in_use_stays_whole() -> None:
    after, tally = cleaned(graph("v, i = TopK<axis=1>(x, k) y = Relu(v)", k=np.array([2], np.int64)))
    assert ops(after) == ["TopK", "Relu"]
    assert not tally


def branches(then: str, other: str, around: str = "") -> ModelProto:
    """If on the input `c`, in a graph with `around` before it."""
    body = (
        f"{around} y = If (c) <then_branch = t () => (float[2,3] t1) {{ {then} }}, "
        f"else_branch = e () => (float[2,3] e1) {{ {other} }}>"
    )
    proto = graph(body, y="float[2,3] y")
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return proto


def test_what_only_a_nested_graph_reads_is_not_dead() -> None:
    proto = branches("t1 = Exp(n)", "e1 = Neg(x)", "n = Neg(x)")
    after, tally = cleaned(proto)
    assert ops(after) == ["Neg", "If"]
    assert not tally


def test_dead_nodes_inside_a_nested_graph_go_with_what_they_read() -> None:
    proto = branches("d = Exp(n) t1 = Relu(x)", "e1 = Neg(x)", "n = Neg(x)")
    after, tally = cleaned(proto)
    assert ops(after) == ["If"]
    assert [n.op_type for n in after.graph.node[0].attribute[0].g.node] == ["Relu"]
    assert tally == Cleanup(dead_nodes=2)


def test_a_dead_control_flow_node_goes_with_its_graphs_and_what_they_read() -> None:
    proto = branches("t1 = Exp(n)", "e1 = Neg(x)", "n = Neg(x)")
    proto.graph.node.append(helper.make_node("Relu", ["x"], ["z"]))
    proto.graph.output[0].name = "z"
    after, tally = cleaned(proto)
    assert ops(after) == ["Relu"]
    assert tally == Cleanup(dead_nodes=4)
    assert [value.name for value in after.graph.input] == ["x", "c"]


def test_an_operator_nobody_knows_stays_with_the_flow_around_it() -> None:
    proto = branches("d = com.acme.Log(x) t1 = Relu(x)", "e1 = Neg(x)")
    proto.graph.node.append(helper.make_node("Relu", ["x"], ["z"]))
    proto.graph.output[0].name = "z"
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    before = proto.SerializeToString()
    assert not cleaning.clean(proto, TensorStore())
    assert proto.SerializeToString() == before


def with_function(inside: str, domain: str = "") -> ModelProto:
    """x > Relu > y and, dead, a call of a local function that holds the operator `inside`."""
    proto = graph("d = local.F(x) y = Relu(x)", imports='"local" : 1, "com.acme" : 1')
    nodes = [helper.make_node(inside, ["p"], ["q"], domain=domain), helper.make_node("Exp", ["p"], ["unread"])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    proto.functions.append(helper.make_function("local", "F", ["p"], ["q"], nodes, imports))
    return proto


def test_the_call_of_a_function_that_only_computes_goes_and_the_function_stays() -> None:
    after, tally = cleaned(with_function("Neg"))
    assert ops(after) == ["Relu"]
    assert [[n.op_type for n in f.node] for f in after.functions] == [["Neg"]]
    assert tally.dead_nodes == 2


def test_the_call_of_a_function_that_may_do_more_stays() -> None:
    proto = with_function("Log", "com.acme")
    tally = cleaning.clean(proto, TensorStore())
    assert ops(proto) == ["F", "Relu"]
    assert [n.op_type for n in proto.functions[0].node] == ["Log"]
    assert tally.dead_nodes == 1


# --- no-ops -------------------------------------------------------------------------------------------

NO_OPS = [
    ("Identity(a)", {}),
    ("Dropout(a)", {}),
    ("Dropout(a, r)", {"r": np.float32(0.5)}),
    ("Dropout(a, r, t)", {"r": np.float32(0.5), "t": np.bool_(False)}),
    ("Cast<to = 1>(a)", {}),
    ("CastLike(a, x)", {}),
    ("Transpose<perm = [0, 1]>(a)", {}),
    ("Reshape(a, s)", {"s": np.array([2, 3], np.int64)}),
    ("Reshape(a, s)", {"s": np.array([0, -1], np.int64)}),
    ("Reshape(a, s)", {"s": np.array([-1, 3], np.int64)}),
]


@pytest.mark.parametrize(("node", "constants"), NO_OPS, ids=lambda value: str(value)[:30])
def test_a_node_that_hands_its_input_on_goes(node: str, constants: dict[str, Any]) -> None:
    after, tally = cleaned(graph(f"a = Relu(x) b = {node} y = Neg(b)", **constants))
    assert ops(after) == ["Relu", "Neg"]
    assert after.graph.node[1].input[0] == "a"
    assert stored(after) == []
    op = node.partition("<")[0].partition("(")[0]
    assert tally == Cleanup(no_ops={op: 1}, unused_initializers=len(constants))


ACTIVE = [
    ("Cast<to = 11>(a)", {}, "y = Cast<to = 1>(b)"),
    ("Transpose<perm = [1, 0]>(a)", {}, "y = Neg(b)"),
    ("Transpose(a)", {}, "y = Neg(b)"),
    ("Reshape(a, s)", {"s": np.array([3, 2], np.int64)}, "y = Neg(b)"),
    ("Reshape(a, s)", {"s": np.array([-1], np.int64)}, "y = Neg(b)"),
    ("Reshape(a, s)", {"s": np.array([1, 2, 3], np.int64)}, "y = Neg(b)"),
]


@pytest.mark.parametrize(("node", "constants", "rest"), ACTIVE, ids=lambda value: str(value)[:30])
def test_a_node_that_changes_its_input_stays(node: str, constants: dict[str, Any], rest: str) -> None:
    _, tally = cleaned(graph(f"a = Relu(x) b = {node} {rest}", **constants))
    assert not tally


def test_a_reshape_of_an_open_shape_stays_unless_it_copies_every_size() -> None:
    body = "a = Relu(x) b = Reshape(a, s) y = Neg(b)"
    for sizes, goes in (([2, 3], False), ([0, 3], True), ([-1, 3], True), ([-1, 0], True), ([0, 4], False)):
        proto = graph(body, x="float[n,3] x", s=np.array(sizes, np.int64))
        assert bool(cleaning.clean(proto, TensorStore())) == goes, sizes


@pytest.mark.parametrize(
    ("maker", "goes"),
    [
        ("a = Gelu(x)", True),
        ("a = BatchNormalization(x, p, p, p, p)", True),
        ("a = Clip(x)", True),
        ("a = Transpose(x)", False),
        ("a, i = TopK(x, k)", False),
        ("q, a, z = DynamicQuantizeLinear(x)", False),
    ],
)
def test_a_reshape_to_the_shape_that_an_operator_kept_goes(maker: str, goes: bool) -> None:
    given: dict[str, Any] = {"p": np.ones(3, np.float32), "k": np.array([3])}
    used = {name: value for name, value in given.items() if f" {name}" in maker}
    body = f"{maker} b = Reshape(a, s) y = Neg(b)"
    sizes = np.array([1] if "Dynamic" in maker else [2, 3], np.int64)
    x = "float[3,2] x" if "Transpose" in maker else "float[2,3] x"
    proto = graph(body, x=x, s=sizes, opset=20, **used)
    assert bool(cleaning.clean(proto, TensorStore())) == goes


def test_what_the_file_records_of_a_value_proves_no_reshape() -> None:
    proto = graph("a = MatMul(x, w) b = Reshape(a, s) y = Neg(b)", w=rand(3, 6), s=np.array([2, 6], np.int64))
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 6]))
    assert not cleaned(proto)[1]


def test_a_reshape_to_the_shape_of_the_reshape_before_it_goes() -> None:
    shape = np.array([3, 2], np.int64)
    after, tally = cleaned(graph("a = Reshape(x, s) r = Relu(a) b = Reshape(r, s) y = Neg(b)", s=shape))
    assert ops(after) == ["Reshape", "Relu", "Neg"]
    assert tally.no_ops == {"Reshape": 1}


@pytest.mark.parametrize("mode", [True, None])
def test_a_dropout_that_may_train_stays(mode: bool | None) -> None:
    given: dict[str, Any] = {"r": np.float32(0.5)} | ({} if mode is None else {"t": np.bool_(mode)})
    proto = graph("a = Relu(x) b = Dropout(a, r, t) y = Neg(b)", **given)
    if mode is None:
        proto.graph.input.append(helper.make_tensor_value_info("t", TensorProto.BOOL, []))
    assert not cleaning.clean(proto, TensorStore())


@pytest.mark.parametrize(("opset", "test", "goes"), [(6, 1, True), (6, 0, False), (7, None, True)])
def test_an_old_dropout_goes_where_it_is_inference(opset: int, test: int | None, goes: bool) -> None:
    attribute = "" if test is None else f"<is_test = {test}>"
    proto = graph(f"a = Relu(x) b = Dropout{attribute}(a) y = Neg(b)", opset=opset, ir=8)
    assert bool(cleaning.clean(proto, TensorStore())) == goes


def test_a_dropout_whose_mask_is_read_stays() -> None:
    proto = graph("a = Relu(x) b, m = Dropout(a) c = Cast<to = 1>(m) y = Add(b, c)")
    assert not cleaned(proto)[1]
    unread = graph("a = Relu(x) b, m = Dropout(a) d = Not(m) y = Neg(b)")
    assert ops(cleaned(unread)[0]) == ["Relu", "Neg"]


def test_a_no_op_that_makes_an_output_stays() -> None:
    for body in ("y = Identity(x)", "a = Relu(x) y = Identity(a)", "a = Relu(x) y = Dropout(a)"):
        assert not cleaned(graph(body))[1]


def test_no_ops_in_a_row_and_ahead_of_a_nested_graph_go() -> None:
    proto = branches("i = Identity(n) t1 = Exp(i)", "e1 = Identity(n)", "a = Neg(x) m = Identity(a) n = Dropout(m)")
    after, tally = cleaned(proto)
    assert ops(after) == ["Neg", "If"]
    then, other = (attribute.g for attribute in after.graph.node[1].attribute)
    assert [(n.op_type, n.input[0]) for n in then.node] == [("Exp", "a")]
    assert [(n.op_type, n.input[0]) for n in other.node] == [("Identity", "a")]
    assert tally.no_ops == {"Dropout": 1, "Identity": 2}


def test_a_no_op_stays_where_a_nested_graph_means_another_value_by_its_input() -> None:
    proto = branches("t1 = Add(n, a)", "e1 = Neg(x)", "a = Neg(x) n = Identity(a)")
    then = proto.graph.node[2].attribute[0].g
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "w"
    then.initializer.append(numpy_helper.from_array(rand(2, 3), "w"))
    then.node[0].input[1] = "w"
    before = ModelProto()
    before.CopyFrom(proto)
    assert not cleaning.clean(proto, TensorStore()).no_ops
    assert proto.graph.node == before.graph.node


def test_a_reference_to_the_calls_attribute_is_no_known_cast() -> None:
    proto = graph("d = local.F<to = 11>(x) y = Cast<to = 1>(d)", y="float[2,3] y", imports='"local" : 1')
    cast = helper.make_node("Cast", ["p"], ["c"])
    reference = cast.attribute.add(name="to", type=onnx.AttributeProto.INT)
    reference.ref_attr_name = "to"
    nodes = [cast, helper.make_node("Neg", ["c"], ["q"])]
    made = helper.make_function("local", "F", ["p"], ["q"], nodes, [helper.make_opsetid("", 17)], attributes=["to"])
    proto.functions.append(made)
    assert not cleaned(proto)[1]


# --- initializers -------------------------------------------------------------------------------------


def test_unused_initializers_go_dense_and_sparse() -> None:
    proto = graph("y = Add(x, w)", w=rand(3))
    proto.graph.initializer.append(numpy_helper.from_array(rand(4), "unused"))
    values = numpy_helper.from_array(np.array([1.0], np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([2], np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))
    after, tally = cleaned(proto)
    assert stored(after) == ["w"]
    assert len(after.graph.sparse_initializer) == 0
    assert tally == Cleanup(unused_initializers=2)


def test_an_inputs_default_an_output_and_what_training_or_a_note_names_stay() -> None:
    proto = graph("y = Add(x, w)", w=rand(3))
    for name in ("default", "answer", "step", "note"):
        proto.graph.initializer.append(numpy_helper.from_array(rand(3, seed=len(name)), name))
    proto.graph.input.append(helper.make_tensor_value_info("default", TensorProto.FLOAT, [3]))
    proto.graph.output.append(helper.make_tensor_value_info("answer", TensorProto.FLOAT, [3]))
    info = proto.training_info.add()
    info.algorithm.name = "a"
    info.algorithm.node.append(helper.make_node("Identity", ["w"], ["w next"]))
    info.update_binding.add(key="step", value="w next")
    note = proto.graph.quantization_annotation.add(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="note")
    before = proto.SerializeToString()
    assert not cleaning.clean(proto, TensorStore())
    assert proto.SerializeToString() == before


def test_initializers_of_old_files_are_inputs_and_stay() -> None:
    proto = graph("y = Add(x, w)", ir=3, opset=8, w=rand(3))
    for name in ("unused", "w2"):
        proto.graph.initializer.append(numpy_helper.from_array(rand(3), name))
    overridable("unused", "w2")(proto)
    proto.ir_version = 3
    assert not cleaning.clean(proto, TensorStore())


def test_initializers_of_the_same_bytes_become_one() -> None:
    given: dict[str, Any] = {"a": rand(3), "b": rand(3), "c": rand(3, seed=1)}
    after, tally = cleaned(graph("p = Add(x, a) q = Add(p, b) y = Add(q, c)", **given))
    assert stored(after) == ["a", "c"]
    assert [node.input[1] for node in after.graph.node] == ["a", "a", "c"]
    assert tally == Cleanup(duplicate_initializers=1)


@pytest.mark.parametrize(
    "other",
    [rand(3).reshape(1, 3), rand(3).view(np.int32), rand(3).astype(np.float64), -np.zeros(3, np.float32)],
    ids=["shape", "type of one width", "type", "sign of zero"],
)
def test_initializers_that_differ_in_anything_stay(other: Any) -> None:
    first = np.zeros(3, np.float32) if not other.any() else rand(3)
    proto = graph("p = Add(x, a) y = Neg(p)", a=first)
    proto.graph.initializer.append(numpy_helper.from_array(other, "b"))
    proto.graph.node.append(helper.make_node("Shape", ["b"], ["z"]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT64, [other.ndim]))
    assert not cleaned(proto)[1]


def test_duplicates_that_differ_late_stay() -> None:
    first, second = np.zeros((2, 3000), np.float32), np.zeros((2, 3000), np.float32)
    second[1, -1] = 1
    proto = graph("p = Add(x, a) y = Add(p, b)", x="float[2,3000] x", a=first, b=second)
    for store_lifted in (False, True):
        file = from_proto(proto, 1 << 30)
        target = file.model if store_lifted else proto
        assert not cleaning.clean(target, file.store)
    second[1, -1] = 0
    proto = graph("p = Add(x, a) y = Add(p, b)", x="float[2,3000] x", a=first, b=second)
    file = from_proto(proto, 1 << 30)
    assert cleaning.clean(file.model, file.store) == Cleanup(duplicate_initializers=1)
    assert stored(file.model) == ["a"]


def test_typed_values_and_raw_bytes_of_one_value_are_duplicates() -> None:
    proto = graph("p = Add(x, a) y = Add(p, b)", a=rand(3), b=rand(3))
    tensor = proto.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(rand(3).tolist())
    assert stored(cleaned(proto)[0]) == ["a"]


@pytest.mark.parametrize(("one", "other", "merged"), [(["a", "b"], ["a", "b"], 1), (["ab", ""], ["a", "b"], 0)])
def test_strings_are_compared_one_by_one(one: list[str], other: list[str], merged: int) -> None:
    proto = graph("y = Relu(x)")
    for name, texts in (("a", one), ("b", other)):
        proto.graph.initializer.append(
            TensorProto(name=name, data_type=TensorProto.STRING, dims=[2], string_data=[t.encode() for t in texts])
        )
        proto.graph.node.append(helper.make_node("Shape", [name], [f"shape_{name}"]))
        proto.graph.output.append(helper.make_tensor_value_info(f"shape_{name}", TensorProto.INT64, [1]))
    assert cleaned(proto)[1].duplicate_initializers == merged


def test_a_nested_duplicate_gives_way_to_the_one_around_it() -> None:
    proto = branches("t1 = Add(x, tw)", "e1 = Add(x, ew)")
    then, other = (attribute.g for attribute in proto.graph.node[0].attribute)
    then.initializer.append(numpy_helper.from_array(rand(3), "tw"))
    other.initializer.append(numpy_helper.from_array(rand(3), "ew"))
    assert not cleaned(proto)[1], "neither branch sees the other's"
    proto.graph.initializer.append(numpy_helper.from_array(rand(3), "w"))
    proto.graph.node.insert(0, helper.make_node("Add", ["x", "w"], ["z"]))
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3]))
    after, tally = cleaned(proto)
    assert tally == Cleanup(duplicate_initializers=2)
    assert [len(attribute.g.initializer) for attribute in after.graph.node[1].attribute] == [0, 0]


def test_a_duplicate_that_can_be_overridden_stays() -> None:
    proto = graph("p = Add(x, a) y = Add(p, b)", a=rand(3), b=rand(3))
    proto.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]))
    assert not cleaned(proto)[1]


def test_duplicates_in_a_data_file_become_one_and_shrink_it(tmp_path: Path) -> None:
    given: dict[str, Any] = {"a": rand(64, 64), "b": rand(64, 64), "c": rand(64, 64, seed=1)}
    proto = graph("p = MatMul(x, a) q = MatMul(p, b) y = MatMul(q, c)", x="float[2,64] x", **given)
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    copy = ModelProto()
    copy.CopyFrom(proto)
    onnx.save_model(copy, source, save_as_external_data=True, location="w.bin", size_threshold=0)
    report = run(source, out, CleanConfig(cleanup="all", prune=False, provider="cpu"))
    assert report.cleanup is not None
    assert report.cleanup.duplicate_initializers == 1
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert data.stat().st_size == 2 * 64 * 64 * 4
    for feed in feeds(proto):
        same(outputs(onnx.load(out), feed, Oracle.ORT), outputs(proto, feed, Oracle.ORT))


# --- records ------------------------------------------------------------------------------------------


def test_records_of_values_that_are_not_there_go_and_others_stay() -> None:
    proto = graph("a = Relu(x) b = Identity(a) y = Neg(b)")
    proto.graph.value_info.append(helper.make_tensor_value_info("never", TensorProto.FLOAT, [2, 3]))
    after, tally = cleaned(proto)
    assert [value.name for value in after.graph.value_info] == ["a"]
    assert tally == Cleanup(no_ops={"Identity": 1}, stale_records=1)


NORMED = "y = BatchNormalization(i, g, b, m, v)"


@pytest.mark.parametrize(
    ("node", "made"),
    [
        ("Identity(x)", True),
        ("Dropout(x)", True),
        ("Identity(x)", False),
        ("Dropout(x)", False),
        ("Cast<to=1>(x)", False),
    ],
)
def test_what_only_the_record_of_a_no_op_tells_is_not_lost(node: str, made: bool) -> None:
    """Its record goes over to the value before it, or it stays where that is an input of the model."""
    body = f"a = Nope.Odd(x) i = {node.replace('x', 'a')} {NORMED}" if made else f"i = {node} {NORMED}"
    domains = '<ir_version: 8, opset_import: ["": 17, "Nope": 1]>'
    proto = parser.parse_model(f"{domains} g (float x) => (float y) {{ {body} }}")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    stored = {"g": np.ones(4), "b": np.ones(4), "m": np.zeros(4), "v": np.ones(4)}
    proto.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), n) for n, v in stored.items())
    proto.graph.value_info.append(helper.make_tensor_value_info("i", TensorProto.FLOAT, [1, 4, 8, 8]))
    found = {}
    for level in ("none", "all"):
        result = clean(proto, CleanConfig(cleanup=level, validate=False, prune=False, bound_activations=2.0))
        assert result.report.caps is not None
        found[level] = result.report.caps.capped
    assert found == {"none": 1, "all": 1}
    assert len(result.model.graph.node) == 3
    assert [value.name for value in result.model.graph.value_info if value.name in ("a", "i")] == ["a" if made else "i"]


# --- any model ----------------------------------------------------------------------------------------


def soiled(proto: ModelProto, choose: Callable[[int], int]) -> ModelProto:
    """A model with waste of every kind put in where `choose(n)`, a number below n, says."""
    outs = {value.name for value in proto.graph.output}
    for at in reversed(range(len(proto.graph.node))):
        node = proto.graph.node[at]
        kind = choose(6)
        name = node.output[0] if len(node.output) == 1 else ""
        if kind == 0 and name and name not in outs:
            inner = f"{name} before waste {at}"
            node.output[0] = inner
            proto.graph.node.insert(at + 1, helper.make_node("Identity", [inner], [name]))
        elif kind == 1 and name:
            proto.graph.node.insert(at + 1, helper.make_node("Abs", [name], [f"waste {at}"]))
    for tensor in list(proto.graph.initializer) if proto.ir_version >= 4 else []:
        if choose(3) == 0:
            twin = proto.graph.initializer.add()
            twin.CopyFrom(tensor)
            twin.name = f"{tensor.name} twin"
            readers = [(n, s) for n in proto.graph.node for s, i in enumerate(n.input) if i == tensor.name]
            for node, slot in readers[: choose(3)]:
                node.input[slot] = twin.name
    return proto


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 5000), data=st.data())
def test_random_models_give_the_same_after_cleaning(seed: int, data: st.DataObject) -> None:
    proto = usable(seed)
    if proto is None:
        return
    dirty = soiled(proto, lambda n: data.draw(st.integers(0, n - 1)))
    copy = ModelProto()
    copy.CopyFrom(dirty)
    tally = cleaning.clean(copy, TensorStore())
    for feed in feeds(proto):
        alike(outputs(copy, feed, Oracle.ORT), outputs(dirty, feed, Oracle.ORT))
    assert [v.SerializeToString() for v in copy.graph.output] == [v.SerializeToString() for v in dirty.graph.output]
    assert [v.SerializeToString() for v in copy.graph.input] == [v.SerializeToString() for v in dirty.graph.input]
    assert not any("waste" in output for node in copy.graph.node if node.op_type == "Abs" for output in node.output)
    assert not any(name.endswith(" twin") and name[:-5] in stored(copy) for name in stored(copy))
    after = copy.SerializeToString()
    assert not cleaning.clean(copy, TensorStore())
    assert copy.SerializeToString() == after
    assert bool(tally) == (copy != dirty)


# --- in a run -----------------------------------------------------------------------------------------


def wasteful(seed: int = 0) -> ModelProto:
    """Conv > BatchNormalization with a dead reader between them, and a constant nothing reads."""
    body = "c = Conv(x, w) d = Exp(c) n = BatchNormalization(c, g, b, m, v) i = Identity(n) r = Relu(i) y = Conv(r, w2)"
    given: dict[str, Any] = {"w": rand(12, 3, 3, 3, seed=seed), "w2": rand(4, 12, 1, 1)} | bn(12)
    proto = graph(body, x="float[1,3,8,8] x", **given)
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(3.0), "unused"))
    return proto


def test_a_dead_reader_keeps_a_fold_from_happening_only_where_nothing_may_be_taken_out() -> None:
    none = clean(wasteful(), CleanConfig(prune=False, validate=False, cleanup="none"))
    assert none.report.summary.affines_folded == 0
    own = clean(wasteful(), CleanConfig(prune=False, validate=False))
    assert own.report.summary.affines_folded == 1
    whole = clean(wasteful(), ALL)
    assert whole.report.summary.affines_folded == 1
    assert ops(whole.model) == ["Conv", "Relu", "Conv"]
    assert "unused" not in stored(whole.model)
    assert whole.report.model.nodes_before == 6
    assert whole.report.model.nodes_after == 3
    found = whole.report.cleanup
    assert found is not None
    assert (found.dead_nodes, dict(found.no_ops), found.unused_initializers) == (1, {"Identity": 1}, 1)


def test_own_drops_what_the_fold_orphans_and_none_keeps_even_that() -> None:
    proto = wasteful()
    del proto.graph.node[1]
    own = clean(proto, CleanConfig(prune=False, validate=False))
    kept = clean(proto, CleanConfig(prune=False, validate=False, cleanup="none"))
    assert {"g", "b", "m", "v"} & set(stored(own.model)) == set()
    assert {"g", "b", "m", "v", "unused"} <= set(stored(kept.model))
    assert "unused" in stored(own.model)
    assert own.report.cleanup is not None
    assert own.report.cleanup.orphans == 4
    assert kept.report.cleanup is not None
    assert kept.report.cleanup.orphans == 0
    for feed in feeds(proto):
        same(outputs(own.model, feed, Oracle.ORT), outputs(kept.model, feed, Oracle.ORT))
    onnx.checker.check_model(kept.model, full_check=True)


def test_a_second_run_finds_nothing(tmp_path: Path) -> None:
    source, first, second = (tmp_path / name for name in ("in.onnx", "a.onnx", "b.onnx"))
    onnx.save(wasteful(), source)
    run(source, first, ALL)
    report = run(first, second, ALL)
    assert report.cleanup is not None
    assert report.cleanup.found == 0
    assert first.read_bytes() == second.read_bytes()


def test_a_validated_run_cleans_after_pruning_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = wasteful()
    weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights[5] *= 40
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    source, out, report = tmp_path / "in.onnx", tmp_path / "out.onnx", tmp_path / "r.json"
    onnx.save(proto, source)
    words = [str(source), str(out), "--cleanup", "all", "--provider", "cpu", "--report", str(report)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "cleaned up  1 dead node, 1 no-op (1 Identity), 1 unused initializer" in text
    document = json.loads(report.read_text())
    assert document["summary"]["channels_pruned"] == 1
    assert document["cleanup"]["level"] == "all"
    assert document["validation"]["outcome"] == "validated"
    assert document["model"]["nodes_after"] == len(onnx.load(out).graph.node) == 3


def cleaned_network(tmp_path: Path, name: str, **changes: Any) -> Path:
    return validation_models.save(validation_models.network(folded=False, **changes), tmp_path / f"{name}.onnx")


def test_a_cleaned_model_that_answers_otherwise_is_a_failure(tmp_path: Path) -> None:
    original, other = cleaned_network(tmp_path, "o"), cleaned_network(tmp_path, "c", tweak=1.01)
    with pytest.raises(
        ValidationFailed,
        match=r"o\.onnx: cleaning up changed output y: .* 0\.0001 .*; please report this, and go without",
    ):
        validation_models.run(original, cleaned=other)
    final = cleaned_network(tmp_path, "f", tweak=0.0)
    assert validation_models.run(original, None, final, cleaned=final).validation.cleanup_error == 0
    with pytest.raises(ValidationFailed, match="cleaning up changed output y"):
        validation_models.run(original, None, final, cleaned=original)
    with pytest.raises(ValidationFailed, match=r"at most 1e-09 is allowed"):
        validation_models.run(original, cleaned=cleaned_network(tmp_path, "s", tweak=1 + 1e-6), tolerance=1e-9)


def test_a_cleaned_model_is_the_same_or_within_rounding_and_the_report_says_which(tmp_path: Path) -> None:
    original = cleaned_network(tmp_path, "o")
    same = validation_models.run(original, cleaned=original).validation
    assert (same.outcome, same.cleanup_error, same.tolerance) == ("validated", 0, 1e-4)
    slightly = validation_models.run(original, cleaned=cleaned_network(tmp_path, "c", tweak=1 + 1e-6)).validation
    assert slightly.cleanup_error is not None
    assert 0 < slightly.cleanup_error < 1e-5
    assert validation_models.run(original).validation.cleanup_error is None


def test_discrete_entries_may_differ_by_a_tenth_after_cleaning(tmp_path: Path) -> None:
    body = "g (float[1,40] x) => (int32[1,40] y, float[1,40] z) {{ z = Mul(x, k) s = Add(x, c) y = Cast<to=6>(s) }}"
    written = {}
    for name, moved in (("o", 0), ("few", 3), ("many", 6)):
        model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {body.format()}')
        shift = np.where(np.arange(40) < moved, 5, 0).astype(np.float32)[None]
        arrays = {"k": np.ones(1, np.float32), "c": shift}
        model.graph.initializer.extend(numpy_helper.from_array(value, n) for n, value in arrays.items())
        written[name] = validation_models.save(model, tmp_path / f"{name}.onnx")
    few = validation_models.run(written["o"], cleaned=written["few"]).validation
    assert few.cleanup_error == pytest.approx(3 / 40)
    with pytest.raises(ValidationFailed, match=r"cleaning up changed 15\.0% of output y; please report"):
        validation_models.run(written["o"], cleaned=written["many"])


def test_a_model_of_chance_is_held_to_what_chance_leaves(tmp_path: Path) -> None:
    body = "g (float[1,40] x) => (float[1,40] y, float[1,40] z) { r = RandomNormalLike(x) y = Add(x, r) z = Relu(x) }"
    original = validation_models.text_model(body, tmp_path)
    moved = validation_models.text_model(body.replace("Relu", "Abs"), tmp_path, "c.onnx")
    findings = validation_models.run(original, cleaned=original).findings
    assert [f.kind for f in findings] == ["nondeterministic"]
    with pytest.raises(ValidationFailed, match="cleaning up changed output z"):
        validation_models.run(original, cleaned=moved)


def test_a_file_with_nothing_to_clean_keeps_its_bytes(tmp_path: Path) -> None:
    proto = graph("a = Relu(x) y = Neg(a)")
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(proto, source)
    run(source, out, ALL)
    assert out.read_bytes() == source.read_bytes()
    with read_file(source, 1 << 20) as file:
        assert complete(file, None) == proto


def test_cleaning_comes_after_channels_are_taken_out_and_is_held_to_that_model(tmp_path: Path) -> None:
    proto = wasteful()
    weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights[5] *= 40
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(proto, tmp_path / "in.onnx")
    config = CleanConfig(cleanup="all", compact=True, compact_multiple=1, provider="cpu", budget=1.0)
    report = run(tmp_path / "in.onnx", tmp_path / "out.onnx", config)
    assert report.compaction is not None
    assert report.compaction.removed == 1
    assert report.cleanup is not None
    assert report.cleanup.unused_initializers == 1
    assert report.model.nodes_after == len(onnx.load(tmp_path / "out.onnx").graph.node)
    assert report.change is not None
    assert report.change.before.macs == 12 * 36 * 27 + 4 * 36 * 12
    assert report.change.after.macs == 11 * 36 * 27 + 4 * 36 * 11
