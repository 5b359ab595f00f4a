"""The index of a model: who makes, uses and defines a value, and what is constant."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import identity
from tests.forms.build import model, overridable, rand


def indexed(proto: ModelProto) -> ModelIndex:
    return ModelIndex(proto, TensorStore())


IF = model(
    """
    s = Relu(x)
    v = If(go) <
      then_branch = t () => (float[2] th) { k = Add(s, w) th = Mul(k, k) },
      else_branch = e () => (float[2] el) { w2 = Constant<value = float[2] {1.0, 2.0}>() el = Add(s, w2) } >
    y = Add(v, s)
    """,
    x="float[2] x, bool go",
    y="float[2] y",
    w=rand(2),
)


def test_names_resolve_outwards_and_uses_inside_bodies_count() -> None:
    index = indexed(IF())
    main, then, other = index.main, *sorted(index.scopes[1:], key=lambda s: s.place, reverse=True)
    assert then.place.endswith("then_branch")
    assert then.home("s") is main
    assert then.home("k") is then
    assert main.home("k") is None
    assert then.producer("s") is None
    users = {(use.scope.place, identity(use.node) if use.node else "", use.slot) for use in main.uses("s")}
    assert users == {("", "y", 1), (then.place, "k", 0), (other.place, "el", 0)}
    assert main.only_use("s") is None
    assert [use.slot for use in then.uses("k")] == [0, 1]
    (use,) = then.uses("th")
    assert (use.node, use.slot) == (None, 0)


def test_constants_of_an_outer_scope_are_seen_inside() -> None:
    index = indexed(IF())
    then = next(s for s in index.scopes if s.place.endswith("then_branch"))
    assert then.is_constant("w")
    np.testing.assert_array_equal(then.constant("w"), rand(2))
    assert then.stored("w") == index.model.graph.initializer[0]
    other = next(s for s in index.scopes if s.place.endswith("else_branch"))
    assert other.constant("w2") is not None
    assert index.main.constant("w2") is None


def test_where_a_body_output_goes_on() -> None:
    index = indexed(IF())
    for scope in index.scopes[1:]:
        assert index.exits(scope, 0) == [(index.main, "v")]
    assert index.exits(index.main, 0) == []


def test_a_loop_gives_its_outputs_after_the_condition() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (int64 n, bool go, float[2] x) => (float[2] y) {
        y = Loop(n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool c2, float[2] v2) {
        c2 = Identity(c) v2 = Relu(v) }> }"""
    )
    index = indexed(proto)
    assert index.exits(index.scopes[1], 1) == [(index.main, "y")]
    assert index.exits(index.scopes[1], 0) == []


FUNCTION = """<ir_version: 8, opset_import: ["": 17, "d": 1]> g (float[2] x) => (float[2] y) {
  k = d.f(x) y = d.f(k) }
<domain: "d", opset_import: ["": 13]> f (p) => (q) { c = Constant<value_floats = [1.0, 2.0]>() q = Add(p, c) }"""


def test_functions_see_nothing_outside_and_have_their_own_opset() -> None:
    index = indexed(onnx.parser.parse_model(FUNCTION))
    inside = index.scopes[1]
    assert inside.is_function
    assert inside.constants_as_nodes
    assert inside.opset == 13
    assert index.main.opset == 17
    assert inside.home("x") is None
    np.testing.assert_array_equal(inside.constant("c"), [1, 2])
    assert sorted(index.exits(inside, 0), key=lambda e: e[1]) == [(index.main, "k"), (index.main, "y")]
    assert index.node_count() == 4
    assert set(index.names()) == {"x", "k", "y", "p", "c", "q"}


@pytest.mark.parametrize(("ir", "constant"), [(3, True), (4, False), (8, False)])
def test_an_initializer_that_is_an_input_is_constant_before_ir_4_only(ir: int, constant: bool) -> None:
    proto = model("y = Add(x, w)", overridable("w"), x="float[2] x", w=rand(2))()
    proto.ir_version = ir
    index = indexed(proto)
    assert index.main.is_constant("w") is constant
    assert index.main.is_overridable("w") is not constant
    assert (index.main.constant("w") is not None) is constant
    assert index.main.constants_as_nodes is (ir < 4)


def test_an_input_without_a_value_is_neither() -> None:
    index = indexed(model("y = Relu(x)", x="float[2] x")())
    assert not index.main.is_constant("x")
    assert not index.main.is_overridable("x")
    assert index.main.constant("x") is None
    assert index.main.stored("x") is None


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_initializers_are_read_in_full(linear: bool) -> None:
    proto = model("y = Add(x, s)", x="float[2,3] x", s=rand(2, 3))()
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "s")
    indices = np.array([1, 5]) if linear else np.array([[0, 1], [1, 2]])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices.astype(np.int64), "i"), [2, 3])
    proto.graph.sparse_initializer.append(sparse)
    index = indexed(proto)
    np.testing.assert_array_equal(index.main.constant("s"), [[0, 5, 0], [0, 0, 7]])
    assert index.main.stored("s") is None


def test_a_sparse_bomb_is_not_expanded() -> None:
    proto = model("y = Add(x, s)", x="float[2] x", s=rand(2))()
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([1], np.float32), "s")
    indices = numpy_helper.from_array(np.array([0], np.int64), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 30, 1 << 30]))
    assert indexed(proto).main.constant("s") is None


def test_constant_sub_graphs_are_evaluated_without_recursion() -> None:
    count = 20_000
    nodes = [helper.make_node("Identity", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    nodes.append(helper.make_node("Add", ["x", f"v{count}"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
        [numpy_helper.from_array(rand(2), "v0")],
    )
    index = indexed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    np.testing.assert_array_equal(index.main.constant(f"v{count}"), rand(2))
    assert index.main.constant("y") is None


def test_what_depends_on_data_or_on_the_caller_is_not_constant() -> None:
    proto = model(
        "a = Neg(w) b = Add(a, x) c = Shape(x) d = RandomNormalLike(w) e = CastLike(w, x) y = Add(b, e)",
        x="float[2] x",
        w=rand(2),
    )()
    main = indexed(proto).main
    assert [main.is_constant(n) for n in "abcde"] == [True, False, False, False, True]
    np.testing.assert_array_equal(main.constant("a"), -rand(2))
    np.testing.assert_array_equal(main.constant("e"), rand(2))


def test_an_attribute_from_the_call_is_not_constant() -> None:
    text = FUNCTION.replace("f (p)", "f <t> (p)").replace(
        "Constant<value_floats = [1.0, 2.0]>", "Constant<value: tensor = @t>"
    )
    index = indexed(onnx.parser.parse_model(text))
    assert not index.scopes[1].is_constant("c")


def test_element_types_follow_what_is_recorded_and_the_operators_that_keep_them() -> None:
    proto = model("a = Conv(x, w) b = Relu(a) c = Cast<to=10>(b) d = Relu(c) y = Cast<to=1>(d)", w=rand(4, 3, 1, 1))()
    del proto.graph.value_info[:]
    main = indexed(proto).main
    assert main.element_type("x") == TensorProto.FLOAT
    assert main.element_type("w") == TensorProto.FLOAT
    assert main.element_type("b") == TensorProto.FLOAT
    assert main.element_type("d") == TensorProto.FLOAT16
    assert main.element_type("nothing") is None


def test_an_element_type_is_kept_by_every_operator_that_the_table_says_keeps_it() -> None:
    body = "t, i = TopK<axis=1>(x, k) s = ScatterND(t, at, part) q, n, z = DynamicQuantizeLinear(s) y = Cast<to=1>(q)"
    given = {"k": np.array([2]), "at": np.array([[0]]), "part": rand(1, 2, 6, 6)}
    proto = model(body, **given)()
    del proto.graph.value_info[:]
    main = indexed(proto).main
    assert [main.element_type(name) for name in ("t", "s")] == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert [main.element_type(name) for name in ("i", "q", "n", "z")] == [None] * 4
