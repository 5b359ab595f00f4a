"""What holds for every model of one validation: where it runs, on what, and what may differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
from onnx_clp.validation.session import FailureKind, RunError, Runner, failure, open_runner
from onnx_clp.validation.watching import WatchingRunner

if TYPE_CHECKING:
    from onnx_clp.validation import evaluate

# About 50 ms of one core: there, waking others costs more than it gains.
_ONE_THREAD_MACS: Final = 2_500_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all models of one request; `reference` says that ONNX Runtime lacks a kernel.

    `macs` are the input model's multiply-accumulates on inputs of `shapes`, None where unknown. `watch` names values
    inside the graph that first runs show.
    """

    request: Request
    engine: Engine
    anatomy: Anatomy
    exam: evaluate.Exam | None
    tolerance: float
    shapes: inputs.Shapes
    macs: int | None
    reference: bool = False
    watch: tuple[str, ...] = ()

    def watching(self, path: Path) -> WatchingRunner:
        """Load the model at `path` so that it shows the values to watch. Raises RunError."""
        return WatchingRunner(path, self.watch, self.engine, self.plan(path))

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
    tolerance = tolerance_of(request, anatomy, engine.providers[0])
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


def tolerance_of(request: Request, anatomy: Anatomy, provider: str) -> float:
    """The largest error of a fold that is allowed: as asked for, else as the arithmetic and the provider have it."""
    return compare.tolerance_for(anatomy.precision, provider) if request.tolerance is None else request.tolerance


def _anatomy(request: Request) -> Anatomy:
    try:
        return read_anatomy(request.original)
    except MemoryError:
        raise
    except Exception as error:
        raise NotValidated(f"{quoted(request.original)}: not validated because {failure(error)}") from error
