"""A copy of a model on dials: its sites can be driven and watched, image by image, and its joins watched."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto

from onnx_clp.audit import joins
from onnx_clp.audit.questions import Questions
from onnx_clp.audit.request import Join, Watched
from onnx_clp.audit.sites import Read
from onnx_clp.gauge.dials import Panel
from onnx_clp.gauge.request import Landmark
from onnx_clp.graph.model import ModelIndex


def dialled(
    index: ModelIndex, found: Sequence[Read], landmark: Landmark | None, scores: str, asked: Questions
) -> tuple[ModelProto, tuple[Watched, ...], tuple[Join, ...]]:
    """A copy of the model whose values `found` can be driven and watched, and whose joins can be watched.

    `scores` and the landmark are given out as well.
    """
    model = ModelProto()
    model.CopyFrom(index.model)
    panel = Panel(model, index.names())
    sites = tuple(
        Watched(
            panel.add_drive(one.value, one.channels, one.axis_from_end, one.rank, index.main.opset),
            asked.claims.get(one.value),
            one.places,
            one.inner,
        )
        for one in found
    )
    watched = joins.watched(panel, asked.meetings, index.main.opset)
    for value in (*([] if landmark is None else [landmark.value]), scores):
        panel.add_output(value)
    panel.finish()
    return model, sites, watched
