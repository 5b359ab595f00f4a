"""What a child process is asked to validate or to measure, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx_clp.config import GIB, RunLimits
from onnx_clp.document.readings import Readings
from onnx_clp.document.validation import EvaluationReport, Rates, ValidationReport
from onnx_clp.process.errand import Errand
from onnx_clp.verdicts import Finding


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
        limits: where and how far to run; the seed is that of the inputs drawn.
        tolerance: largest allowed max|Δ| / max|reference| of the fold; None takes the table's.
        eval_data: labelled images (.npz) to measure ACC, ASR and RA on.
        output_name: the output that holds the class scores; None takes the first that fits.
        candidates: further pruned variants of the same model, measured like `final` but never judged.
        compare_providers: also run the input and what is written on CPU and GPU, and set them side by side.
        latency: also time the input and the written model on the CPU.
    """

    original: Path
    folded: Path | None
    final: Path | None
    limits: RunLimits = field(default_factory=RunLimits)
    tolerance: float | None = None
    eval_data: Path | None = None
    output_name: str | None = None
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

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu" and not self.compare_providers


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One calibration: run `model` on `data` and measure its `values`.

    Attributes:
        original: the input model, to be named in errors.
        model: the model to run, each of `values` among its outputs.
        data: an .npz file with unlabelled inputs.
        values: values to measure, with their channel axis counted from the last (1).
        limits: as in a `Request`.
    """

    original: Path
    model: Path
    data: Path
    values: Mapping[str, int]
    limits: RunLimits = field(default_factory=RunLimits)

    @property
    def written(self) -> Path:
        """The model that is run."""
        return self.model

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A further variant and its rates on the user's data.

    `failure` says why it could not be measured; it is empty otherwise.
    """

    path: str
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


_INSTEAD: Final = "go without a proof with --no-validate"


def spare(data: Path | None) -> int:
    """Bytes for a run beside its models: 2 GiB, and 4 GiB where it reads data of the user's."""
    return (2 if data is None else 4) * GIB


VALIDATION: Final = Errand(
    home=f"{__name__}:VALIDATION",
    worker="onnx_clp.validation.worker:validate",
    asked=Request,
    answered=Outcome,
    failed="not validated",
    instead=_INSTEAD,
    spare=lambda request: spare(request.eval_data),
)
CALIBRATION: Final = Errand(
    home=f"{__name__}:CALIBRATION",
    worker="onnx_clp.validation.worker:calibrate",
    asked=Calibration,
    answered=Readings,
    failed="not validated",
    instead=_INSTEAD,
    more=True,
)
