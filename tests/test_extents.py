"""Sizes that the compaction works out are those of ONNX's own shape inference, however the parameters are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser, shape_inference

from onnx_clp import CleanConfig, clean
from onnx_clp.compaction import extent_rules
from onnx_clp.compaction.extents import Extents
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from tests.compact_models import dead, filled


def model(text: str, opset: int, **weights: Any) -> ModelProto:
    made = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> g (float[2,4,7,9] x) => (float[n,c,h,w] y) {{ {text} }}'
    )
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items())
    return made


def sizes(given: ModelProto) -> tuple[int | None, ...] | None:
    bare = ModelProto()
    bare.CopyFrom(given)
    bare.graph.output[0].type.tensor_type.ClearField("shape")
    scope = ModelIndex(bare, TensorStore()).main
    extents = Extents(scope)
    for node in scope.nodes:
        extent_rules.visit(extents, node)
    return extents.of("y")


def inferred(given: ModelProto) -> tuple[int, ...]:
    made = shape_inference.infer_shapes(given, strict_mode=True, data_prop=True)
    return tuple(d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim)


W = filled("w", (4, 3, 3, 3))
SCALES = np.array([1, 1, 2, 3], np.float32)


@pytest.mark.parametrize(
    ("text", "opset", "weights"),
    [
        ("y = Upsample<scales=[1.0, 1.0, 2.0, 3.0]>(x)", 7, {}),
        ("y = Upsample(x, s)", 9, {"s": SCALES}),
        ("y = Resize(x, s)", 10, {"s": SCALES}),
        ("y = Resize(x, r, s)", 13, {"r": np.zeros(0, np.float32), "s": SCALES}),
        ("y = ConvTranspose(x, w)", 13, {"w": W}),
        ('y = ConvTranspose<auto_pad="NOTSET", pads=[1,1,1,1], strides=[2,2]>(x, w)', 13, {"w": W}),
        ('y = ConvTranspose<auto_pad="VALID", output_padding=[1,0], strides=[2,2]>(x, w)', 13, {"w": W}),
        ('y = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, v)', 13, {"v": filled("v", (5, 4, 3, 3))}),
        ('y = Conv<auto_pad="VALID", strides=[2,3], dilations=[2,1]>(x, v)', 13, {"v": filled("v", (5, 4, 3, 3))}),
        ("y = Conv<pads=[1,0,2,3]>(x, v)", 13, {"v": filled("v", (5, 4, 3, 3))}),
        ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,0,1]>(x)", 13, {}),
        ("y = Pad<pads=[0,0,1,2,0,0,3,4]>(x)", 10, {}),
        ("y = Pad(x, p)", 13, {"p": np.array([0, 0, 1, 2, 0, 0, 3, 4])}),
        ("y = Slice<starts=[1,-8], ends=[6,100], axes=[2,3]>(x)", 9, {}),
        (
            "y = Slice(x, s, e, a, t)",
            13,
            {"s": np.array([1]), "e": np.array([6]), "a": np.array([2]), "t": np.array([2])},
        ),
        ("y, z = Split<axis=1>(x)", 11, {}),
        ("y, z = Split<axis=1>(x, s)", 13, {"s": np.array([1, 3])}),
        ("y = ReduceMean<axes=[2,3]>(x)", 13, {}),
        ("y = Asinh(x)", 13, {}),
        ("y = Hardmax(x)", 13, {}),
        ("y = ReduceLogSumExp(x, a)", 18, {"a": np.array([1])}),
        ("g = GreaterOrEqual(x, a) y = Cast<to=1>(g)", 16, {"a": np.float32(0)}),
        ("y = ReduceSum(x, a)", 13, {"a": np.array([-1])}),
    ],
)
def test_sizes_are_those_of_shape_inference(text: str, opset: int, weights: dict[str, Any]) -> None:
    given = model(text, opset, **weights)
    assert sizes(given) == inferred(given)


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("y = Upsample<scales=[1.0, 1.0, 2.0]>(x)", 7),
        ('y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', 13),
        ("y = ConvTranspose<output_shape=[15, 19], strides=[2,2]>(x, w)", 13),
    ],
)
def test_a_size_that_is_not_worked_out_stays_open(text: str, opset: int) -> None:
    found = sizes(model(text, opset, w=W))
    assert found is None or found[2:] == (None, None)


def removed(text: str, opset: int, **weights: Any) -> int:
    given = model(text, opset, **weights)
    config = CleanConfig(compact=True, compact_multiple=1, prune=False, validate=False)
    found = clean(given, config).report.compaction
    assert found is not None
    return found.removed


def test_an_lp_normalization_works_along_the_last_axis_where_it_names_none() -> None:
    weights = {"w": filled("w", (8, 4, 3, 3)), "v": dead("v", (3, 8, 1, 1), (2, 5), axis=1)}
    chain = "a = Conv(x, w) n = LpNormalization{}(a) y = Conv(n, v)"
    assert removed(chain.format(""), 11, **weights) == removed(chain.format("<axis=-1>"), 11, **weights) == 2
    assert removed(chain.format("<axis=1>"), 11, **weights) == 0


@pytest.mark.parametrize(
    ("between", "gone"),
    [
        ("n = Asinh(a)", 2),
        ("n = Acos(a)", 0),
        ("n = Hardmax<axis=3>(a)", 0),
        ("p = ReduceProd(a, s) n = Mul(a, p)", 2),
        ("t = IsNaN(a) n = Cast<to=1>(t)", 2),
        ("t = Mod<fmod=1>(a, a) n = Cast<to=1>(t)", 0),
    ],
)
def test_a_zero_goes_through_what_keeps_one(between: str, gone: int) -> None:
    weights = {
        "w": dead("w", (8, 4, 3, 3), (2, 5)),
        "v": filled("v", (3, 8, 3, 3)),
        "s": np.array([2, 3]),
    }
    assert removed(f"a = Conv(x, w) {between} y = Conv<pads=[1,1,1,1]>(n, v)", 18, **weights) == gone


@pytest.mark.parametrize(("stated", "gone"), [("output_dtype=3, ", 0), ("", 1)])
def test_a_channel_saturates_at_the_levels_that_a_quantizer_states(stated: str, gone: int) -> None:
    """A channel that is -1 is 0 behind levels of 0 to 255, and not behind -128 to 127."""
    weights = {
        "w": dead("w", (8, 4, 3, 3), (2,)),
        "b": np.where(np.arange(8) == 2, -1, 1).astype(np.float32),
        "v": filled("v", (3, 8, 3, 3)),
        "s": np.float32(0.5),
    }
    text = f"a = Conv(x, w, b) q = QuantizeLinear<{stated}axis=1>(a, s) d = DequantizeLinear(q, s) "
    assert removed(text + "y = Conv<pads=[1,1,1,1]>(d, v)", 21, **weights) == gone
