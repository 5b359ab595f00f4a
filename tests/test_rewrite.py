"""What gathers for a layer over several folds, and what is refused so that nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_clp.file.store import TensorStore
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import LayerRewrite, find_layers
from onnx_clp.numerics.affine import ChannelAffine
from onnx_clp.verdicts import SkipReason
from tests.forms.build import initializer, model, rand

CONV = "y = Conv(x, w, b)"
WEIGHTS: dict[str, Any] = {"w": rand(4, 3, 2, 2), "b": rand(4)}


def pending(body: str = CONV, **weights: Any) -> tuple[ModelProto, GraphEdit, LayerRewrite]:
    proto = model(body, **(weights or WEIGHTS))()
    index = ModelIndex(proto, TensorStore())
    (rewrite,) = find_layers(index.main).by_node.values()
    return proto, GraphEdit(index), rewrite


def affine(scale: Any, shift: Any, count: int = 4) -> ChannelAffine:
    wide = (np.broadcast_to(np.asarray(v, np.float64), (count,)) for v in (scale, shift))
    return ChannelAffine(*wide)


def finished(proto: ModelProto, edit: GraphEdit, rewrite: LayerRewrite) -> tuple[Any, Any]:
    """The weight and bias of the first node, once everything is carried out."""
    rewrite.commit(edit)
    edit.finish()
    node = proto.graph.node[0]
    store = edit.store
    weight = store.array(initializer(proto, node.input[1]))
    bias = store.array(initializer(proto, node.input[2])) if len(node.input) > 2 and node.input[2] else None
    return weight, bias


def test_several_folds_round_once() -> None:
    proto, edit, rewrite = pending()
    one, other = affine([2, 3, -0.1, 7], 1.5), affine([1 / 3, -1, 5, 0.7], [0, 1, 2, 3])
    for step in (one, other):
        assert rewrite.refuses(step) is None
        rewrite.absorb(step)
    weight, bias = finished(proto, edit, rewrite)
    both = one.then(other)
    exact = WEIGHTS["w"].astype(np.float64) * both.scale[:, None, None, None]
    np.testing.assert_array_equal(weight, exact.astype(np.float32))
    np.testing.assert_allclose(bias, both.scale * WEIGHTS["b"].astype(np.float64) + both.shift, rtol=1e-6)
    assert weight.dtype == bias.dtype == np.float32


def test_a_fold_on_the_input_and_one_on_the_output() -> None:
    proto, edit, rewrite = pending()
    before, after = affine([2, 3, 4], [1, -1, 0.5], 3), affine([1, 2, 3, 4], 1)
    assert rewrite.refuses_input(before) is None
    rewrite.absorb(after)
    rewrite.absorb_input(before)
    weight, bias = finished(proto, edit, rewrite)
    w = WEIGHTS["w"].astype(np.float64)
    np.testing.assert_allclose(
        weight, w * after.scale[:, None, None, None] * before.scale[None, :, None, None], rtol=1e-6
    )
    carried = (w.sum(axis=(2, 3)) * before.shift).sum(axis=1)
    np.testing.assert_allclose(bias, after.scale * (WEIGHTS["b"] + carried) + 1, rtol=1e-5)


def test_nothing_pending_changes_nothing() -> None:
    proto, edit, rewrite = pending()
    data = proto.SerializeToString()
    rewrite.absorb(affine(1, 0))
    rewrite.commit(edit)
    edit.finish()
    weight = numpy_helper.to_array(initializer(proto, "w"))
    np.testing.assert_array_equal(weight, WEIGHTS["w"])
    assert len(data) == len(proto.SerializeToString())


def test_a_bias_is_added_only_when_one_is_needed() -> None:
    proto, edit, rewrite = pending("y = Conv(x, w)", w=WEIGHTS["w"])
    rewrite.absorb(affine(2, 0))
    _, bias = finished(proto, edit, rewrite)
    assert bias is None
    proto, edit, rewrite = pending("y = Conv(x, w)", w=WEIGHTS["w"])
    rewrite.absorb(affine(2, [0, 1, 0, 0]))
    _, bias = finished(proto, edit, rewrite)
    assert bias.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("fill", [[0.0, 0.0, 0.0, 0.0], [9.0, 0.5, 9.0, -2.0]])
@pytest.mark.parametrize("biased", [True, False])
def test_a_silent_channel_has_no_weight_and_gives_its_fill_exactly(fill: list[float], biased: bool) -> None:
    proto, edit, rewrite = pending() if biased else pending("y = Conv(x, w)", w=WEIGHTS["w"])
    rewrite.absorb(affine(3, 2))
    rewrite.silence(np.array([False, True, False, True]), np.array(fill))
    weight, bias = finished(proto, edit, rewrite)
    assert (weight[[1, 3]] == 0).all()
    assert bias[[1, 3]].tolist() == [fill[1], fill[3]]
    assert not (bias[[0, 2]] == 9.0).any()
    np.testing.assert_allclose(weight[[0, 2]], 3 * WEIGHTS["w"][[0, 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "shift", "reason"),
    [
        (np.inf, 0, SkipReason.NOT_FINITE),
        (1, np.inf, SkipReason.NOT_FINITE),
        (1, 1e39, SkipReason.NOT_FINITE),  # finite in float64, not in the stored float32
        (1e39, 0, SkipReason.NOT_FINITE),
        (1e-45, 0, SkipReason.OUT_OF_RANGE),  # every weight would become 0
    ],
)
def test_a_fold_that_would_leave_the_range_is_refused(scale: float, shift: float, reason: SkipReason) -> None:
    _, _, rewrite = pending()
    refused = rewrite.refuses(affine(scale, shift))
    assert refused is not None
    assert refused.reason is reason


def test_a_bias_that_is_data_takes_no_fold() -> None:
    _, _, rewrite = pending(CONV, x="float[2,3,6,6] x, float[4] b", w=WEIGHTS["w"])
    refused = rewrite.refuses(affine(2, 0))
    assert refused is not None
    assert refused.reason is SkipReason.DYNAMIC_BIAS


def test_padding_refuses_an_offset_and_takes_a_factor() -> None:
    _, _, rewrite = pending("y = Conv<pads=[1,1,1,1]>(x, w, b)", **WEIGHTS)
    assert rewrite.refuses_input(affine(2, 0, 3)) is None
    refused = rewrite.refuses_input(affine(2, [0, 0, 1e-9], 3))
    assert refused is not None
    assert refused.reason is SkipReason.PADDING


def test_a_fused_activation_takes_no_fold() -> None:
    _, _, rewrite = pending(
        'y = com.microsoft.FusedConv<activation="Relu">(x, w, b)',
        imports='"com.microsoft" : 1',
        y="float[2,4,5,5] y",
        **WEIGHTS,
    )
    refused = rewrite.refuses(affine(2, 0))
    assert refused is not None
    assert refused.reason is SkipReason.FUSED_ACTIVATION


def test_the_offset_is_what_all_channels_got_alike() -> None:
    _, _, rewrite = pending()
    rewrite.absorb(affine(1, 3))
    assert rewrite.offset == 3
    rewrite.absorb(affine(0.5, 1))
    assert rewrite.offset == 2.5
    rewrite.absorb(affine([1, 2, 3, 4], 0))
    assert rewrite.offset == 0
