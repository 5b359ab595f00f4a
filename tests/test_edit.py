"""Edits in place: what each does to the model, that the index stays true, and that nothing else moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import FunctionProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_clp.file.messages import freeze_inputs, replace_values
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.fresh import NameScope
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import identity
from tests.forms.build import initializer, model, overridable, rand

NEW = np.array([10, 20], np.float32)


def editing(proto: ModelProto) -> tuple[GraphEdit, GraphIndex]:
    index = ModelIndex(proto, TensorStore())
    return GraphEdit(index), index.main


def evaluated(proto: ModelProto, x: Any) -> Any:
    found: Any = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(found[0])


def node(scope: GraphIndex, output: str) -> Any:
    found = scope.producer(output)
    assert found is not None
    return found


def make(edit: GraphEdit, values: Any = NEW) -> Any:
    return lambda name: edit.store.make(name, np.asarray(values, np.float32), TensorProto.FLOAT)


def names(proto: ModelProto) -> list[str]:
    return [t.name for t in proto.graph.initializer]


def picture(index: ModelIndex) -> dict[str, Any]:
    """Everything an index says, in values that compare."""
    drawn: dict[str, Any] = {}
    for scope in index.scopes:
        defined = {*scope.producers, *scope.initializers, *scope.sparse, *scope.inputs}
        drawn[scope.place] = {
            "nodes": [identity(n) for n in scope.nodes],
            "producers": {name: identity(n) for name, n in scope.producers.items()},
            "initializers": sorted(scope.initializers),
            "constant": {name for name in defined if scope.is_constant(name)},
            "uses": {
                name: Counter((u.scope.place, identity(u.node) if u.node else "", u.slot) for u in scope.uses(name))
                for name in defined
            },
            "own": all(any(n is known for known in scope.nodes) for n in scope.producers.values()),
            "outputs": scope.outputs,
        }
    return drawn


def agrees(edit: GraphEdit) -> None:
    """The edited index says what a fresh index of the edited model says, and the model is valid."""
    assert picture(edit.index) == picture(ModelIndex(edit.index.model, edit.store))
    onnx.checker.check_model(edit.index.model)


# --- names --------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3), max_size=20))
def test_fresh_names_are_new_every_time(taken: list[str], bases: list[str]) -> None:
    scope = NameScope(taken)
    made = [scope.fresh(base) for base in bases]
    assert len({*made, *taken}) == len(made) + len(set(taken))
    assert all(name.startswith(base) for name, base in zip(made, bases, strict=True))


def test_a_free_name_is_taken_as_it_is() -> None:
    scope = NameScope({"w", "w_2"})
    assert [scope.fresh(n) for n in ("v", "w", "w", "v")] == ["v", "w_3", "w_4", "v_2"]


# --- constants ----------------------------------------------------------------------------------------


def test_a_constant_of_one_use_is_replaced_where_it_stands() -> None:
    proto = model("y = Add(x, w)", x="float[2] x", w=rand(2))()
    initializer(proto, "w").doc_string = "kept"
    edit, main = editing(proto)
    assert main.constant("w") is not None  # cached, and must not stay so
    edit.put_constant(main, node(main, "y"), 1, "base", make(edit))
    edit.finish()
    assert names(proto) == ["w"]
    assert initializer(proto, "w").doc_string == "kept"
    np.testing.assert_array_equal(main.constant("w"), NEW)
    assert edit.changed
    agrees(edit)


@pytest.mark.parametrize("shape", [(1,), (2, 1), ()])
def test_another_shape_makes_another_constant(shape: tuple[int, ...]) -> None:
    proto = model("y = Mul(x, w)", x="float[2,2] x", w=rand(2))()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "y"), 1, "w_new", make(edit, np.ones(shape)))
    edit.finish()
    assert names(proto) == ["w_new"]
    assert proto.graph.node[0].input[1] == "w_new"
    agrees(edit)


def test_a_shared_constant_is_copied() -> None:
    proto = model("a = Add(x, w) y = Mul(a, w)", x="float[2] x", w=rand(2))()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "a"), 1, "w", make(edit))
    edit.finish()
    assert names(proto) == ["w", "w_2"]
    assert [list(n.input) for n in proto.graph.node] == [["x", "w_2"], ["a", "w"]]
    np.testing.assert_array_equal(main.constant("w"), rand(2))
    np.testing.assert_array_equal(main.constant("w_2"), NEW)
    agrees(edit)


@pytest.mark.parametrize("other", ["an output", "a body"])
def test_a_constant_used_outside_the_graph_is_copied(other: str) -> None:
    proto = model("y = Add(x, w)", x="float[2] x", y="float[2] y", w=rand(2))()
    if other == "an output":
        proto.graph.output.append(helper.make_tensor_value_info("w", 1, [2]))
    else:
        body = helper.make_graph(
            [helper.make_node("Neg", ["w"], ["n"])], "b", [], [helper.make_tensor_value_info("n", 1, [2])]
        )
        go = numpy_helper.from_array(np.array(True), "go")
        proto.graph.initializer.append(go)
        proto.graph.node.append(helper.make_node("If", ["go"], ["z"], then_branch=body, else_branch=body))
        proto.graph.output.append(helper.make_tensor_value_info("z", 1, [2]))
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "y"), 1, "w_new", make(edit))
    edit.finish()
    np.testing.assert_array_equal(main.constant("w"), rand(2))
    np.testing.assert_array_equal(main.constant("w_new"), NEW)
    if other == "an output":
        agrees(edit)


def test_a_constant_node_is_replaced_in_its_attribute() -> None:
    proto = model("w = Constant<value = float[2] {1.0, 2.0}>() y = Add(x, w)", x="float[2] x")()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "y"), 1, "base", make(edit))
    edit.finish()
    assert [n.op_type for n in proto.graph.node] == ["Constant", "Add"]
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.node[0].attribute[0].t), NEW)
    agrees(edit)


def test_a_computed_constant_is_replaced_and_what_made_it_goes() -> None:
    proto = model(
        "i = Identity(w) n = Neg(i) s = Sqrt(k) y = Add(x, n) z = Add(x, s)",
        x="float[2] x",
        y="float[2] y, float[2] z",
        w=rand(2),
        k=np.abs(rand(2)),
    )()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "y"), 1, "n_new", make(edit))
    edit.finish()
    assert [n.op_type for n in proto.graph.node] == ["Sqrt", "Add", "Add"]
    assert names(proto) == ["k", "n_new"]
    agrees(edit)


def test_an_absent_input_is_filled_in() -> None:
    proto = model("y = Clip(x)", x="float[2] x")()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "y"), 2, "high", make(edit, np.float32(1)))
    edit.finish()
    assert list(proto.graph.node[0].input) == ["x", "", "high"]
    agrees(edit)


def test_before_ir_4_new_constants_are_nodes_and_inputs_stay() -> None:
    proto = model("a = Add(x, w) y = Mul(a, w)", x="float[2] x", w=rand(2), ir=3, opset=8)()
    edit, main = editing(proto)
    edit.put_constant(main, node(main, "a"), 1, "w", make(edit))
    edit.finish()
    assert [n.op_type for n in proto.graph.node] == ["Constant", "Add", "Mul"]
    assert [v.name for v in proto.graph.input] == ["x", "w"]
    edit.set_input(main, node(main, "y"), 1, proto.graph.node[0].output[0])
    edit.finish()
    assert names(proto) == ["w"]  # it is still listed as an input
    agrees(edit)


def test_a_function_gets_constant_nodes() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "d": 1]> g (float[2] x) => (float[2] y) { y = d.f(x) }
        <domain: "d", opset_import: ["": 17]> f (p) => (q)
        { c = Constant<value = float[2] {1.0, 2.0}>() a = Add(p, c) q = Mul(a, c) }"""
    )
    edit, _ = editing(proto)
    inside = edit.index.scopes[1]
    edit.put_constant(inside, node(inside, "a"), 1, "c", make(edit))
    edit.finish()
    body = proto.functions[0]
    assert isinstance(body, FunctionProto)
    assert [n.op_type for n in body.node] == ["Constant", "Constant", "Add", "Mul"]
    assert names(proto) == []
    y = evaluated(proto, np.zeros(2, np.float32))
    np.testing.assert_array_equal(y, NEW * [1, 2])
    agrees(edit)


# --- nodes --------------------------------------------------------------------------------------------

CHAIN = "a = Relu(x) b = Mul(a, w) c = Add(b, k) y = Neg(c)"


def chain() -> ModelProto:
    return model(CHAIN, x="float[2] x", w=rand(2), k=rand(2, seed=1))()


def test_bypass_gives_the_name_to_what_came_before() -> None:
    proto = chain()
    note = proto.graph.quantization_annotation.add(tensor_name="a")
    assert note.tensor_name == "a"
    after = proto.graph.node[2].SerializeToString()
    edit, main = editing(proto)
    edit.bypass(main, node(main, "b"), 0)
    edit.finish()
    assert [(n.op_type, *n.output) for n in proto.graph.node] == [("Relu", "b"), ("Add", "c"), ("Neg", "y")]
    assert proto.graph.node[1].SerializeToString() == after
    assert names(proto) == ["k"]
    assert [v.name for v in proto.graph.value_info] == ["b", "c"]
    assert not proto.graph.quantization_annotation
    agrees(edit)


def test_skip_points_the_user_at_what_came_before() -> None:
    proto = chain()
    edit, main = editing(proto)
    edit.skip(main, node(main, "b"), 0)
    edit.finish()
    assert [list(n.input) for n in proto.graph.node] == [["x"], ["a", "k"], ["c"]]
    assert [v.name for v in proto.graph.value_info] == ["a", "c"]
    agrees(edit)


def test_a_node_after_another_takes_over_its_name() -> None:
    proto = chain()
    edit, main = editing(proto)
    added = edit.add_after(main, "a", "Add", "a_bias", make(edit))
    assert main.producer("a") is added
    edit.finish()
    assert [(n.op_type, *n.input) for n in proto.graph.node[:2]] == [
        ("Relu", "x"),
        ("Add", proto.graph.node[0].output[0], "a_bias"),
    ]
    assert proto.graph.node[1].output[0] == "a"
    y = evaluated(edit.index.model, np.ones(2, np.float32))
    np.testing.assert_allclose(y, -((1 + NEW) * rand(2) + rand(2, seed=1)), rtol=1e-6)
    agrees(edit)


def test_turning_a_node_into_another_keeps_name_place_and_output() -> None:
    proto = chain()
    proto.graph.node[1].name = "scaler"
    edit, main = editing(proto)
    edit.turn_into(main, node(main, "b"), "Div", ["a", "k"])
    edit.finish()
    assert (proto.graph.node[1].name, proto.graph.node[1].op_type) == ("scaler", "Div")
    assert names(proto) == ["k"]
    agrees(edit)


def test_a_constant_others_use_is_no_orphan() -> None:
    proto = model("a = Relu(x) b = Mul(a, w) y = Add(b, w)", x="float[2] x", w=rand(2), unused=rand(3))()
    edit, main = editing(proto)
    edit.bypass(main, node(main, "b"), 0)
    edit.finish()
    assert names(proto) == ["w", "unused"]  # an unused initializer that came with the model stays
    agrees(edit)


def test_a_sparse_orphan_goes() -> None:
    proto = model("a = Relu(x) b = Mul(a, s) y = Neg(b)", x="float[2] x", s=rand(2))()
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([5], np.float32), "s")
    indices = numpy_helper.from_array(np.array([1], np.int64), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    edit, main = editing(proto)
    edit.bypass(main, node(main, "b"), 0)
    edit.finish()
    assert not proto.graph.sparse_initializer


def test_nothing_changed_is_known() -> None:
    proto = chain()
    data = proto.SerializeToString()
    edit, _ = editing(proto)
    edit.finish()
    assert not edit.changed
    assert proto.SerializeToString() == data
    agrees(edit)


def test_freezing_inputs() -> None:
    proto = model(CHAIN, overridable("w"), x="float[2] x", w=rand(2), k=rand(2))()
    assert freeze_inputs(proto.graph) == ["w"]
    assert [v.name for v in proto.graph.input] == ["x"]
    assert names(proto) == ["w", "k"]
    assert freeze_inputs(proto.graph) == []


# --- any edits in any order ---------------------------------------------------------------------------

OPS = ("Add", "Mul")
ACTIONS = ("none", "bypass", "skip", "put", "after")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 3), st.sampled_from(ACTIONS)), min_size=2, max_size=9),
    st.randoms(use_true_random=False),
)
def test_after_any_edits_the_index_is_that_of_the_model(steps: list[tuple[str, int, str]], shuffle: Any) -> None:
    """A chain of additions and products by constants of a small pool, edited in a random order, still adds up."""
    pool = {f"k{i}": rand(2, seed=i) + 2 for i in range(4)}
    body = "v0 = Relu(x) " + " ".join(f"v{i + 1} = {op}(v{i}, k{k})" for i, (op, k, _) in enumerate(steps))
    used = {name: value for name, value in pool.items() if f"{name})" in body}
    proto = model(f"{body} y = Neg(v{len(steps)})", x="float[2] x", **used)()
    edit, main = editing(proto)
    nodes = [node(main, f"v{i + 1}") for i in range(len(steps))]
    order = list(range(len(steps)))
    shuffle.shuffle(order)
    for at in order:
        action = steps[at][2]
        if action == "bypass":
            edit.bypass(main, nodes[at], 0)
        elif action == "skip":
            edit.skip(main, nodes[at], 0)
        elif action == "put":
            edit.put_constant(main, nodes[at], 1, "put", make(edit))
        elif action == "after":
            edit.add_after(main, nodes[at].output[0], "Add", "more", make(edit))
    edit.finish()
    agrees(edit)
    value = np.ones(2)
    for op, k, action in steps:
        constant = NEW if action == "put" else pool[f"k{k}"]
        if action not in ("bypass", "skip"):
            value = value + constant if op == "Add" else value * constant
        value = value + NEW if action == "after" else value
    y = evaluated(edit.index.model, np.ones(2, np.float32))
    np.testing.assert_allclose(y, -value, rtol=1e-5)


def test_new_values_leave_a_documentation_that_is_no_text() -> None:
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], raw_data=bytes(4))
    stored.MergeFromString(b"\x62\x02\xc3\x28")  # field 12, doc_string, of two bytes that are no UTF-8
    replace_values(stored, TensorProto(name="other", data_type=TensorProto.FLOAT, dims=[2], raw_data=bytes(8)))
    assert (stored.name, list(stored.dims), len(stored.raw_data)) == ("w", [2], 8)
    assert b"\x62\x02\xc3\x28" in stored.SerializeToString()
