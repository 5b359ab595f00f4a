"""Running models on the same inputs: the input model sets the terms, the rewritten ones follow them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_clp.errors import NotValidated, ValidationFailed
from onnx_clp.validation import compare, inputs
from onnx_clp.validation.anatomy import Anatomy
from onnx_clp.validation.session import (
    REFERENCE,
    FailureKind,
    Feeds,
    Outputs,
    RunError,
    Runner,
    Signature,
)
from onnx_clp.validation.terms import Terms, tolerance_of

if TYPE_CHECKING:
    from onnx_clp.validation import evaluate

_DRAWS = 2
_DISCRETE_DRAWS = 8


@dataclass(slots=True)
class Measured:
    """One model, run.

    `draws` are its outputs on `feeds`, in order; `unsteady` names outputs that differ from run to run; `placed`
    counts its nodes by provider, and is empty where ONNX Runtime does not tell. `seen` are the values watched, on the
    first feed; empty where none are, or where it does not run with them given out.
    """

    provider: str
    placed: Mapping[str, int]
    inputs: Signature
    outputs: Signature
    feeds: list[Feeds]
    draws: list[Outputs]
    predictions: evaluate.Predictions | None
    unsteady: frozenset[str] = field(default_factory=frozenset)
    seen: Outputs = field(default_factory=dict)


def measure_original(terms: Terms) -> tuple[Terms, Measured]:
    """Run the input model; where ONNX Runtime lacks a kernel, on the reference evaluator.

    Raises:
        NotValidated: nothing here runs it.
    """
    with terms.about():
        try:
            return terms, _run_original(terms)
        except RunError as lacking:
            if lacking.kind is not FailureKind.KERNEL:
                raise
            tolerance = tolerance_of(terms.request, terms.anatomy, REFERENCE)
            return _on_reference(replace(terms, reference=True, tolerance=tolerance), lacking)


def _on_reference(terms: Terms, lacking: RunError) -> tuple[Terms, Measured]:
    try:
        return terms, _run_original(terms)
    except RunError as refused:
        if refused.kind is FailureKind.MEMORY:
            raise
        raise NotValidated(
            f"not validated because nothing here can run it: ONNX Runtime {terms.engine.version} says "
            f"{lacking}, and {REFERENCE} says {refused}; go without a proof with --no-validate"
        ) from refused


def _run_original(terms: Terms) -> Measured:
    path = terms.request.original
    if terms.watch and not terms.reference:
        # What does not run in this way says why when it runs as it is.
        with suppress(RunError):
            watching = terms.watching(path)
            return replace(_run_first(terms, watching), seen=watching.seen)
    return _run_first(terms, terms.open(path))


def _run_first(terms: Terms, runner: Runner) -> Measured:
    feeds, first = _settle_inputs(terms, runner)
    measured = _measured(runner, terms, feeds, [first])
    if terms.anatomy.random:
        measured.unsteady = _differing(terms, first, runner.run(feeds[0]))
    return measured


def _settle_inputs(terms: Terms, runner: Runner) -> tuple[list[Feeds], Outputs]:
    """Inputs that the model runs on, and its outputs for the first of them."""
    specs, seed, refused = terms.anatomy.inputs, terms.request.limits.seed, None
    for shapes in inputs.trial_shapes(specs, terms.request.limits.shapes):
        for kind in inputs.integer_fillings(specs):
            feed = inputs.draw(specs, shapes, seed, 0, kind)
            try:
                outputs = runner.run(feed)
            except RunError as error:
                if error.kind is FailureKind.KERNEL:
                    raise
                refused = refused or error
                continue
            later = [inputs.draw(specs, shapes, seed, i, kind) for i in range(1, _draw_count(terms.anatomy))]
            return [feed, *later], outputs
    raise refused or NotValidated("not validated because no inputs could be made for it; say shapes with --shape")


def _draw_count(anatomy: Anatomy) -> int:
    if not anatomy.inputs:
        return 1
    return _DRAWS if anatomy.float_outputs else _DISCRETE_DRAWS


def _measured(runner: Runner, terms: Terms, feeds: list[Feeds], done: list[Outputs]) -> Measured:
    draws = done + [runner.run(feed) for feed in feeds[len(done) :]]
    predictions = None
    if terms.exam is not None:
        from onnx_clp.validation import evaluate

        predictions = evaluate.predict(runner, terms.exam)
    return Measured(runner.provider, runner.placed, runner.inputs, runner.outputs, feeds, draws, predictions)


def measure(path: Path, terms: Terms, original: Measured, *, watched: bool = False) -> Measured:
    """Run another model on the input model's feeds; on the first so that it shows values, if `watched`.

    Raises:
        RunError: it cannot be loaded or run.
    """
    done, seen = _watched(path, terms, original) if watched else ([], {})
    return replace(_measured(terms.open(path), terms, original.feeds, done), seen=seen)


def _watched(path: Path, terms: Terms, original: Measured) -> tuple[list[Outputs], Outputs]:
    """The outputs on the first feed and the values watched; nothing where that feed is needed as the file lies."""
    if not original.seen or len(original.feeds) == 1:
        return [], {}
    try:
        runner = terms.watching(path)
        return [runner.run(original.feeds[0])], runner.seen
    except RunError:  # what does not run in this way says why when it runs as it lies
        return [], {}


def measure_rewritten(path: Path, terms: Terms, original: Measured, doing: str, *, watched: bool = False) -> Measured:
    """Run the model at `path`, made by `doing`; so that it shows values, if `watched`.

    Raises:
        ValidationFailed: it does not run, or has other inputs or outputs than the input model.
    """
    with terms.about():
        try:
            measured = measure(path, terms, original, watched=watched)
        except RunError as refused:
            if refused.kind is FailureKind.MEMORY:
                raise
            raise ValidationFailed(
                f"the input runs and the model after {doing} does not: {refused}; please report this"
            ) from refused
        if (measured.inputs, measured.outputs) != (original.inputs, original.outputs):
            raise ValidationFailed(f"{doing} changed the model's inputs or outputs; please report this")
    return measured


def run_nudged(terms: Terms, path: Path, measured: Measured) -> list[Outputs]:
    """The outputs of the model at `path` on its feeds with every float entry moved by one unit of its rounding."""
    generator = np.random.default_rng(terms.request.limits.seed)
    with terms.about():
        runner = terms.open(path)
        return [runner.run(nudged(feed, generator)) for feed in measured.feeds]


def nudged(feed: Feeds, generator: np.random.Generator) -> Feeds:
    """A feed with every float entry moved by one unit of its rounding, up or down by chance."""
    return {
        name: np.nextafter(a, np.where(generator.random(a.shape) < 0.5, np.inf, -np.inf).astype(a.dtype))
        if a.dtype.kind == "f"
        else a
        for name, a in feed.items()
    }


def run_twice(terms: Terms, path: Path, measured: Measured) -> None:
    """Run the model at `path` twice more on its first feed, and note which outputs differ."""
    with terms.about():
        runner = terms.open(path)
        first, second = (runner.run(measured.feeds[0]) for _ in range(2))
    measured.unsteady = _differing(terms, first, second)


def _differing(terms: Terms, first: Outputs, second: Outputs) -> frozenset[str]:
    twice = compare.agreements([first], [second])
    return frozenset(a.output for a in twice if compare.disagrees(a, terms.tolerance) or a.equal not in (None, 1.0))
