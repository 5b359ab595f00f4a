"""The proof itself, run in the child: check, run the models on the same inputs, compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_clp.document.validation import EngineFacts, EvaluationReport, Rates, ValidationReport
from onnx_clp.errors import ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.validation import compare, inner
from onnx_clp.validation.checking import check_written
from onnx_clp.validation.measuring import (
    Measured,
    measure,
    measure_original,
    measure_rewritten,
)
from onnx_clp.validation.placement import note_of, really_ran
from onnx_clp.validation.provider import CPU, Engine
from onnx_clp.validation.request import Candidate, Outcome, Request
from onnx_clp.validation.sameness import Preserved, prove_same
from onnx_clp.validation.second_reader import read_again
from onnx_clp.validation.session import REFERENCE, Array, RunError
from onnx_clp.validation.terms import Terms, settle_terms
from onnx_clp.validation.weighing import weigh
from onnx_clp.verdicts import Finding


def prove(request: Request, engine: Engine, memory: int, rival: Engine | None = None) -> Outcome:
    """Prove `request` on `engine`; evaluation data may unpack to half of `memory` bytes.

    With a `rival` (an engine on a GPU, or one that says why there is none) it is set beside the CPU.

    Raises:
        ValidationFailed, NotValidated, UsageError: as `validate` documents.
        MemoryError: a model does not run in the memory there is.
    """
    findings = list(engine.findings)
    if request.written is not None:
        findings += check_written(request.original, request.written)
    terms, original = measure_original(inner.watching(settle_terms(request, engine, memory)))
    engine_facts = really_ran(terms, original)
    error, discrete, folded = None, None, original
    if request.folded is not None:
        folded = measure_rewritten(request.folded, terms, original, "folding", watched=True)
        error, discrete = prove_same(
            Preserved("folding", "fold", request.original, after=request.folded), terms, original, folded, findings
        )
    final = folded
    if request.final is not None:
        final = measure_rewritten(request.final, terms, original, "pruning")
        _prove_final(terms, folded, final)
    compaction: float | None = None
    if request.compacted is not None:
        final, compaction = _prove_compaction(request.compacted, terms, original, final, findings)
    cleaning = None if request.cleaned is None else _prove_cleaned(request.cleaned, terms, original, final, findings)
    if request.written is not None:
        read_again(request.original, request.written)
    report = _report(terms, original, engine_facts, error, discrete)
    if rival is not None:
        from onnx_clp.validation.comparison import compare_providers

        report = replace(report, comparison=compare_providers(terms, original, rival))
    return Outcome(
        validation=replace(report, compaction_error=compaction, cleanup_error=cleaning),
        evaluation=_evaluation(terms, original, final),
        findings=(*findings, *_doubts(original)),
        candidates=tuple(_candidate(path, terms, original) for path in request.candidates),
        workload=weigh(terms, original),
    )


def _prove_compaction(
    path: Path, terms: Terms, original: Measured, before: Measured, findings: list[Finding]
) -> tuple[Measured, float | None]:
    """The model that lost channels, run, and the largest error against the model that still had them."""
    request = terms.request
    step = Preserved("compaction", "compaction", request.final or request.folded or request.original)
    compacted = measure_rewritten(path, terms, original, step.doing)
    before.unsteady = original.unsteady
    return compacted, prove_same(step, terms, before, compacted, findings)[0]


def _prove_final(terms: Terms, folded: Measured, final: Measured) -> None:
    """Refuse a changed shape or type, and values that are not finite where they were before."""
    steady = [name for name in folded.draws[0] if terms.anatomy.data_dependent or name in final.draws[0]]
    with terms.about():
        if len(steady) < len(folded.draws[0]):
            raise ValidationFailed("pruning lost an output; please report this")
        for before, after in zip(folded.draws, final.draws, strict=True):
            for name in before.keys() & after.keys():
                _compare_form(name, before[name], after[name], terms)


def _prove_cleaned(path: Path, terms: Terms, original: Measured, before: Measured, findings: list[Finding]) -> float:
    """How far cleaning up moved an output: 0 where every value is the same, else what a fold is allowed at most.

    Of an output that holds no floats, the share of entries that differ counts, and at most a tenth may.
    """
    request, terms = terms.request, replace(terms, exam=None)
    step = Preserved(
        "cleaning up", "cleanup", request.before_cleaning, "please report this, and go without --cleanup all"
    )
    cleaned = measure_rewritten(path, terms, original, step.doing)
    before.unsteady |= original.unsteady
    if not _changed(before, cleaned) - before.unsteady:
        return 0.0
    error, _ = prove_same(step, terms, before, cleaned, findings)
    found = [a for a in compare.agreements(before.draws, cleaned.draws) if a.output not in before.unsteady]
    shares = {a.output: 1 - a.equal for a in found if a.equal is not None}
    with terms.about():
        for name, share in shares.items():
            if share > 1 - compare.DISCRETE_FLOOR:
                raise ValidationFailed(f"{step.doing} changed {share:.1%} of output {quoted(name, 60)}; {step.cure}")
    return max((error or 0.0, *shares.values()))


def _changed(before: Measured, after: Measured) -> frozenset[str]:
    pairs = list(zip(before.draws, after.draws, strict=True))
    return frozenset(n for b, a in pairs for n in b if not compare.identical(b[n], a.get(n)))


def _compare_form(name: str, before: Array, after: Array, terms: Terms) -> None:
    changed = compare.change(before, after)
    free = terms.anatomy.data_dependent and before.dtype == after.dtype and before.ndim == after.ndim
    if changed and not free:
        raise ValidationFailed(f"pruning changed output {quoted(name, 60)}: {changed}; please report this")
    worse = compare.turned_non_finite(before, after)
    if worse:
        raise ValidationFailed(
            f"pruning made {worse} values of output {quoted(name, 60)} NaN or infinite that were finite; "
            "prune less with a larger -u, or leave layers out with --exclude"
        )


def _doubts(original: Measured) -> Iterator[Finding]:
    """What weakens the proof: outputs with nothing finite in them, and outputs that chance moves."""
    for name, array in original.draws[0].items():
        values = [o[name] for o in original.draws if name in o]
        if compare.is_float(array.dtype) and array.size and not any(_any_finite(v) for v in values):
            sentence = "every value is NaN or infinite on the inputs drawn, so its agreement says little"
            yield Finding("non-finite output", quoted(name, 60), sentence)
    for name in sorted(original.unsteady):
        sentence = "the input model gives other values each time it runs, so this output is not compared"
        yield Finding("nondeterministic", quoted(name, 60), sentence)


def _any_finite(array: Array) -> bool:
    return bool(np.isfinite(compare.wide(array)).any())


def _report(
    terms: Terms,
    original: Measured,
    ran: EngineFacts,
    error: float | None,
    discrete: float | None,
) -> ValidationReport:
    engine = terms.engine
    kernel_note = f"on {REFERENCE}: ONNX Runtime {engine.version} has no kernel for an operator of this model"
    fell_back = engine.fallback or (engine.on_gpu and bool(ran.overruled))
    return ValidationReport(
        outcome="validated on a fallback" if fell_back else "validated",
        provider_asked=terms.request.limits.provider,
        provider_used=CPU if engine.on_gpu and ran.overruled else original.provider,
        note=kernel_note if terms.reference else note_of(terms, ran),
        tolerance=terms.tolerance if terms.request.folded or terms.request.compacted or terms.request.cleaned else None,
        fold_error=error,
        discrete_agreement=discrete,
        engine=ran,
    )


def _evaluation(terms: Terms, original: Measured, final: Measured) -> EvaluationReport | None:
    if terms.exam is None or original.predictions is None or final.predictions is None:
        return None
    from onnx_clp.validation import evaluate

    data = terms.exam.data
    return EvaluationReport(
        data=str(data.path),
        clean_images=len(data.x_clean),
        triggered_images=len(data.x_triggered),
        before=evaluate.rates(data, original.predictions),
        after=evaluate.rates(data, final.predictions),
    )


def _candidate(path: Path, terms: Terms, original: Measured) -> Candidate:
    try:
        measured = measure(path, terms, original)
    except RunError as refused:
        return Candidate(str(path), None, str(refused))
    rates: Rates | None = None
    if terms.exam is not None and measured.predictions is not None:
        from onnx_clp.validation import evaluate

        rates = evaluate.rates(terms.exam.data, measured.predictions)
    return Candidate(str(path), rates)
