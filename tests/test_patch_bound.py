"""Bounds on patches: no patch goes beyond one, caps lower it, and what has no rule has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnx_clp
from onnx_clp.audit.bound import field, walk
from onnx_clp.audit.bound.field import Field, NoBoundError, Track
from onnx_clp.document.gauge import Ordinary
from onnx_clp.document.patches import PatchBound, PatchReach
from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.numerics import intervals
from onnx_clp.report import patching
from onnx_clp.validation import macs
from tests.reports import report

Array = NDArray[Any]
SIDE, CLASSES = 9, 4


class Builder:
    """A random network of float64, node by node."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.held: list[TensorProto] = []

    def constant(self, values: Array) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def model(self, scores: str, channels: int = 2) -> ModelProto:
        self.nodes[-1].output[0] = "y" if self.nodes[-1].output[0] == scores else scores
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, channels, SIDE, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
            self.held,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def body(one: Builder, value: str, channels: int, kind: str) -> tuple[str, int]:
    """One stage of a network, and how many channels it gives."""
    if kind == "conv":
        wide = one.op("Conv", value, one.normal(3, channels, 3, 3), one.normal(3), pads=[1, 1, 1, 1], strides=[2, 2])
        return one.op("Relu", wide), 3
    if kind == "valid":
        return one.op("Tanh", one.op("Conv", value, one.normal(2, channels, 2, 2), dilations=[1, 1])), 2
    if kind == "depthwise":
        return one.op("Conv", value, one.normal(channels, 1, 3, 3), group=channels, auto_pad="SAME_UPPER"), channels
    if kind == "residual":
        branch = one.op("Conv", value, one.normal(channels, channels, 3, 3), pads=[1, 1, 1, 1])
        return one.op("LeakyRelu", one.op("Add", value, branch), alpha=-0.3), channels
    if kind == "gate":
        mean = one.op("GlobalAveragePool", value)
        gate = one.op("Sigmoid", one.op("Conv", mean, one.normal(channels, channels, 1, 1)))
        return one.op("Mul", value, gate), channels
    return other_body(one, value, channels, kind)


def other_body(one: Builder, value: str, channels: int, kind: str) -> tuple[str, int]:
    """A stage of the other kinds."""
    if kind == "swish":
        return one.op("HardSwish", one.op("Mul", value, one.normal(channels, 1, 1))), channels
    if kind == "pool":
        return one.op("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), channels
    if kind == "mean":
        return one.op("AveragePool", value, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]), channels
    if kind == "concat":
        other = one.op("Elu", one.op("Conv", value, one.normal(2, channels, 1, 1)))
        return one.op("Concat", value, other, axis=1), channels + 2
    if kind == "normal":
        parts = (one.normal(channels), one.normal(channels), one.normal(channels))
        return one.op("BatchNormalization", value, *parts, one.constant(one.random.random(channels) + 0.1)), channels
    return one.op("Min", value, one.constant(one.random.random((channels, 1, 1)))), channels


KINDS = ("conv", "valid", "depthwise", "residual", "gate", "swish", "pool", "mean", "concat", "normal", "cap")
HEADS = ("flat", "global", "mean")


def network(seed: int, kinds: Sequence[str], head: str) -> ModelProto:
    """A classifier of random weights."""
    one, value, channels = Builder(seed), "x", 2
    sizes = SIDE
    for kind in kinds:
        value, channels = body(one, value, channels, kind)
        sizes = (sizes + 1) // 2 if kind == "conv" else sizes - 1 if kind == "valid" else sizes
    if head == "flat":
        flat = one.op("Flatten", value)
        return one.model(one.op("Gemm", flat, one.normal(CLASSES, channels * sizes**2), one.normal(CLASSES), transB=1))
    if head == "global":
        mean = one.op("Flatten", one.op("GlobalAveragePool", value))
    else:
        mean = one.op("ReduceMean", value, axes=[2, 3], keepdims=0)
    product = one.op("MatMul", mean, one.normal(channels, CLASSES))
    return one.model(one.op("Add", product, one.normal(CLASSES)))


def bounds(model: ModelProto, patch: int, low: float = 0.0, high: float = 1.0) -> Field:
    """The bounds of the output."""
    index = ModelIndex(model, TensorStore())
    shapes = macs.known_shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    entry = field.image(("N", "C", "H", "W"), (1, 2, SIDE, SIDE), low, high, patch)
    return walk.bounded(index.main, shapes, "x", entry, "y")


def patched(random: np.random.Generator, patch: int) -> tuple[Array, Array]:
    """An image and the same with a patch, most entries at an end of the box."""

    def drawn(*shape: int) -> Array:
        return np.asarray(random.random(shape) if random.random() < 0.5 else random.integers(0, 2, shape), np.float64)

    image = drawn(1, 2, SIDE, SIDE)
    other = image.copy()
    top, left = random.integers(0, SIDE - patch + 1, 2)
    other[:, :, top : top + patch, left : left + patch] = drawn(1, 2, patch, patch)
    return image, other


@settings(max_examples=60, deadline=None)
@example(1, ["swish", "pool"], "global", 1)
@given(st.integers(0, 2**31), st.lists(st.sampled_from(KINDS), max_size=4), st.sampled_from(HEADS), st.integers(1, 4))
def test_no_patch_moves_a_score_beyond_the_bound(seed: int, kinds: list[str], head: str, patch: int) -> None:
    model = network(seed, kinds, head)
    found, run = bounds(model, patch), ReferenceEvaluator(model)
    most, moves = found.spread.most, walk.moves(found)
    random = np.random.default_rng(seed)
    for _ in range(6):
        before, after = (np.asarray(run.run(None, {"x": one}))[0, 0] for one in patched(random, patch))
        room = 1e-9 * (1 + np.abs(before).max())
        assert (np.abs(after - before) <= most + room).all()
        assert np.ptp(after - before) <= moves + room
        assert (found.spread.low - room <= after).all()
        assert (after <= found.spread.high + room).all()


def test_the_bound_of_a_linear_network_is_reached() -> None:
    one = Builder(0)
    weights = np.zeros((2, 2 * SIDE * SIDE))
    weights[0, :3] = [1, 2, 3]
    model = one.model(one.op("Gemm", one.op("Flatten", "x"), one.constant(weights), transB=1))
    assert bounds(model, 1).spread.most == pytest.approx([3, 0])
    assert bounds(model, 2).spread.most == pytest.approx([6, 0])
    assert walk.moves(bounds(model, 1)) == pytest.approx(3)


def test_caps_lower_the_bound_and_a_smaller_patch_does() -> None:
    def made(*, capped: bool) -> ModelProto:
        one = Builder(3)
        value, channels = body(one, "x", 2, "conv")
        value, channels = body(one, value, channels, "conv")
        limit = one.constant(np.full((channels, 1, 1), 0.1))
        value = one.op("Min", value, limit) if capped else one.op("Identity", value)
        weights = np.random.default_rng(0).normal(size=(channels, CLASSES))
        mean = one.op("Flatten", one.op("GlobalAveragePool", value))
        return one.model(one.op("MatMul", mean, one.constant(weights)))

    free, capped = made(capped=False), made(capped=True)
    assert walk.moves(bounds(capped, 3)) < walk.moves(bounds(free, 3)) / 2
    assert walk.moves(bounds(free, 1)) < walk.moves(bounds(free, 3))


@pytest.mark.parametrize(("op_type", "said"), [("Softmax", "Softmax"), ("Exp", "Exp"), ("Cos", "Cos")])
def test_an_operator_without_a_rule_is_named(op_type: str, said: str) -> None:
    one = Builder(0)
    value = one.op(op_type, "x")
    model = one.model(one.op("Gemm", one.op("Flatten", value), one.normal(CLASSES, 2 * SIDE**2), transB=1))
    with pytest.raises(NoBoundError, match=said):
        bounds(model, 2)


def test_what_a_patch_moves_grows_by_kernels_and_shrinks_by_strides() -> None:
    start = Track(28, 1, 0, 4)
    assert start.moved == 5
    assert start.seen(28, 3, 1, 1).moved == 7
    assert start.seen(14, 3, 2, 1).moved == 4
    assert start.seen(14, 3, 2, 1).joined(start.seen(14, 1, 2, 0)).moved == 4
    assert start.joined(Track(28)).moved == 28
    assert Track(3, 1, 0, 4).moved == 3


def test_moves_fit_the_values_and_the_places() -> None:
    one = intervals.settled(np.zeros(1), np.ones(1), np.array([9.0]), np.array([9.0]), 4)
    assert one.most == pytest.approx(1)
    assert one.total == pytest.approx(4)


# --- the report ------------------------------------------------------------------------------------


def _found(moves: float | None, stopped: str = "") -> PatchBound:
    made = Ordinary("photographs", 64, "0..1", "option")
    return PatchBound(5, made, (0.0, 1.0), PatchReach(4100.0, 1.0), PatchReach(moves, 1.0, stopped))


def test_a_bound_says_whether_it_is_vacuous() -> None:
    first = next(patching.rows(report(patch_bound=_found(8.8))))
    assert "at most 8.8 typical margins (before: 4,100 typical margins): a bound, but vacuous" in first
    assert "no typical image turns" in next(patching.rows(report(patch_bound=_found(0.4))))
    assert "no bound: Softmax" in next(patching.rows(report(patch_bound=_found(None, "Softmax"))))
    assert list(patching.rows(report())) == []


@pytest.mark.parametrize(("value", "text"), [(0.411, "0.42"), (8.71, "8.8"), (4010.0, "4,100"), (3.21e8, "3.3e+08")])
def test_a_bound_is_rounded_up(value: float, text: str) -> None:
    assert patching.spelled(value) == text


@pytest.mark.parametrize("options", [{"patch_bound": 0}, {"patch_bound": 5, "validate": False}])
def test_what_cannot_be_bounded_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        onnx_clp.CleanConfig(**options)


@pytest.mark.slow
def test_a_run_bounds_before_and_after() -> None:
    path = Path(__file__).parent.parent / "models" / "resnet18_clean.onnx"
    found = onnx_clp.clean(
        path, onnx_clp.CleanConfig(patch_bound=3, bound_activations=2.5, budget=1)
    ).report.patch_bound
    assert found is not None
    assert found.before is not None
    assert found.after is not None
    assert found.before.margins is not None
    assert found.after.margins is not None
    assert found.after.margins < found.before.margins / 100
