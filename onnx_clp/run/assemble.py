"""From what a run found to the report document."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import ModelProto

from onnx_clp.config import CleanConfig
from onnx_clp.document.assessment import assess
from onnx_clp.document.run import (
    AffineLeft,
    Change,
    EvaluationReport,
    FileFacts,
    Finding,
    LayerReport,
    ModelFacts,
    Report,
    Summary,
    Sweep,
    ValidationReport,
    Verdict,
)
from onnx_clp.modelfile.reader import ModelFile, every_tensor
from onnx_clp.run.analysis import Analysis
from onnx_clp.run.judgements import layer_reports
from onnx_clp.run.patterns import unmatched
from onnx_clp.verdicts import LayerStatus
from onnx_clp.version import __version__

if TYPE_CHECKING:
    from onnx_clp.document.run import Audit, Inversion, PatchBound

_LIBRARIES: Final = ("onnx", "numpy", "scipy", "onnx-graphsurgeon", "onnxruntime-gpu", "onnxruntime")


def assemble(
    analysis: Analysis,
    file: ModelFile,
    config: CleanConfig,
    *,
    input_facts: FileFacts | None,
    output_facts: FileFacts | None,
    validation: ValidationReport,
    evaluation: EvaluationReport | None,
    findings: tuple[Finding, ...],
    seconds: Mapping[str, float],
    sweep: Sweep | None = None,
    change: Change | None = None,
    inversion: Inversion | None = None,
    audit: Audit | None = None,
    patch_bound: PatchBound | None = None,
) -> Report:
    """The document of one run."""
    layers = tuple(layer_reports(analysis, config.prune))
    report = Report(
        tool=f"onnx_clp {__version__}",
        libraries=_versions(),
        options=_options(config),
        input=input_facts,
        output=output_facts,
        model=_model_facts(file.model, analysis),
        summary=_summary(layers, analysis.affines_left, analysis.classes_judged),
        layers=layers,
        affines_left=analysis.affines_left,
        caps=analysis.caps,
        findings=analysis.findings + unmatched(analysis.verdicts, config) + findings,
        validation=validation,
        evaluation=evaluation,
        seconds=dict(seconds),
        peak_memory=_peak_memory(),
        sweep=sweep,
        compaction=analysis.compaction,
        cleanup=analysis.cleanup,
        change=change,
        inversion=inversion,
        gauge=analysis.dose.gauge,
        outlook=analysis.outlook,
        audit=audit,
        patch_bound=patch_bound,
        decisions=analysis.decisions,
    )
    return assess(report)


def _versions() -> dict[str, str]:
    """Installed versions, as the names of their .dist-info folders state them: reading the metadata is slower.

    Source: the packaging guide's "Recording installed projects" (name with "_" for "-", then the version).
    """
    wanted = {name.replace("-", "_"): name for name in _LIBRARIES}
    found: dict[str, str] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder or "."):  # noqa: PTH208 (names are all that is needed)
                stem, _, version = entry.removesuffix(".dist-info").partition("-")
                if entry.endswith(".dist-info") and stem in wanted:
                    found.setdefault(wanted[stem], version)
    return {name: found[name] for name in _LIBRARIES if name in found}


def _options(config: CleanConfig) -> dict[str, Any]:
    plain = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {k: str(v) if isinstance(v, Path) else dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}


def _model_facts(model: ModelProto, analysis: Analysis) -> ModelFacts:
    parameters = sum(int(np.prod(t.dims, dtype=object)) for t in every_tensor(model))
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return ModelFacts(
        producer=producer,
        ir_version=model.ir_version,
        opsets={item.domain: item.version for item in model.opset_import},
        parameters=parameters,
        nodes_before=analysis.nodes_before,
        nodes_after=analysis.nodes_after,
    )


def _summary(layers: tuple[LayerReport, ...], left: tuple[AffineLeft, ...], classes: int) -> Summary:
    judged = [layer for layer in layers if layer.status is LayerStatus.JUDGED]
    pruned = sum(len(layer.pruned) for layer in judged)
    small = sum(layer.channels for layer in layers if layer.status is LayerStatus.TOO_SMALL)
    judged_channels = sum(layer.channels for layer in judged)
    total = sum(layer.channels for layer in layers)
    return Summary(
        verdict=Verdict.COULD_NOT_JUDGE,  # until `assess` has seen the whole report
        layers=len(layers),
        layers_judged=len(judged),
        channels_pruned=pruned,
        channels_judged=judged_channels,
        channels_too_small=small,
        channels_not_judged=total - judged_channels - small,
        affines_folded=len({(layer.place, name) for layer in layers for name in layer.folded}),
        affines_left=len(left),
        channels_kept=sum(len(layer.kept) for layer in judged),
        classes_judged=classes,
    )


def _peak_memory() -> int | None:
    """Peak resident memory of this process in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
