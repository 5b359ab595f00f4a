"""Transposes: those that others undo go, whatever stands between; the others stay, and every output is the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp import CleanConfig, clean
from onnx_clp.cleanup import cleaning, permutable, transposes
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from tests.forms.build import Oracle, model
from tests.forms.run import feeds, outputs
from tests.test_cleanup import alike, ops

TO, BACK = "Transpose<perm=[0,2,3,1]>", "Transpose<perm=[0,3,1,2]>"
X = "float[2,3,4,5] x"


def graph(body: str, x: str = X, **options: Any) -> ModelProto:
    proto = model(body, x=x, **options)()
    assert isinstance(proto, ModelProto)
    return proto


def count(proto: ModelProto) -> int:
    return transposes.count(ModelIndex(proto, TensorStore()))


def joined(proto: ModelProto) -> ModelProto:
    """The model cleaned: valid, with the outputs it had, the same under their names, and nothing left to do."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    tally = cleaning.clean(copy, TensorStore())
    onnx.checker.check_model(copy, full_check=True)
    for feed in feeds(proto):
        alike(outputs(copy, feed, Oracle.ORT), outputs(proto, feed, Oracle.ORT))
    assert [v.SerializeToString() for v in copy.graph.output] == [v.SerializeToString() for v in proto.graph.output]
    assert [v.SerializeToString() for v in copy.graph.input] == [v.SerializeToString() for v in proto.graph.input]
    after = copy.SerializeToString()
    assert not cleaning.clean(copy, TensorStore())
    assert copy.SerializeToString() == after
    assert tally.transposes + tally.no_ops.get("Transpose", 0) + tally.dead_nodes >= count(proto) - count(copy)
    return copy


BIAS: dict[str, Any] = {"b": np.array([1, -2, 3], np.float32)}
WHOLE: dict[str, Any] = {"b": np.arange(60, dtype=np.float32).reshape(4, 5, 3)}
AXES: dict[str, Any] = {"axes": np.array([1, 2], np.int64)}

GOES = {
    "nothing": f"h = Relu(x) a = {TO}(h) y = {BACK}(a)",
    "one element at a time": f"a = {TO}(x) b = Sigmoid(a) c = LeakyRelu<alpha=0.3>(b) y = {BACK}(c)",
    "limits": f"a = {TO}(x) b = Clip(a, zero, six) y = {BACK}(b)",
    "two that come the same way": f"a = {TO}(x) c = Neg(x) d = {TO}(c) e = Mul(a, d) y = {BACK}(e)",
    "a value used twice": f"a = {TO}(x) b = Sigmoid(a) c = Mul(a, b) y = {BACK}(c)",
    "a choice": f"a = {TO}(x) b = Greater(a, zero) c = Where(b, a, zero) y = {BACK}(c)",
    "joined": f"a = {TO}(x) b = Neg(a) c = Concat<axis=3>(a, b) y = {BACK}(c)",
    "joined, counted from the end": f"a = {TO}(x) b = Neg(a) c = Concat<axis=-1>(a, b) y = {BACK}(c)",
    "split": f"a = {TO}(x) b, c = Split<axis=1, num_outputs=2>(a) d = Concat<axis=2>(b, c) y = {BACK}(d)",
    "softmax": f"a = {TO}(x) b = Softmax(a) y = {BACK}(b)",
    "a mean": f"a = {TO}(x) b = ReduceMean(a, axes) c = Mul(a, b) y = {BACK}(c)",
    "a mean that keeps nothing": f"a = {TO}(x) y = ReduceMean<keepdims=0>(a, axes)",
    "a sum of all": f"a = {TO}(x) y = ReduceSum<keepdims=0>(a)",
    "the largest": f"a = {TO}(x) b = ArgMax<axis=3>(a) c = {BACK}(b) y = Cast<to=1>(c)",
    "axes taken out": f"a = {TO}(x) b = ReduceMean(a, axes) y = Squeeze(b, axes)",
    "padding": f"a = {TO}(x) b = Pad(a, pads) y = {BACK}(b)",
    "a piece": f"a = {TO}(x) b = Slice(a, one, three, two) y = {BACK}(b)",
    "a piece from the start": f"a = {TO}(x) b = Slice(a, starts, ends) y = {BACK}(b)",
    "integers": f"a = {TO}(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = {BACK}(d)",
    "integers by channel": f"a = {TO}(x) q = QuantizeLinear<axis=3>(a, ss, zz) "
    f"d = DequantizeLinear<axis=-1>(q, ss, zz) y = {BACK}(d)",
    "in a row": "h = Relu(x) a = Transpose<perm=[1,0,2,3]>(h) b = Transpose<perm=[2,0,1,3]>(a) "
    "y = Transpose<perm=[2,1,0,3]>(b)",
    "its own inverse": "a = Transpose<perm=[0,1,3,2]>(x) b = Exp(a) y = Transpose<perm=[0,1,3,2]>(b)",
    "without an order": "a = Transpose(x) b = Exp(a) y = Transpose(b)",
}
CONSTANTS: dict[str, Any] = {
    "zero": np.float32(0),
    "six": np.float32(0.5),
    "pads": np.array([0, 1, 2, 0, 0, 3, 0, 1], np.int64),
    "one": np.array([1], np.int64),
    "three": np.array([3], np.int64),
    "two": np.array([2], np.int64),
    "starts": np.array([0, 1], np.int64),
    "ends": np.array([2, 3], np.int64),
    "s": np.float32(0.1),
    "z": np.int8(3),
    "ss": np.array([0.1, 0.2, 0.3], np.float32),
    "zz": np.array([1, 2, 3], np.int8),
    **AXES,
}


def used(body: str) -> dict[str, Any]:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in CONSTANTS.items() if name in words}


@pytest.mark.parametrize("what", GOES)
def test_what_others_undo_goes(what: str) -> None:
    after = joined(graph(GOES[what], opset=18, **used(GOES[what])))
    assert count(after) == 0


@pytest.mark.parametrize("constant", [BIAS, WHOLE, {"b": np.ones((1, 1, 5, 1), np.float32) * 2}])
@pytest.mark.parametrize("body", ["Add(a, b)", "Sub(b, a)"])
def test_constants_are_turned_with_the_data(constant: dict[str, Any], body: str) -> None:
    after = joined(graph(f"a = {TO}(x) c = {body} y = {BACK}(c)", **constant))
    assert [count(after), len(after.graph.node)] == [0, 1]


def test_a_constant_that_others_read_stays_as_it_is() -> None:
    after = joined(
        graph(
            f"a = {TO}(x) c = Add(a, b) d = {BACK}(c) e = Mul(x, b2) y = Sub(d, e) z = Exp(b)", **BIAS, b2=np.float32(2)
        )
    )
    assert count(after) == 0


STAYS = {
    "one alone": f"y = {TO}(x)",
    "before a change of shape": f"a = {TO}(x) b = Reshape(a, shape) y = Transpose<perm=[1,0]>(b)",
    "a mean whose axes change places": "a = Transpose<perm=[3,2,1,0]>(x) y = ReduceMean<keepdims=0>(a, last)",
    "one in, none out": f"a = {TO}(x) y = Sigmoid(a)",
    "two ways": f"a = {TO}(x) b = Transpose<perm=[0,3,2,1]>(w) y = Add(a, b)",
}


@pytest.mark.parametrize("what", STAYS)
def test_what_is_needed_stays(what: str) -> None:
    x = "float[2,3,4,5] x, float[2,3,5,4] w" if " w" in STAYS[what] or "(w)" in STAYS[what] else X
    more = {"shape": np.array([2, 60], np.int64), "last": np.array([3], np.int64)}
    words = STAYS[what]
    proto = graph(words, x=x, opset=18, **{name: value for name, value in more.items() if name in words})
    assert count(joined(proto)) == count(proto)


def test_softmax_before_opset_13_flattens_and_stays() -> None:
    proto = graph(f"a = {TO}(x) b = Softmax<axis=3>(a) y = {BACK}(b)", opset=11, ir=6)
    assert count(joined(proto)) == 2


def test_a_rank_that_only_a_record_tells_is_not_believed() -> None:
    body = f"a = {TO}(x) o = Nope.Odd(x) b = Add(a, o) y = {BACK}(b)"
    proto = graph("a = Relu(x) y = Relu(a)")
    replaced = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17, "Nope": 1]> g (float[2,3,4,5] x) => (float[2,3,4,5] y) {{ {body} }}'
    )
    proto.CopyFrom(replaced)
    proto.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, [2, 4, 5, 3]))
    copy = ModelProto()
    copy.CopyFrom(proto)
    assert not cleaning.clean(copy, TensorStore()).transposes


def test_an_output_between_keeps_its_transpose_and_its_name() -> None:
    proto = graph(f"a = {TO}(x) h = Relu(a) c = Exp(h) y = {BACK}(c)")
    proto.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 4, 5, 3]))
    after = joined(proto)
    assert count(after) == 1
    assert [node.output[0] for node in after.graph.node if node.op_type == "Transpose"] == ["h"]


def test_an_output_of_what_was_pushed_through_keeps_its_name() -> None:
    after = joined(graph(f"a = {TO}(x) b = Relu(a) y = {BACK}(b)"))
    assert [(node.op_type, list(node.output)) for node in after.graph.node] == [("Relu", ["y"])]


def test_a_value_that_a_nested_graph_reads_is_there_for_it() -> None:
    body = (
        f"a = {TO}(x) b = Relu(a) c = {BACK}(b) i = If (flag) <then_branch = t () => (float[2,4,5,3] t1) "
        f"{{ t1 = Exp(b) }}, else_branch = e () => (float[2,4,5,3] e1) {{ e1 = Neg(b) }}> d = {BACK}(i) y = Add(c, d)"
    )
    proto = graph(body)
    proto.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    assert count(joined(proto)) <= count(proto) - 1


def test_inside_a_nested_graph_they_go_too() -> None:
    inner = f"t0 = {TO}(x) t2 = Exp(t0) t1 = {BACK}(t2)"
    body = (
        f"y = If (flag) <then_branch = t () => (float[2,3,4,5] t1) {{ {inner} }}, "
        "else_branch = e () => (float[2,3,4,5] e1) { e1 = Neg(x) }>"
    )
    proto = graph(body)
    proto.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    assert count(joined(proto)) == 0


def test_a_constant_is_stored_as_it_is_read() -> None:
    given = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    after = joined(graph("t = Transpose<perm=[1,0]>(w) y = MatMul(t, x)", x="float[3,2] x", **given))
    assert ops(after) == ["MatMul"]
    (held,) = after.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(held), given["w"].T)


def test_of_two_alike_one_is_left() -> None:
    after = joined(
        graph(
            f"a = {TO}(x) b = {TO}(x) r = Reshape(a, s) q = Reshape(b, s) y = Add(r, q)", s=np.array([2, 60], np.int64)
        )
    )
    assert count(after) == 1


def test_a_residual_network_of_tensorflow_keeps_the_first_alone() -> None:
    block = "".join(
        f"i{n} = {BACK}(r{n}) c{n} = Conv<pads=[1,1,1,1]>(i{n}, w{n}) o{n} = {TO}(c{n}) "
        f"s{n} = Add(o{n}, r{n}) r{n + 1} = Relu(s{n}) "
        for n in range(4)
    )
    body = f"{block} y = ReduceMean<keepdims=0>(r4, axes)"
    weights = {f"w{n}": (3, 3, 3, 3) for n in range(4)}
    proto = graph(
        body.replace("(r0)", "(x)").replace(", r0)", ", x)"), x="float[1,8,8,3] x", opset=18, **AXES, **weights
    )
    assert (count(proto), count(joined(proto))) == (8, 1)


def test_regions_of_several_orders_are_done_together() -> None:
    body, held = "", "x"
    for number, order in enumerate(permutations(range(4))):
        there, back = ([*order], [*permutable.inverse(order)])
        body += f"a{number} = Transpose<perm={there}>({held}) b{number} = Relu(a{number}) "
        body += f"c{number} = Transpose<perm={back}>(b{number}) r{number} = Reshape(c{number}, s) "
        held = f"r{number}"
    proto = graph(f"{body.replace(' ', '  ')} y = Relu({held})", s=np.array([2, 3, 4, 5], np.int64))
    assert (count(proto), count(joined(proto))) == (48, 0)


def test_a_run_proves_it_and_says_so() -> None:
    body = f"c = Conv(x, w) a = {TO}(c) b = Relu(a) d = {BACK}(b) y = Conv(d, w2)"
    proto = graph(body, x="float[1,3,8,8] x", w=(4, 3, 3, 3), w2=(2, 4, 1, 1))
    result = clean(proto, CleanConfig(cleanup="all", prune=False, provider="cpu"))
    assert ops(result.model) == ["Conv", "Relu", "Conv"]
    found = result.report.cleanup
    assert found is not None
    assert (found.transposes, found.found) == (2, 2)
    assert result.report.validation.cleanup_error is not None
    kept = clean(proto, CleanConfig(prune=False, validate=False))
    assert count(kept.model) == 2


# --- any graph ----------------------------------------------------------------------------------------


class Drawn:
    """A graph of operators that can run either way, drawn node by node; all values have one rank."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], shape: tuple[int, ...]) -> None:
        self.draw, self.shape = draw, shape
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[TensorProto] = []
        self.values: list[tuple[str, tuple[int, ...]]] = [("x", shape)]

    def name(self) -> str:
        return f"v{len(self.nodes)}"

    def constant(self, values: Any) -> str:
        name = f"k{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def put(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        out = self.name()
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        self.values.append((out, shape))

    def pick(self) -> tuple[str, tuple[int, ...]]:
        name, shape = self.draw(st.sampled_from(self.values[-4:]))
        return name, shape

    def turned(self, name: str, shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        self.put("Transpose", [name], tuple(shape[a] for a in order), perm=order)
        return self.values[-1]

    def transpose(self) -> None:
        orders = list(permutations(range(len(self.shape))))[:6]
        name, shape = self.pick()
        self.turned(name, shape, self.draw(st.sampled_from(orders)))

    def step(self, name: str, shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> None:
        """One operator; its axes are those of a value that stands in that order, if one is given."""
        rank = len(shape)
        axis = self.draw(st.integers(0, rank - 1))
        at = axis if order is None else order.index(axis)
        kind = self.draw(st.sampled_from(["Relu", "Exp", "bias", "self", "Concat", "mean", "Softmax", "Pad", "Slice"]))
        if kind in ("Relu", "Exp"):
            self.put("Tanh" if kind == "Exp" else kind, [name], shape)
        elif kind == "bias":
            sizes = [1] * rank
            sizes[at] = shape[at]
            first = 0 if self.draw(st.booleans()) else at
            self.put(
                "Add",
                [name, self.constant(np.linspace(-1, 1, shape[at], dtype=np.float32).reshape(sizes[first:]))],
                shape,
            )
        elif kind == "self":
            self.put("Mul", [name, name], shape)
        elif kind == "Concat":
            grown = tuple(2 * n if a == at else n for a, n in enumerate(shape))
            if np.prod(grown) < 2000:
                self.put("Concat", [name, name], grown, axis=at)
        elif kind == "mean":
            self.put("ReduceMean", [name], tuple(1 if a == at else n for a, n in enumerate(shape)), axes=[at])
        elif kind == "Softmax":
            self.put("Softmax", [name], shape, axis=at - rank)
        elif kind == "Pad":
            pads = [0] * (2 * rank)
            pads[at] = 1
            grown = tuple(n + (a == at) for a, n in enumerate(shape))
            self.put("Pad", [name, self.constant(np.array(pads))], grown)
        elif shape[at] > 1:
            given = [self.constant(np.array([n])) for n in (0, shape[at] - 1, at)]
            cut = tuple(n - (a == at) for a, n in enumerate(shape))
            self.put("Slice", [name, *given], cut)

    def model(self) -> ModelProto:
        name, shape = self.values[-1]
        y = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        return helper.make_model(
            helper.make_graph(self.nodes, "g", [x], [y], self.stored),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )


SHAPES = st.sampled_from([(2, 3, 4), (1, 2, 3, 4), (2, 1, 3, 2), (3, 2)])
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(shape=SHAPES, data=st.data())
def test_random_graphs_give_the_same_and_never_more(shape: tuple[int, ...], data: st.DataObject) -> None:
    drawn = Drawn(data.draw, shape)
    for _ in range(data.draw(st.integers(1, 10))):
        if data.draw(st.booleans()):
            drawn.transpose()
        else:
            drawn.step(*drawn.pick())
        if data.draw(st.integers(0, 4)) == 0:
            one, other = drawn.pick(), drawn.pick()
            if one[1] == other[1]:
                drawn.put("Add", [one[0], other[0]], one[1])
    if not drawn.nodes:
        return
    proto = drawn.model()
    assert count(joined(proto)) <= count(proto)


@QUICK
@given(shape=SHAPES, data=st.data())
def test_whatever_was_wrapped_in_transposes_is_unwrapped(shape: tuple[int, ...], data: st.DataObject) -> None:
    drawn = Drawn(data.draw, shape)
    orders = list(permutations(range(len(shape))))
    order = data.draw(st.sampled_from(orders))
    for _ in range(data.draw(st.integers(1, 6))):
        name, held = drawn.turned(*drawn.values[-1], order)
        before = len(drawn.values)
        drawn.step(name, held, order)
        if len(drawn.values) > before:
            name, held = drawn.values[-1]
        drawn.turned(name, held, permutable.inverse(order))
    after = joined(drawn.model())
    assert count(after) == 0 or ops(after) == ["Transpose"]
