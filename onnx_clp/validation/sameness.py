"""Whether a step that must not move the outputs moved them: folding, compaction, cleaning up.

Rounding may: how much the model itself shows, moved by one unit of its rounding, and by the values inside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from onnx_clp.errors import NotValidated, ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.validation import compare, inner
from onnx_clp.validation.measuring import Measured, run_nudged, run_twice
from onnx_clp.validation.terms import Terms
from onnx_clp.verdicts import Finding

_ROUNDINGS = 3.0
_MOST_NOISE = 0.3


@dataclass(frozen=True, slots=True)
class Preserved:
    """One change that must not move the outputs: what did it, its noun, the model before it, and what helps.

    `after` is the model behind it where its inner values can be compared.
    """

    doing: str
    noun: str
    before: Path
    cure: str = "--tolerance allows more"
    after: Path | None = None


def prove_same(
    step: Preserved, terms: Terms, original: Measured, changed: Measured, findings: list[Finding]
) -> tuple[float | None, float | None]:
    """(largest float error, smallest discrete share) of a step over the outputs that can be judged."""
    found = compare.agreements(original.draws, changed.draws)
    free = terms.anatomy.data_dependent
    wrong = [a for a in found if compare.disagrees(a, terms.tolerance, free)]
    if wrong and not terms.anatomy.random:
        run_twice(terms, step.before, original)
    judged = [a for a in found if a.output not in original.unsteady]
    with terms.about():
        if not judged and wrong:
            raise NotValidated(
                "not validated because the input model itself gives other values each time it runs, so "
                f"a {step.noun} cannot be separated from chance; go without a proof with --no-validate"
            )
        wrong = _beyond_rounding(step, terms, original, [a for a in judged if a in wrong], findings)
        for agreement in wrong:
            raise ValidationFailed(_mismatch(step, agreement, terms))
        _require_right_channels(step, terms, original, changed)
        return _summed(step, judged or found)


def _require_right_channels(step: Preserved, terms: Terms, original: Measured, changed: Measured) -> None:
    """Refuse a step that made a channel wrong inside the graph, where the outputs do not show it."""
    if step.after is None or terms.request.tolerance is not None or terms.anatomy.random:
        return
    found = inner.spoiled(step.before, step.after, terms, original, changed)
    if found is not None:
        raise ValidationFailed(
            f"{step.doing} changed a channel of value {quoted(found.value, 60)} by {found.error:.2g} of what it was, "
            f"and rounding explains {found.allowed:.2g} at most; please report this"
        )


def _beyond_rounding(
    step: Preserved, terms: Terms, original: Measured, wrong: list[compare.Agreement], findings: list[Finding]
) -> list[compare.Agreement]:
    """Those of `wrong` that the answer to rounding of the model before the step does not explain.

    A network whose output all but vanishes on noise (a detector's Sigmoid) magnifies rounding: moving every
    input entry by one unit in its last place then moves the output as much as a sound fold does.
    """
    if terms.request.tolerance is not None:  # the user's own limit is meant as it stands
        return wrong
    if not any(not a.changed and a.error is not None and math.isfinite(a.error) for a in wrong):
        return wrong
    noise = {a.output: a.error for a in compare.agreements(original.draws, run_nudged(terms, step.before, original))}
    beyond = []
    for agreement in wrong:
        floor = noise.get(agreement.output) or 0.0
        if agreement.changed or agreement.error is None or not agreement.error <= _ROUNDINGS * floor <= _MOST_NOISE:
            beyond.append(agreement)
            continue
        sentence = (
            f"the {step.noun}'s error of {agreement.error:.2g} is above the tolerance, and within what rounding its "
            f"inputs alone does to this model ({floor:.2g}): its outputs on made-up inputs are all but zero"
        )
        findings.append(Finding("rounding", quoted(agreement.output, 60), sentence))
    return (
        beyond
        if not step.after or any(a.changed for a in beyond)
        else _unexplained(step, terms, original, beyond, findings)
    )


def _unexplained(
    step: Preserved, terms: Terms, original: Measured, beyond: list[compare.Agreement], findings: list[Finding]
) -> list[compare.Agreement]:
    """Those of `beyond` that stay wrong once the values are compared where the step changed the graph."""
    if not beyond or step.after is None or terms.reference:
        return beyond
    found = inner.differences(step.before, step.after, terms, original.feeds)
    if not found or not all(one.sound for one in found):
        return beyond
    worst = max(one.error for one in found)
    for agreement in beyond:
        sentence = (
            f"the {step.noun}'s error of {agreement.error:.2g} is above the tolerance, but every value that folding "
            f"changed agrees by channel ({worst:.2g} at most): the rest of the network magnifies their rounding"
        )
        findings.append(Finding("rounding", quoted(agreement.output, 60), sentence))
    return []


def _summed(step: Preserved, judged: list[compare.Agreement]) -> tuple[float | None, float | None]:
    errors = [a.error for a in judged if a.error is not None]
    shares = [a.equal for a in judged if a.equal is not None]
    if not errors and shares and min(shares) < compare.DISCRETE_FLOOR:
        raise ValidationFailed(
            f"{step.doing} changed the outputs: only {min(shares):.1%} of the entries are equal, "
            f"{compare.DISCRETE_FLOOR:.0%} are needed"
        )
    return max(errors, default=None), min(shares, default=None)


def _mismatch(step: Preserved, agreement: compare.Agreement, terms: Terms) -> str:
    name = quoted(agreement.output, 60)
    if agreement.changed or agreement.error is None:
        return f"{step.doing} changed output {name}: {agreement.changed}; please report this"
    size = "infinite" if math.isinf(agreement.error) else f"{agreement.error:.3g}"
    return (
        f"{step.doing} changed output {name}: max|Δ|/max|reference| is {size}, at most {terms.tolerance:g} is "
        f"allowed for {terms.anatomy.precision}; {step.cure}"
    )
