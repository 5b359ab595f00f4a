"""Folding into quantised layers: only where scales take the factor, and the integers stay what they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_clp.layers.quantized import Quantized
from onnx_clp.numerics.affine import KernelLayout
from tests.forms.build import bn, initializer, positive, rand
from tests.judging import cleaned, exposed, network

BODY = "wq = DequantizeLinear{axis}(q, s, z) c = Conv(x, wq{bias}) n = BatchNormalization(c, g, b1, m, v) y = Relu(n)"


def integers(*shape: int, low: int = -100, high: int = 100, dtype: Any = np.int8) -> Any:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


def norm(sign: bool) -> dict[str, Any]:
    given = bn(12)
    given["b1"] = given.pop("b")
    given["g"] = given["g"] if sign else np.abs(given["g"])
    return given


def dequantised(axis: int | None = 0, *, negative: bool = False, opset: int = 20, **more: Any) -> ModelProto:
    per = axis is not None
    weights = {
        "q": integers(12, 3, 3, 3),
        "s": positive(12) * np.float32(0.01) if per else np.array(0.01, np.float32),
        "z": integers(12, low=-9, high=9) if per else np.array(3, np.int8),
        **norm(negative),
        **more,
    }
    attribute = f"<axis={axis}>" if per else ""
    body = BODY.format(axis=attribute, bias=", b" if "b" in more else "")
    return network(body, opset=opset, **weights)


def same(proto: ModelProto, tolerance: float = 1e-5) -> ModelProto:
    """Fold, and check that the model computes what it did."""
    result = cleaned(proto, prune=False).model
    before, after = exposed(proto, "y")["y"], exposed(result, "y")["y"]
    np.testing.assert_allclose(after, before, atol=tolerance * np.abs(before).max())
    return result


def stored(proto: ModelProto, name: str) -> Any:
    return numpy_helper.to_array(initializer(proto, name))


@pytest.mark.parametrize("bias", [True, False])
def test_a_positive_factor_goes_into_the_scales_alone(bias: bool) -> None:
    proto = dequantised(b=rand(12)) if bias else dequantised()
    result = same(proto)
    assert [n.op_type for n in result.graph.node] == ["DequantizeLinear", "Conv", "Relu"]
    np.testing.assert_array_equal(stored(result, "q"), stored(proto, "q"))
    np.testing.assert_array_equal(stored(result, "z"), stored(proto, "z"))
    given = {name: stored(proto, name).astype(np.float64) for name in ("s", "g", "v")}
    np.testing.assert_allclose(stored(result, "s"), given["s"] * given["g"] / np.sqrt(given["v"] + 1e-5), rtol=1e-6)


def test_a_negative_factor_turns_the_integers_and_scales_stay_positive() -> None:
    proto = dequantised(negative=True)
    result = same(proto)
    assert "BatchNormalization" not in {n.op_type for n in result.graph.node}
    assert (stored(result, "s") > 0).all()
    turned = stored(proto, "g") < 0
    zero = stored(proto, "z").astype(int)[:, None, None, None]
    expected = np.where(turned[:, None, None, None], 2 * zero - stored(proto, "q").astype(int), stored(proto, "q"))
    np.testing.assert_array_equal(stored(result, "q"), expected)


def test_a_sign_that_does_not_fit_the_type_is_left() -> None:
    q = integers(12, 3, 3, 3)
    q[1, 0, 0, 0] = -128  # around a zero-point of 3 it would become 134
    proto = dequantised(negative=True, q=q, z=np.full(12, 3, np.int8))
    result = cleaned(proto, prune=False)
    (left,) = result.report.affines_left
    assert left.reason == "quantized"
    assert "negative" in left.sentence
    assert result.model == proto


def test_one_scale_becomes_one_a_channel_from_opset_13() -> None:
    result = same(dequantised(None))
    source = result.graph.node[0]
    assert [stored(result, name).shape for name in source.input[1:]] == [(12,), (12,)]
    assert (stored(result, source.input[2]) == 3).all()
    (axis,) = source.attribute
    assert (axis.name, axis.i) == ("axis", 0)


def test_before_opset_13_one_scale_stays_one() -> None:
    proto = dequantised(None, opset=12)
    result = cleaned(proto, prune=False)
    assert result.model == proto
    assert "opset 13" in result.report.affines_left[0].sentence


def test_scales_along_the_input_axis_cannot_take_it() -> None:
    proto = dequantised(1, s=positive(3) * np.float32(0.01), z=np.zeros(3, np.int8))
    result = cleaned(proto, prune=False)
    assert result.model == proto
    assert "another axis" in result.report.affines_left[0].sentence


def test_a_shared_dequantised_weight_is_copied() -> None:
    body = (
        "wq = DequantizeLinear<axis=0>(q, s, z) c = Conv(x, wq) n = BatchNormalization(c, g, b1, m, v) "
        "d = Conv(x, wq) y = Add(n, d)"
    )
    proto = network(
        body, q=integers(12, 3, 3, 3), s=positive(12) * np.float32(0.01), z=integers(12, low=-9, high=9), **norm(False)
    )
    result = same(proto)
    assert [n.op_type for n in result.graph.node].count("DequantizeLinear") == 2
    np.testing.assert_array_equal(exposed(result, "d")["d"], exposed(proto, "d")["d"])


def test_a_quantised_bias_follows_its_scale() -> None:
    body = (
        "wq = DequantizeLinear<axis=0>(q, s, z) bq = DequantizeLinear<axis=0>(bi, bs) c = Conv(x, wq, bq) "
        "n = BatchNormalization(c, g, b1, m, v) y = Relu(n)"
    )
    scale = positive(12) * np.float32(0.01)
    proto = network(
        body,
        q=integers(12, 3, 3, 3),
        s=scale,
        z=integers(12, low=-9, high=9),
        bi=integers(12, low=-20000, high=20000, dtype=np.int32),
        bs=scale * np.float32(0.02),
        **norm(False),
    )
    result = same(proto, 1e-3)
    assert stored(result, "bi").dtype == np.int32
    ratio = stored(result, "bs").astype(np.float64) / stored(proto, "bs")
    np.testing.assert_allclose(ratio, stored(result, "s").astype(np.float64) / stored(proto, "s"), rtol=1e-5)


def test_nothing_is_folded_across_a_rounding() -> None:
    body = (
        "wq = DequantizeLinear<axis=0>(q, s, z) c = Conv(x, wq) "
        "o = QuantizeLinear(c, os, oz) p = DequantizeLinear(o, os, oz) "
        "n = BatchNormalization(p, g, b1, m, v) y = Relu(n)"
    )
    proto = network(
        body,
        q=integers(12, 3, 3, 3),
        s=positive(12) * np.float32(0.01),
        z=integers(12, low=-9, high=9),
        os=np.array(0.1, np.float32),
        oz=np.array(0, np.int8),
        **norm(False),
    )
    result = cleaned(proto, prune=False)
    assert result.model == proto
    assert "rounds" in result.report.affines_left[0].sentence


# --- the integers themselves --------------------------------------------------------------------------


def test_real_values_and_blocks() -> None:
    values = np.arange(8, dtype=np.int8).reshape(4, 2)
    whole = Quantized(values, np.array(0.5, np.float32), np.array(1, np.int8), 1, 0)
    np.testing.assert_array_equal(whole.real(), (values - 1.0) * 0.5)
    assert whole.per_tensor
    rows = Quantized(values, np.array([1, 2, 3, 4], np.float32), None, 0, 0)
    np.testing.assert_array_equal(rows.real(), values * np.array([[1], [2], [3], [4]]))
    blocks = Quantized(values, np.array([[1, 2], [3, 4]], np.float32), None, 0, 2)
    np.testing.assert_array_equal(blocks.real(), values * np.array([[1, 2], [1, 2], [3, 4], [3, 4]]))
    assert blocks.blocked


def test_turning_and_silencing() -> None:
    values = np.array([[5, -100], [7, 7]], np.int8)
    parts = Quantized(values, np.array(1, np.float32), np.array(2, np.int8), 1, 0)
    layout = KernelLayout(0, 1)
    first, second = np.array([True, False]), np.array([False, True])
    np.testing.assert_array_equal(parts.changed(first, second, layout), [[-1, 104], [2, 2]])
    assert parts.can_flip(first, layout)
    wide = Quantized(values, np.array(1, np.float32), np.array(20, np.int8), 1, 0)
    assert not wide.can_flip(first, layout)  # 2·20 + 100 is above 127
    assert wide.can_flip(np.array([False, False]), layout)
