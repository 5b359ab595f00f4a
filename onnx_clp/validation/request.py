"""What a child process is asked, what it answers, and both as JSON: the wire between parent and child."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from onnx_clp.document.validation import (
    Drift,
    EngineFacts,
    EvaluationReport,
    ProviderComparison,
    ProviderRun,
    Rates,
    ValidationReport,
)
from onnx_clp.errors import ClpError, NotValidated, UsageError, ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx_clp.config import Provider
    from onnx_clp.document.readings import Readings

_CLASSES = {kind.__name__: kind for kind in (ValidationFailed, NotValidated, UsageError)}

NOT_DONE: Final = "not validated"
INSTEAD: Final = "go without a proof with --no-validate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One validation.

    Attributes:
        original: the input model.
        folded: the model after folding; None when nothing was folded.
        final: the model after pruning; None when nothing was pruned.
        compacted: the model after channels were taken out of the last of these; None when none was. Folding is
            proven for `folded` alone, so a run that only folds passes its result there.
        cleaned: the last of these after cleaning up, whose outputs must be the same; None when nothing was taken
            out. What is written is the last of these models.
        provider: where to run; "auto" takes CUDA when it really works, else the CPU.
        tolerance: largest allowed max|Δ| / max|reference| of the fold; None takes the table's.
        seed: of the inputs drawn.
        shapes: full input shapes by input name; they win over what the model says of open dimensions.
        eval_data: labelled images (.npz) to measure ACC, ASR and RA on.
        output_name: the output that holds the class scores; None takes the first that fits.
        timeout: seconds of wall-clock time for the whole child process.
        memory: cap in bytes on the child's memory; None derives one from `model_bytes`.
        model_bytes: size of the model with its external data; None takes the size of `original` alone.
        candidates: further pruned variants of the same model, measured like `final` but never judged.
        compare_providers: also run the input and what is written on CPU and GPU, and set them side by side.
        latency: also time the input and the written model on the CPU.
    """

    original: Path
    folded: Path | None
    final: Path | None
    provider: Provider = "auto"
    tolerance: float | None = None
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    eval_data: Path | None = None
    output_name: str | None = None
    timeout: float = 600.0
    memory: int | None = None
    model_bytes: int | None = None
    candidates: tuple[Path, ...] = ()
    compare_providers: bool = False
    compacted: Path | None = None
    cleaned: Path | None = None
    latency: bool = False

    @property
    def written(self) -> Path | None:
        """The model that is to be written; None when it is the input itself."""
        return self.cleaned or self.compacted or self.final or self.folded

    @property
    def before_cleaning(self) -> Path:
        """The model that the cleaned one is compared with."""
        return self.compacted or self.final or self.folded or self.original

    def to_json(self) -> str:
        """The request as JSON text with absolute paths; `from_json` gives an equal one back."""
        return json.dumps(_fields(self))

    @staticmethod
    def from_json(text: str) -> Request:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        for name in ("original", "folded", "final", "compacted", "cleaned", "eval_data"):
            raw[name] = None if raw[name] is None else Path(raw[name])
        raw["shapes"] = {name: tuple(shape) for name, shape in raw["shapes"].items()}
        raw["candidates"] = tuple(Path(path) for path in raw["candidates"])
        return Request(**raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One calibration: run `model` on `data` and measure its `values`.

    Attributes:
        original: the input model, to be named in errors.
        model: the model to run, each of `values` among its outputs.
        data: an .npz file with unlabelled inputs.
        values: values to measure, with their channel axis counted from the last (1).
        provider, timeout, memory, model_bytes: as in a `Request`.
    """

    original: Path
    model: Path
    data: Path
    values: Mapping[str, int]
    provider: Provider = "auto"
    timeout: float = 600.0
    memory: int | None = None
    model_bytes: int | None = None

    @property
    def written(self) -> Path:
        """The model that is run."""
        return self.model

    def to_json(self) -> str:
        """The request as JSON text with absolute paths; `from_json` gives an equal one back."""
        return json.dumps({"calibration": _fields(self)})

    @staticmethod
    def from_json(text: str) -> Calibration | None:
        """The inverse of `to_json`; None where the text asks for something else."""
        raw = json.loads(text).get("calibration")
        if raw is None:
            return None
        for name in ("original", "model", "data"):
            raw[name] = Path(raw[name])
        return Calibration(**raw)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A further variant: how far it moved from the folded model, and its rates when there was data.

    `failure` says why it could not be measured; it is empty otherwise.
    """

    path: str
    drift: tuple[Drift, ...]
    rates: Rates | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """What one run of the input and of the written model costs on inputs of `shapes`.

    Multiply-accumulates, None where unknown; median seconds on the CPU over `turns` turns, and the median of their
    ratios turn by turn, None where not measured.
    """

    shapes: Mapping[str, tuple[int, ...]]
    macs_before: int | None
    macs_after: int | None
    seconds_before: float | None
    seconds_after: float | None
    turns: int
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was proven and measured, and what the user should know beside it."""

    validation: ValidationReport
    evaluation: EvaluationReport | None
    findings: tuple[Finding, ...]
    candidates: tuple[Candidate, ...] = ()
    workload: Workload | None = None


class Named(Protocol):
    """A request about a model."""

    @property
    def original(self) -> Path: ...  # noqa: D102


def memory_sentence(request: Named, cap: int, failed: str = NOT_DONE, instead: str = INSTEAD) -> str:
    """The one line for a model that needs more memory than it may have."""
    return (
        f"{quoted(request.original)}: {failed} because it needs more than {cap / (1 << 30):.2g} GiB of "
        f"memory; allow more with --memory, or {instead}"
    )


def outcome_to_json(outcome: Outcome) -> str:
    """The outcome as JSON text; non-finite numbers keep their value (Python's JSON dialect)."""
    return json.dumps({"outcome": dataclasses.asdict(outcome)})


def readings_to_json(readings: Readings) -> str:
    """A calibration's answer as JSON text; non-finite numbers keep their value."""
    return json.dumps({"readings": dataclasses.asdict(readings)})


def error_to_json(error: ClpError) -> str:
    """A documented error as JSON text."""
    return json.dumps({"error": type(error).__name__, "text": str(error)})


def answer_from_json(text: str) -> Outcome:
    """The child's answer: returns its outcome, or raises the error it reports.

    Raises:
        ValueError, KeyError, TypeError: the text is not an answer.
    """
    raw = _answer(text)
    return _outcome(raw["outcome"])


def readings_from_json(text: str) -> Readings:
    """The child's answer to a calibration; errors as `answer_from_json`."""
    from onnx_clp.document.readings import Moments, Readings

    raw = _answer(text)["readings"]
    moments = {name: Moments(tuple(m["mean"]), tuple(m["std"])) for name, m in raw["moments"].items()}
    return Readings(int(raw["inputs"]), moments, tuple(int(count) for count in raw["classes"]))


def _answer(text: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(text)
    if "error" in raw:
        raise _CLASSES[raw["error"]](str(raw["text"]))
    return raw


def _outcome(raw: dict[str, Any]) -> Outcome:
    return Outcome(
        validation=_validation(raw["validation"]),
        evaluation=_evaluation(raw["evaluation"]),
        findings=tuple(Finding(**f) for f in raw["findings"]),
        candidates=tuple(_candidate(c) for c in raw["candidates"]),
        workload=_workload(raw["workload"]),
    )


def _validation(raw: dict[str, Any]) -> ValidationReport:
    engine, table = raw["engine"], raw["comparison"]
    raw = {**raw, "drift": _drifts(raw["drift"]), "engine": None if engine is None else EngineFacts(**engine)}
    raw["comparison"] = None if table is None else ProviderComparison(tuple(map(_run, table["runs"])), table["note"])
    return ValidationReport(**raw)


def _run(raw: dict[str, Any]) -> ProviderRun:
    return ProviderRun(**{**raw, "rates": _rates(raw["rates"])})


def _workload(raw: dict[str, Any] | None) -> Workload | None:
    if raw is None:
        return None
    return Workload(**{**raw, "shapes": {name: tuple(shape) for name, shape in raw["shapes"].items()}})


def _candidate(raw: dict[str, Any]) -> Candidate:
    return Candidate(raw["path"], _drifts(raw["drift"]), _rates(raw["rates"]), raw["failure"])


def _rates(raw: dict[str, Any] | None) -> Rates | None:
    return None if raw is None else Rates(**raw)


def _evaluation(raw: dict[str, Any] | None) -> EvaluationReport | None:
    if raw is None:
        return None
    return EvaluationReport(**{**raw, "before": Rates(**raw["before"]), "after": Rates(**raw["after"])})


def _drifts(raw: list[dict[str, Any]]) -> tuple[Drift, ...]:
    return tuple(Drift(**d) for d in raw)


def _fields(request: Request | Calibration) -> dict[str, object]:
    return {f.name: _plain(getattr(request, f.name)) for f in dataclasses.fields(request)}


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Mapping):
        return {name: _plain(shape) for name, shape in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
