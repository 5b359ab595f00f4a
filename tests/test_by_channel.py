"""Views of channels through operators that mix places but no channels, whatever opset writes their parameters."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from onnx_clp.file.store import TensorStore
from onnx_clp.fold.by_channel import carry_by_channel
from onnx_clp.fold.channel_views import ChannelView, Segment
from onnx_clp.graph.model import ModelIndex
from onnx_clp.verdicts import SkipReason

GIVEN = {
    "space": np.array([2, 3]),
    "channels": np.array([1]),
    "beside": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "more": np.array([0, 1, 0, 0, 0, 0, 0, 0]),
    "larger": np.array([1, 1, 2, 2], np.float32),
    "wider": np.array([1, 2, 1, 1], np.float32),
    "sized": np.array([2, 3, 9, 9]),
    "resized": np.array([2, 5, 9, 9]),
}
AXIS_FROM_END: dict[tuple[str, int], int | None] = {
    ("MaxPool<kernel_shape=[2,2]>(x)", 18): 3,
    ("GlobalLpPool(x)", 18): 3,
    ("ReduceMean(x, space)", 18): 3,
    ("ReduceMean<axes=[2,3], keepdims=0>(x)", 13): 1,
    ("ReduceSumSquare<keepdims=0>(x, space)", 18): 1,
    ("ReduceLogSumExp<axes=[-1]>(x)", 13): 3,
    ("ReduceSum(x, channels)", 18): None,
    ("ReduceSum(x)", 18): None,
    ("ReduceSum(x, computed)", 18): None,
    ("ArgMax<axis=2>(x)", 18): None,
    ("Pad(x, beside)", 18): 3,
    ("Pad<pads=[0,0,1,1,0,0,1,1]>(x)", 10): 3,
    ("Pad(x, more)", 18): None,
    ("Pad(x, beside, , space)", 18): None,
    ("Upsample<scales=[1.0,1.0,2.0,2.0]>(x)", 7): 3,
    ("Upsample(x, larger)", 9): 3,
    ("Resize(x, larger)", 10): 3,
    ("Resize(x, , larger)", 13): 3,
    ("Resize(x, , wider)", 13): None,
    ("Resize(x, , , sized)", 13): 3,
    ("Resize(x, , , resized)", 13): None,
    ("Resize<axes=[2,3]>(x, , , space)", 18): 3,
    ("Resize<axes=[1]>(x, , , channels)", 18): None,
    ("Transpose(x)", 18): None,
}


@pytest.mark.parametrize(("expression", "opset"), AXIS_FROM_END)
def test_a_view_goes_on_where_channels_stay_apart(expression: str, opset: int) -> None:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> '
        f"g (float[2,3,8,8] x, int64[n] computed) => (float y) {{ y = {expression} }}"
    )
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in GIVEN.items())
    scope = ModelIndex(proto, TensorStore()).main
    views = {"x": ChannelView(3, 4, (Segment(None, 0, 3),))}
    wanted = AXIS_FROM_END[expression, opset]
    assert carry_by_channel(scope, scope.nodes[0], views) is (wanted is not None)
    if wanted is not None:
        assert views["y"].axis_from_end == wanted
        assert views["y"].obstacle is not None
        assert views["y"].obstacle.reason is SkipReason.NOT_AFFINE
