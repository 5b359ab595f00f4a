"""The parts of the document that a validation fills: what was proven, on what, and rates on labelled images.

A module of its own because the child process that proves needs these classes and none of the others, and making a
dataclass costs about half a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What validation ran on: ONNX Runtime's build, the device and its driver as the driver names them.

    `placed` counts the input model's nodes by the provider that took them; it is empty where ONNX Runtime does not
    tell. `overruled` says why the CPU took over from a GPU build under "auto"; it is empty otherwise.
    """

    runtime: str
    device: str
    driver: str
    placed: Mapping[str, int]
    overruled: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares in 0..1: ACC clean accuracy, ASR attack success rate, RA robust accuracy (None: not measurable)."""

    acc: float | None
    asr: float | None
    ra: float | None


@dataclass(frozen=True, slots=True)
class ProviderRun:
    """One model ("input" or "cleaned") on one provider, all graph optimisations on.

    `load_seconds` opens the session, `run_seconds` is the median of warm runs, interleaved with the other rows';
    `error` is max|Δ| / max|reference| against the same model on the CPU. None: not measured.
    """

    model: str
    provider: str
    placed: Mapping[str, int]
    load_seconds: float | None
    run_seconds: float | None
    error: float | None
    rates: Rates | None
    failure: str


@dataclass(frozen=True, slots=True)
class ProviderComparison:
    """Input and cleaned model on CPU and GPU; `note` says why the GPU's rows are missing, else it is empty."""

    runs: tuple[ProviderRun, ...]
    note: str


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What was proven, where. `outcome` is "validated", "validated on a fallback" or "not asked for".

    `cleanup_error` is 0 where cleaning up left every value as it was, None where nothing was cleaned up.
    """

    outcome: str
    provider_asked: str
    provider_used: str
    note: str
    tolerance: float | None
    fold_error: float | None
    discrete_agreement: float | None
    engine: EngineFacts | None = None
    comparison: ProviderComparison | None = None
    compaction_error: float | None = None
    cleanup_error: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The model on the user's labelled images, before and after."""

    data: str
    clean_images: int
    triggered_images: int
    before: Rates
    after: Rates
