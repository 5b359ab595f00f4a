"""Running models on the same inputs: the input model sets the terms, the rewritten ones follow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from onnx_clp.config import GIB
from onnx_clp.errors import NotValidated, UsageError, ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.validation import compare, footprint, inputs, macs
from onnx_clp.validation.anatomy import Anatomy, read_anatomy
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.refusal import leaves_open, refusal
from onnx_clp.validation.request import Request
from onnx_clp.validation.session import (
    REFERENCE,
    FailureKind,
    Feeds,
    Outputs,
    RunError,
    Runner,
    Signature,
    failure,
    open_runner,
)

if TYPE_CHECKING:
    from onnx_clp.validation import evaluate

_DRAWS = 2
_DISCRETE_DRAWS = 8
# About 50 ms of one core: there, waking others costs more than it gains.
_ONE_THREAD_MACS = 2_500_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all models of one request; `reference` says that ONNX Runtime lacks a kernel.

    `macs` are the input model's multiply-accumulates on inputs of `shapes`, None where unknown.
    """

    request: Request
    engine: Engine
    anatomy: Anatomy
    exam: evaluate.Exam | None
    tolerance: float
    shapes: inputs.Shapes
    macs: int | None
    reference: bool = False

    def open(self, path: Path) -> Runner:
        """Load the model at `path` where these terms say.

        What will be written is read whole, as its users read it, and so is the model that a cleaned one is compared
        with; the weights of the others stay in their files, on the CPU.
        """
        return open_runner(path, self.engine, self.plan(path), reference=self.reference)

    def plan(self, path: Path) -> Plan:
        """How the session of the model at `path` is set up."""
        request = self.request
        whole = {request.written, request.before_cleaning if request.cleaned else None}
        return Plan(
            many_runs=self.exam is not None,
            mapped=not self.engine.on_gpu and path not in whole,
            one_thread=self.macs is not None and self.macs <= _ONE_THREAD_MACS,
        )

    @contextmanager
    def about(self) -> Iterator[None]:
        """Put the input's name before an error's sentence, and give a runtime's refusal its meaning.

        A failure for lack of memory leaves as MemoryError.
        """
        shown = quoted(self.request.original)
        try:
            yield
        except RunError as refused:
            if refused.kind is FailureKind.MEMORY:
                raise MemoryError(str(refused)) from refused
            guessed = leaves_open(self.anatomy.inputs, self.request.limits.shapes)
            raise NotValidated(f"{shown}: {refusal(refused, self.engine.version, sizes_open=guessed)}") from refused
        except (NotValidated, ValidationFailed) as error:
            raise type(error)(f"{shown}: {error}") from error


@dataclass(slots=True)
class Measured:
    """One model, run.

    `draws` are its outputs on `feeds`, in order; `unsteady` names outputs that differ from run to run; `placed`
    counts its nodes by provider, and is empty where ONNX Runtime does not tell.
    """

    provider: str
    placed: Mapping[str, int]
    inputs: Signature
    outputs: Signature
    feeds: list[Feeds]
    draws: list[Outputs]
    predictions: evaluate.Predictions | None
    unsteady: frozenset[str] = field(default_factory=frozenset)


def settle_terms(request: Request, engine: Engine, memory: int) -> Terms:
    """Read the input model and the evaluation file, which may unpack to half of `memory` bytes.

    Raises:
        UsageError: --output names no output, or the evaluation file does not fit the model.
        NotValidated: the model cannot be read.
    """
    anatomy = _anatomy(request)
    if request.output_name is not None and request.output_name not in anatomy.outputs:
        names = ", ".join(quoted(n, 60) for n in anatomy.outputs)
        raise UsageError(f"--output {quoted(request.output_name, 60)}: the model has no such output, only {names}")
    exam = None
    if request.eval_data is not None:
        from onnx_clp.validation import evaldata, evaluate

        data = evaldata.load(request.eval_data, memory // 2)
        exam = evaluate.prepare(data, anatomy, request.output_name)
    tolerance = _tolerance(request, anatomy, engine.providers[0])
    shapes = next(inputs.trial_shapes(anatomy.inputs, request.limits.shapes), {})
    model = macs.inferred(request.original, shapes)
    if model is not None and not engine.on_gpu:
        _require_room(request, model, memory)
    return Terms(request, engine, anatomy, exam, tolerance, shapes, None if model is None else macs.total(model))


def _require_room(request: Request, model: ModelProto, memory: int) -> None:
    """Refuse what one node's values alone make larger than the memory there is, before any of it is taken."""
    most = footprint.largest(model)
    if most is not None and most.nbytes > memory:
        raise NotValidated(
            f"{quoted(request.original)}: not validated because making value {quoted(most.value, 60)} alone, of shape "
            f"{inputs.shown(most.shape)}, takes {most.nbytes / GIB:.2g} GiB of memory, above the cap of "
            f"{memory / GIB:.2g} GiB; allow more with --memory, or go without a proof with --no-validate"
        )


def _tolerance(request: Request, anatomy: Anatomy, provider: str) -> float:
    return compare.tolerance_for(anatomy.precision, provider) if request.tolerance is None else request.tolerance


def _anatomy(request: Request) -> Anatomy:
    try:
        return read_anatomy(request.original)
    except MemoryError:
        raise
    except Exception as error:
        raise NotValidated(f"{quoted(request.original)}: not validated because {failure(error)}") from error


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
            tolerance = _tolerance(terms.request, terms.anatomy, REFERENCE)
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
    runner = terms.open(terms.request.original)
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


def measure(path: Path, terms: Terms, original: Measured) -> Measured:
    """Run another model on the input model's feeds. Raises RunError."""
    return _measured(terms.open(path), terms, original.feeds, [])


def measure_rewritten(path: Path, terms: Terms, original: Measured, doing: str) -> Measured:
    """Run the model at `path`, made by `doing`.

    Raises:
        ValidationFailed: it does not run, or has other inputs or outputs than the input model.
    """
    with terms.about():
        try:
            measured = measure(path, terms, original)
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
