"""A bound on patches as a step of a run: the models before and after staged, and bounded in a child process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx import ModelProto

from onnx_clp.document.patches import PatchBound
from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.process.clock import Clock
from onnx_clp.text import one_line

if TYPE_CHECKING:
    from onnx_clp.config import CleanConfig
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.analysis import Analysis

_NAME = "bounded.onnx"


def bound_patches(
    file: ModelFile, source: Path | None, analysis: Analysis, config: CleanConfig, clock: Clock
) -> PatchBound | None:
    """How far a patch can move the class scores before and after a run; None where that was not asked for."""
    if config.patch_bound is None:
        return None
    try:
        with clock.stage("bound"):
            return _asked(file, source, analysis, config, config.patch_bound, clock)
    except (NotValidated, UsageError) as error:
        return PatchBound(config.patch_bound, note=one_line(str(error)))


def _asked(
    file: ModelFile, source: Path | None, analysis: Analysis, config: CleanConfig, size: int, clock: Clock
) -> PatchBound:
    from onnx_clp.audit.bound.request import BoundRequest, Scored, bound
    from onnx_clp.modelfile.staging import scratch, staging

    landmark = analysis.landmark
    with scratch() as folder, staging(folder / _NAME) as stage:

        def scored(model: ModelProto, *more: str) -> Scored:
            shown, scores = _shown(model, file, config.output_name, more)
            return Scored(stage(file, shown, config.external_data).checkable(), scores)

        before = scored(analysis.folded or file.model, *([] if landmark is None else [landmark.value]))
        return bound(
            BoundRequest(
                original=source or before.model,
                before=before,
                after=None if analysis.written is None else scored(analysis.written),
                size=size,
                landmark=landmark,
                images=config.images,
                pixels=config.pixel_range,
                limits=config.limits(file.size),
            ),
            clock.tick,
        )


def _shown(model: ModelProto, file: ModelFile, output: str | None, more: tuple[str, ...]) -> tuple[ModelProto, str]:
    """A copy that gives out its class scores and `more` values, and what the scores are called."""
    from onnx_clp.audit.sites import scores_of
    from onnx_clp.gauge.dials import Panel
    from onnx_clp.graph.model import ModelIndex
    from onnx_clp.run.folding import snapshot

    copy = snapshot(model)
    index = ModelIndex(copy, file.store)
    scores = scores_of(index.main, output or index.main.outputs[0])
    panel = Panel(copy, index.names())
    for value in (*more, scores):
        panel.add_output(value)
    panel.finish()
    return copy, scores
