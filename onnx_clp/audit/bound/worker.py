"""The child's side of a bound on patches: typical margins on ordinary images, and bounds through both models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.bound import walk
from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.audit.bound.passage import entry, followed, hull
from onnx_clp.audit.bound.request import BOUND, BoundRequest, Scored
from onnx_clp.document.patches import PatchBound, PatchReach
from onnx_clp.errors import NotValidated
from onnx_clp.gauge.bench import Images
from onnx_clp.gauge.ordinary import Form, Source, choice_of, form_of, ordinary_inputs
from onnx_clp.gauge.running import capped
from onnx_clp.process.serve import Send
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.session import open_runner

_MOST_IMAGES = 64
_NOT_FINITE = "numbers too large to add up"


def work(request: BoundRequest, cap: int, send: Send) -> PatchBound:
    """Bound the request's models within `cap` bytes of memory.

    Raises:
        NotValidated: a model does not run, or takes no images.
        UsageError: the provider, a shape or the images do not fit.
    """
    del send
    return capped(request, cap, BOUND.instead, lambda engine: _bounded(request, engine))


def _bounded(request: BoundRequest, engine: Engine) -> PatchBound:
    model = read_skeleton(request.before.model)
    runner = open_runner(request.before.model, engine, AS_DEPLOYED)
    form = form_of(anatomy_of(model).inputs, request.limits.shapes, request.limits.seed, runner, {})
    if form.intake is None:
        raise NotValidated("it takes no images, and a patch is put on an image")
    bench = form.bench(runner, (request.before.scores,))
    source = Source(model, request.landmark, request.images, request.pixels, _MOST_IMAGES)
    images, made, _ = ordinary_inputs(source, form, bench, {})
    pixels = hull(choice_of(source, form, bench, {}).pixels)
    patched = entry(form, form.intake, pixels, request.size)
    before, after = (
        None if one is None else _reach(one, form, patched, images, engine) for one in (request.before, request.after)
    )
    return PatchBound(request.size, made, pixels, before, after)


def _reach(scored: Scored, form: Form, patched: Field, images: Images, engine: Engine) -> PatchReach:
    bench = form.bench(open_runner(scored.model, engine, AS_DEPLOYED), (scored.scores,))
    margin = _margin(bench.answers(images, {})[scored.scores])
    assert form.intake is not None
    try:
        moves = walk.moves(followed(scored.model, form, form.intake.name, patched, scored.scores))
    except NoBoundError as error:
        return PatchReach(None, margin, str(error))
    return PatchReach(moves, margin) if np.isfinite(moves) else PatchReach(None, margin, _NOT_FINITE)


def _margin(answers: Sequence[NDArray[Any]]) -> float:
    """By how much the first class leads the second, the median over images; 0 where there are no two classes."""
    flat = [np.sort(one.reshape(-1).astype(np.float64)) for one in answers]
    return float(np.median([one[-1] - one[-2] if one.size > 1 else 0.0 for one in flat]))
