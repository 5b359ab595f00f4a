"""The child's side of a bound on patches: typical margins on ordinary images, and bounds through both models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_clp.audit.bound import field, walk
from onnx_clp.audit.bound.field import Field, NoBoundError
from onnx_clp.audit.bound.request import BOUND, BoundRequest, Scored
from onnx_clp.config import GIB
from onnx_clp.document.patches import PatchBound, PatchReach
from onnx_clp.errors import NotValidated
from onnx_clp.gauge.bench import Images
from onnx_clp.gauge.intake import Intake
from onnx_clp.gauge.ordinary import Form, Source, choice_of, form_of, ordinary_inputs
from onnx_clp.gauge.running import capped
from onnx_clp.graph.model import ModelIndex
from onnx_clp.modelfile import reader
from onnx_clp.process.serve import Send
from onnx_clp.validation import macs
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.session import open_runner

_MOST_IMAGES = 64
_LARGEST = 1 << 20
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
    ends = [one.ends for one in choice_of(source, form, bench, {}).pixels]
    pixels = min(low for low, _ in ends), max(high for _, high in ends)
    entry = _entry(form, form.intake, pixels, request.size)
    before, after = (
        None if one is None else _reach(one, form, entry, images, engine) for one in (request.before, request.after)
    )
    return PatchBound(request.size, made, pixels, before, after)


def _entry(form: Form, intake: Intake, pixels: tuple[float, float], size: int) -> Field:
    axes = ("N", "H", "W", "C") if intake.channels_last else ("N", "C", "H", "W")
    return field.image(axes, form.shapes[intake.name], *pixels, size)


def _reach(scored: Scored, form: Form, entry: Field, images: Images, engine: Engine) -> PatchReach:
    bench = form.bench(open_runner(scored.model, engine, AS_DEPLOYED), (scored.scores,))
    margin = _margin(bench.answers(images, {})[scored.scores])
    assert form.intake is not None
    try:
        moves = walked(scored, form, form.intake.name, entry)
    except NoBoundError as error:
        return PatchReach(None, margin, str(error))
    return PatchReach(moves, margin) if np.isfinite(moves) else PatchReach(None, margin, _NOT_FINITE)


def walked(scored: Scored, form: Form, name: str, entry: Field) -> float:
    """The bound itself, from a file's weights.

    Raises:
        NoBoundError: there is none.
    """
    inferred = macs.inferred(scored.model, form.shapes)
    if inferred is None:
        raise NoBoundError("shapes that cannot be inferred")
    shapes = macs.known_shapes(inferred.graph)
    with reader.read(scored.model, _LARGEST * GIB) as file:
        scope = ModelIndex(file.model, file.store).main
        return walk.moves(walk.bounded(scope, shapes, name, entry, scored.scores))


def _margin(answers: Sequence[NDArray[Any]]) -> float:
    """By how much the first class leads the second, the median over images; 0 where there are no two classes."""
    flat = [np.sort(one.reshape(-1).astype(np.float64)) for one in answers]
    return float(np.median([one[-1] - one[-2] if one.size > 1 else 0.0 for one in flat]))
